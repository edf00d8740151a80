"""The doctor on Ascend machines: drivers, CANN, vllm-ascend, chips in use."""

from __future__ import annotations

import pytest

from streaming_asr.doctor.accelerators import DRIVER_INFO, START_CONTAINER, Npu, parse_npus
from streaming_asr.doctor.machine import Ran
from tests.support.fake_machine import ASCEND, CANN, LOCAL, FakeMachine, ascend_machine, need, start, use
from tests.support.npu_smi import A2_TABLE, A3_TABLE, DUO_TABLE


def test_ascend_machine_starts_qwen_by_name() -> None:
    machine = ascend_machine()
    assert use(machine, "Ascend").standing == "ready"
    assert start(machine) == "streaming-asr serve Qwen/Qwen3-ASR-1.7B"
    assert need(machine, "Ascend", "Ascend NPU").detail == "2 x 910B3 (64 GiB); chip 1 is Alarm"


def test_npu_tables_of_both_generations_are_read() -> None:
    assert parse_npus(A2_TABLE) == [Npu("910B3", "OK", 65536, 3379, 0), Npu("910B3", "Alarm", 65536, 56152, 0)]
    assert parse_npus(A3_TABLE) == [Npu("Ascend910", "OK", 65536, 3419, 0), Npu("Ascend910", "OK", 65536, 2874, 0)]
    assert parse_npus(DUO_TABLE) == [Npu("310P3", "OK", 21534, 1782, 7), Npu("310P3", "OK", 21534, 1100, None)]
    assert [npu.family for npu in parse_npus(A3_TABLE)] == ["A3", "A3"]
    assert parse_npus(A3_TABLE.replace("0000:9D:00.0", "NA          ")) == parse_npus(A3_TABLE)
    assert parse_npus("dcmi model initialized failed, because the device is used. ret is -8020") == []


def test_npu_held_by_another_container_is_broken_not_absent() -> None:
    machine = ascend_machine()
    machine.commands["npu-smi"] = Ran(255, "dcmi model initialized failed, because the device is used. ret is -8020\n")
    npu = need(machine, "Ascend", "Ascend NPU")
    assert npu.state == "broken"
    assert "-8020" in npu.detail
    assert start(machine) == "streaming-asr serve"


def test_npu_whose_tool_hangs_is_broken() -> None:
    machine = ascend_machine()
    machine.commands["npu-smi"] = Ran(1, "", timed_out=True)
    assert "no answer within 20 s" in need(machine, "Ascend", "Ascend NPU").detail


def test_npu_device_without_its_tool_is_broken() -> None:
    machine = ascend_machine()
    del machine.commands["npu-smi"]
    assert need(machine, "Ascend", "Ascend NPU").state == "broken"


def test_cann_outside_the_environment_is_fixed_by_sourcing_it() -> None:
    machine = ascend_machine(environment={})
    cann = need(machine, "Ascend", "CANN")
    assert (cann.state, cann.fix) == ("broken", f"source {CANN}/set_env.sh")
    assert need(machine, "Ascend", "NNAL").state == "missing"


def test_cann_of_another_version_is_broken() -> None:
    machine = ascend_machine()
    machine.files[f"{CANN}/aarch64-linux/ascend_toolkit_install.info"] = "version=8.5.0\n"
    cann = need(machine, "Ascend", "CANN")
    assert cann.state == "broken"
    assert "8.5.0" in cann.detail
    assert "9.1.0" in cann.detail


def test_cann_home_that_is_gone_is_broken() -> None:
    machine = ascend_machine(environment={"ASCEND_HOME_PATH": "/opt/gone"})
    assert need(machine, "Ascend", "CANN").state == "broken"


@pytest.mark.parametrize(
    ("distribution", "version"),
    [("vllm", "0.32.0"), ("torch", "2.13.0"), ("torch-npu", "2.9.0"), ("vllm-ascend", "0.18.0")],
)
def test_ascend_stack_of_other_versions_is_broken(distribution: str, version: str) -> None:
    machine = ascend_machine(installed=LOCAL | ASCEND | {distribution: version})
    check = need(machine, "Ascend", distribution)
    assert check.state == "broken"
    assert version in check.detail
    assert check.fix is not None


def test_vllm_ascend_built_for_other_chips_is_broken() -> None:
    machine = ascend_machine()
    machine.commands["npu-smi"] = Ran(0, A3_TABLE)
    assert "built for A2; the chips here are A3" in need(machine, "Ascend", "vllm-ascend").detail


def test_ascend_machine_without_vllm_ascend_is_sent_to_the_container() -> None:
    machine = ascend_machine(installed=LOCAL)
    assert use(machine, "Ascend").fixes == (START_CONTAINER,)
    assert "quay.io/ascend/vllm-ascend:v0.23.0" in need(machine, "Ascend", "vllm-ascend").detail


def test_a_system_too_old_for_the_wheels_says_so() -> None:
    machine = ascend_machine(installed=LOCAL)
    machine.libc = (2, 31)
    assert "need glibc 2.34; here is 2.31" in need(machine, "Ascend", "vllm-ascend").detail


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        ("libascend_hal.so: cannot open shared object file: No such file or directory", START_CONTAINER),
        ("libhccl.so: cannot open shared object file: No such file or directory", f"source {CANN}/set_env.sh"),
        ("no answer within 60 s", "python -c 'import torch, torch_npu'"),
    ],
)
def test_torch_npu_that_does_not_import_is_broken_and_says_what_is_missing(error: str, fix: str) -> None:
    machine = ascend_machine()
    machine.broken_imports["torch_npu"] = error
    check = need(machine, "Ascend", "torch-npu")
    assert check.state == "broken"
    assert error in check.detail
    assert (check.fix or "").splitlines()[0] == fix
    assert start(machine) == "streaming-asr serve", "the embedded recognizer still runs"


def test_triton_ascend_is_needed_on_an_a2_and_plain_triton_beside_it_spoils_it() -> None:
    without = {name: version for name, version in ASCEND.items() if name != "triton-ascend"}
    check = need(ascend_machine(installed=LOCAL | without), "Ascend", "triton-ascend")
    assert check.state == "missing"
    steps = ["pip uninstall -y triton triton-ascend", "pip install triton-ascend==3.2.2"]
    assert (check.fix or "").splitlines() == steps
    both = need(ascend_machine(installed=LOCAL | ASCEND | {"triton": "3.6.0"}), "Ascend", "triton-ascend")
    assert both.state == "broken"
    assert "triton 3.6.0 is installed besides" in both.detail
    assert (both.fix or "").splitlines() == steps


def duo_machine(installed: dict[str, str]) -> FakeMachine:
    """A container of the vllm-ascend image on an Atlas 300I DUO."""
    machine = ascend_machine(installed=installed)
    machine.files["vllm_ascend/_build_info.py"] = "__device_type__ = '_310P'\n"
    machine.commands["npu-smi"] = Ran(0, DUO_TABLE)
    return machine


def test_a_300i_duo_runs_without_triton() -> None:
    without = {name: version for name, version in ASCEND.items() if name != "triton-ascend"}
    machine = duo_machine(LOCAL | without)
    assert need(machine, "Ascend", "triton-ascend").ok
    assert start(machine) == "streaming-asr serve Qwen/Qwen3-ASR-1.7B"
    spoiled = need(duo_machine(LOCAL | ASCEND), "Ascend", "triton-ascend")
    assert (spoiled.state, spoiled.fix) == ("broken", "pip uninstall -y triton triton-ascend")


def test_a_300i_duo_wants_more_shared_memory_than_others() -> None:
    for machine, ok in ((ascend_machine(), True), (duo_machine(LOCAL | ASCEND), False)):
        machine.shared_gib = 1.0
        shared = next(check for check in use(machine, "Ascend").helps if check.name == "/dev/shm")
        assert shared.ok is ok
    machine = ascend_machine()
    machine.shared_gib = 0.0625
    assert not next(check for check in use(machine, "Ascend").helps if check.name == "/dev/shm").ok


def test_a_busy_chip_is_left_for_a_free_one() -> None:
    machine = ascend_machine()
    assert need(machine, "Ascend", "device memory").detail == "95% of chip 0 is free"
    machine.environment["ASCEND_RT_VISIBLE_DEVICES"] = "1"
    alone = need(machine, "Ascend", "device memory")
    assert (alone.state, alone.fix) == ("broken", "npu-smi info")
    machine.environment["ASCEND_RT_VISIBLE_DEVICES"] = "1,0"
    assert need(machine, "Ascend", "device memory").fix == "export ASCEND_RT_VISIBLE_DEVICES=0"


def test_a_chip_that_is_half_free_can_be_shared() -> None:
    machine = ascend_machine()
    machine.commands["npu-smi"] = Ran(0, A2_TABLE.replace("3379 / 65536", "30000/ 65536"))
    shared = need(machine, "Ascend", "device memory")
    assert shared.fix == "streaming-asr serve Qwen/Qwen3-ASR-1.7B --gpu-memory-utilization 0.54"


def test_a_driver_older_than_those_known_to_work_is_reported_and_stops_nothing() -> None:
    machine = ascend_machine()
    driver = next(check for check in use(machine, "Ascend").helps if check.name == "NPU driver")
    assert (driver.state, driver.detail) == ("ok", "26.0.rc1")
    machine.files[DRIVER_INFO] = "Version=25.5.0\n"
    driver = next(check for check in use(machine, "Ascend").helps if check.name == "NPU driver")
    assert driver.state == "broken"
    assert "26.0.RC1" in driver.detail
    assert use(machine, "Ascend").standing == "ready"


@pytest.mark.parametrize("file", ["ascend_all_cann_install.info", "ascend_ops_install.info"])
def test_cann_9_states_its_version_in_files_of_new_names(file: str) -> None:
    machine = ascend_machine()
    del machine.files[f"{CANN}/aarch64-linux/ascend_toolkit_install.info"]
    machine.files[f"{CANN}/aarch64-linux/{file}"] = "version=9.1.0\n"
    assert need(machine, "Ascend", "CANN").detail == f"9.1.0 in {CANN}"


@pytest.mark.parametrize(
    ("given", "missing"),
    [("ascend", "streaming_asr"), ("streaming_asr", "ascend"), ("lora", "ascend and streaming_asr")],
)
def test_plugins_that_are_switched_off_are_named(given: str, missing: str) -> None:
    machine = ascend_machine()
    machine.environment["VLLM_PLUGINS"] = given
    check = need(machine, "Ascend", "VLLM_PLUGINS")
    assert check.detail.endswith(f"the plug-in {missing}")
    assert check.fix == "unset VLLM_PLUGINS"
    machine.environment["VLLM_PLUGINS"] = "ascend,streaming_asr"
    assert use(machine, "Ascend").standing == "ready"


def test_a_newer_vllm_ascend_is_not_broken_but_needs_the_vllm_of_its_number() -> None:
    newer = ASCEND | {"vllm-ascend": "0.30.0", "vllm": "0.30.0", "transformers": "5.14.1"}
    machine = ascend_machine(installed=LOCAL | newer)
    assert use(machine, "Ascend").standing == "ready"
    assert need(machine, "Ascend", "vllm-ascend").detail == "0.30.0, which was not tested; 0.23 was"
    mixed = ascend_machine(installed=LOCAL | newer | {"vllm": "0.32.0"})
    assert need(mixed, "Ascend", "vllm").state == "broken"
