"""vllm-ascend without an NPU: its own platform, worker, model runner and attention on a CPU, under our recognizer.

`make ascend-rig` installs what that takes and runs these tests:

* `install` makes the environment; `on_cpu` lists the lines that are changed in vLLM and vllm-ascend,
* `simulator` stands in for torch-npu and CANN: an NPU's names, and the operators of this model on the CPU.

Python is not at fault where these pass. What remains for an NPU are its kernels, graphs, memory and speed.
"""
