"""Settings of a process that transcribes."""

from __future__ import annotations

import gc

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
