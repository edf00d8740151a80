"""What comes before an engine is started: the environment of its processes, the checkpoint's configuration, and a
function that builds it. Declaring it needs no vLLM.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from streaming_asr.core.recognizer import RecognizerUnavailable
from streaming_asr.recognizers.vllm import plugin

if TYPE_CHECKING:
    from streaming_asr.recognizers.vllm.stats import EngineStats

logger = logging.getLogger(__name__)

_OTHER_SOURCES = (
    "Without a way to the Hugging Face hub: give the folder of the weights instead of a name, or set "
    "VLLM_USE_MODELSCOPE=True to fetch them from ModelScope, or HF_ENDPOINT to a mirror"
)


@asynccontextmanager
async def closed_on_failure(close: Callable[[], Awaitable[None]], name: str) -> AsyncIterator[None]:
    """Close what starts in this block if it does not start.

    Args:
        name: of what is started, for people.

    Raises:
        RecognizerUnavailable: it can't run here; the message says why.
    """
    try:
        yield
    except RecognizerUnavailable:
        await close()
        raise
    except Exception as error:  # vLLM's reasons for not starting have no common class.
        await close()
        raise RecognizerUnavailable(f"vLLM can't run {name}: {error}") from error
    except BaseException:
        await close()
        raise


def prepare_environment() -> None:
    """Set what vLLM and its processes read from the environment."""
    # They must not inherit the threads and locks of this process, and are marked for the plugin.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    os.environ[plugin.MARK] = "1"
    # Standard output is for transcripts.
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")


def read_config(model: str, options: Sequence[str]) -> Mapping[str, Any]:
    """The ``config.json`` of a model that vLLM is to run; also fits an old vLLM to what is used here. Blocks.

    Args:
        options: of the engine, as on its command line.

    Raises:
        RecognizerUnavailable: vLLM is too old, or the file can't be had.
        ValueError: vLLM has no such option.
    """
    from transformers import PretrainedConfig

    from streaming_asr.recognizers.vllm.compat import OLDEST, patch, untested, version
    from streaming_asr.recognizers.vllm.options import parse_engine_options

    if version() < OLDEST:
        found, needed = (".".join(map(str, number)) for number in (version(), OLDEST))
        raise RecognizerUnavailable(f"vLLM {found} is installed; {needed} or later is needed.")
    if warning := untested(version()):
        logger.warning(warning)
    patch()
    plain = parse_engine_options(model, options, {})
    try:
        config, _ = PretrainedConfig.get_config_dict(model, revision=plain.revision)
    except OSError as error:
        hint = "" if os.path.isdir(model) else f". {_OTHER_SOURCES}"
        raise RecognizerUnavailable(f"{model}: {str(error).rstrip('.')}{hint}") from error
    return dict(config)


def is_aligner(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is a forced aligner of Qwen3-ASR's family."""
    return config.get("model_type") == "qwen3_asr" and config.get("timestamp_token_id") is not None


def engine_builder(arguments: Any, stats: EngineStats) -> Callable[[], Any]:
    """A function that builds an ``AsyncLLM``, and blocks.

    Args:
        arguments: vLLM's ``AsyncEngineArgs``.
        stats: gets the engine's counts and gauges.
    """
    from vllm.v1.engine.async_llm import AsyncLLM

    from streaming_asr.recognizers.vllm.stats import StatsCollector

    gauges: dict[int, tuple[int, int, float]] = {}

    def build() -> Any:
        gauges.clear()
        collectors = [lambda _config, index=0: StatsCollector(stats, gauges, index)]
        return AsyncLLM.from_engine_args(arguments, stat_loggers=collectors)

    return build
