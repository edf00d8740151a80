"""Settings of a process that transcribes."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest
import threadpoolctl

from streaming_asr.engine.process import GC_THRESHOLD, limit_blas_threads, tune_garbage_collection


def test_matrix_products_run_on_one_thread() -> None:
    limit_blas_threads()
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    assert pools
    assert {pool["num_threads"] for pool in pools} == {1}


def test_garbage_is_looked_for_rarely() -> None:
    before = gc.get_threshold()
    try:
        tune_garbage_collection()
        assert gc.get_threshold()[0] == GC_THRESHOLD
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
@pytest.mark.parametrize(("hard", "allowed"), [(2_000, 1_500), (1_000, 1_000)])
def test_a_server_may_open_as_many_files_as_the_system_lets_it(hard: int, allowed: int) -> None:
    script = (
        "import resource; from streaming_asr.engine.process import allow_descriptors;"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (200, {hard}));"
        "print(allow_descriptors(1_500), allow_descriptors(100), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.split() == [str(allowed), "100", str(allowed), str(hard)]
