"""What runs inside each of vLLM's processes: vLLM calls `install` there, by its ``vllm.general_plugins`` entry point.

Nothing happens unless this package's recognizer started the engine, so it does not affect other users of the same vLLM.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

MARK = "STREAMING_ASR_ENGINE"
"""Environment variable that the recognizer sets for its engine's processes."""
GRACE_S = 5.0
"""Time that a process without a parent has to end by itself."""


def install() -> None:
    """Add what this vLLM lacks, and end this process with its parent. May be called more than once."""
    if MARK not in os.environ:
        return
    from streaming_asr.recognizers.vllm.compat import patch

    patch()
    if multiprocessing.parent_process() is None:
        return
    # Ctrl-C reaches the whole process group. The server ends its engine itself, after the last final.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not any(thread.name == _WATCH for thread in threading.enumerate()):
        threading.Thread(target=_end_with_parent, name=_WATCH, daemon=True).start()


_WATCH = "streaming-asr parent watch"


def _end_with_parent() -> None:
    """End this process once its parent has ended, however that happened: it would keep the device otherwise."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)
