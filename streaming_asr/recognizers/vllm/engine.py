"""vLLM's AsyncLLM, kept alive: started off the event loop, watched, and started again when its processes die.

`health.State` has the states and what leads from one to the next.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import multiprocessing
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from vllm import PoolingParams, SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.exceptions import EngineDeadError

from streaming_asr.core.recognizer import DecodeFailed, RecognizerDown
from streaming_asr.recognizers.vllm.health import TRANSITIONS, RestartPolicy, State
from streaming_asr.recognizers.vllm.models.base import Classification, Completion, Request

logger = logging.getLogger(__name__)

T = TypeVar("T")

WATCH_S = 0.2
"""How often an idle engine is checked. The death of a busy one shows in its requests at once."""
LONGEST_DECODE_S = 120.0
"""A request that takes longer is given up. An engine that finishes no other meanwhile hangs, and is started again."""
SHUTDOWN_S = 10.0
"""Time that the engine's processes have to end by themselves."""

_building = threading.Lock()
"""Held while an engine is built, so that the processes that appear meanwhile are known for its own."""


class SupervisedEngine:
    """An engine that requests can be sent to.

    Args:
        build: makes an ``AsyncLLM``; blocks, and is called in a thread.
        changed: called with each new state, on the event loop. Must not block.
    """

    def __init__(
        self, build: Callable[[], Any], policy: RestartPolicy, changed: Callable[[State], None] = lambda state: None
    ) -> None:
        self._build = build
        self._policy = policy
        self._changed = changed
        self._llm: Any = None
        self._processes = _Processes()
        self._state = State.STARTING
        self._settled = asyncio.Event()
        """Set while a request need not wait: the engine is ready, or will never be."""
        self._died = asyncio.Event()
        self._starts: deque[float] = deque()
        self._watcher: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)
        self._finished = 0
        """Requests, by all engines."""

    @property
    def state(self) -> State:
        return self._state

    @property
    def llm(self) -> Any:
        """The current ``AsyncLLM``."""
        return self._llm

    async def start(self) -> None:
        """Start the engine. Raises what `build` raises."""
        self._llm = await asyncio.to_thread(self._processes.start, self._build)
        self._become(State.READY)
        self._watcher = asyncio.create_task(self._watch(), name="vLLM watch")

    async def run(self, request: Request, priority: int, rank: int | None = None) -> Completion:
        """Run one request of a model that generates; waits while the engine is started again.

        Args:
            priority: lower goes first.
            rank: number of the data-parallel engine that is to run it; None where there is one, or for any.

        Raises:
            RecognizerDown: the engine died under the request, or hangs.
            DecodeFailed: the engine refuses this request, took too long, or is gone for good.
        """
        return await self._supervise(lambda llm: self._generate(llm, request, priority, rank))

    async def classify(self, request: Classification, priority: int) -> tuple[int, ...]:
        """Run one request of a model that classifies tokens; as `run` otherwise.

        Returns:
            The most probable of `Classification.classes`, for each place of `Classification.token` in the prompt.
        """
        return await self._supervise(lambda llm: self._classify(llm, request, priority))

    async def _supervise(self, perform: Callable[[Any], Awaitable[T]]) -> T:
        await self._settled.wait()
        if self._state is not State.READY:
            raise DecodeFailed(f"The engine is {self._state.value}.")
        llm, finished = self._llm, self._finished
        try:
            result = await asyncio.wait_for(perform(llm), LONGEST_DECODE_S)
        except EngineDeadError as error:
            self._lost(llm)
            raise RecognizerDown("The engine died during the decode.") from error
        except asyncio.TimeoutError as error:
            if llm is not self._llm or finished == self._finished:
                self._lost(llm, "hangs")
                raise RecognizerDown(f"The engine finished nothing within {LONGEST_DECODE_S:.0f} s.") from error
            raise DecodeFailed(f"The engine did not finish within {LONGEST_DECODE_S:.0f} s.") from error
        except Exception as error:  # Refusals have many classes, some of them internal to vLLM.
            if llm.errored:
                self._lost(llm)
                raise RecognizerDown("The engine died during the decode.") from error
            reason = error.__cause__ or error
            raise DecodeFailed(f"The engine refused the request: {reason or type(reason).__name__}") from error
        self._finished += 1
        return result

    async def close(self) -> None:
        """End the engine and its processes, also one that is only starting."""
        if self._state is State.CLOSED:
            return
        self._become(State.CLOSED)
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        llm, self._llm = self._llm, None
        if llm is not None and llm.output_handler is not None:
            # It would take the end for a death, and log it.
            llm.output_handler.cancel()
        self._processes.closed = True
        await asyncio.to_thread(self._end, llm)

    async def _generate(self, llm: Any, request: Request, priority: int, rank: int | None) -> Completion:
        # Rendered first: vLLM 0.23 would process a raw prompt on the event loop.
        (prompt,) = await llm.renderer.render_cmpl_async([request.prompt])
        parameters = SamplingParams(
            temperature=0.0,
            max_tokens=request.max_tokens,
            logprobs=0,
            allowed_token_ids=None if request.choices is None else list(request.choices),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        name = f"asr-{next(self._ids)}"
        outputs = llm.generate(prompt, parameters, name, priority=priority, data_parallel_rank=rank)
        return _completion([output async for output in outputs][-1])

    async def _classify(self, llm: Any, request: Classification, priority: int) -> tuple[int, ...]:
        (prompt,) = await llm.renderer.render_cmpl_async([request.prompt])
        parameters = PoolingParams(
            task="token_classify",
            # The largest stays the largest without.
            use_activation=False,
            step_tag_id=request.token,
            # The others would be sent for nothing: thousands of numbers for each place.
            returned_token_ids=list(request.classes),
        )
        outputs = llm.encode(prompt, parameters, f"align-{next(self._ids)}", priority=priority)
        scores = [output async for output in outputs][-1].outputs.data
        best: list[int] = (await asyncio.to_thread(scores.argmax, dim=-1)).tolist()
        return tuple(request.classes[n] for n in best)

    def _lost(self, llm: Any, how: str = "died") -> None:
        """Restart an engine that is dead, or hangs. Several requests may find that; the first one counts."""
        if llm is self._llm and self._state is State.READY:
            logger.error("The engine %s.", how)
            self._become(State.RESTARTING)
            self._died.set()

    async def _watch(self) -> None:
        while self._state is State.READY:
            try:
                await asyncio.wait_for(self._died.wait(), WATCH_S)
            except asyncio.TimeoutError:
                if not self._llm.errored:
                    continue
                self._lost(self._llm)
            self._died.clear()
            if await self._restart():
                self._become(State.READY)
            else:
                logger.critical("The engine died too often; it is given up.")
                self._become(State.FAILED)

    async def _restart(self) -> bool:
        """Start the engine again until that works; False when it was tried too often."""
        policy = self._policy
        wait = policy.first_wait_s
        await asyncio.to_thread(self._end, self._llm)
        while True:
            now = time.monotonic()
            while self._starts and self._starts[0] < now - policy.within_s:
                self._starts.popleft()
            if len(self._starts) >= policy.most:
                return False
            self._starts.append(now)
            await asyncio.sleep(wait)
            wait = min(2 * wait, policy.longest_wait_s)
            try:
                self._llm = await asyncio.to_thread(self._processes.start, self._build)
            except Exception:  # Whatever it was may pass: the device is still busy, memory is short.
                logger.exception("The engine did not start again.")
                await asyncio.to_thread(self._processes.end)
                continue
            logger.warning("The engine has started again.")
            return True

    def _end(self, llm: Any) -> None:
        """Shut an engine down, and end its processes."""
        if llm is not None:
            try:
                llm.shutdown()
            except Exception:  # A dead engine may break its own shutdown.
                logger.exception("The engine did not shut down cleanly.")
        self._processes.end()

    def _become(self, state: State) -> None:
        if self._state is State.CLOSED:  # It was closed while it was being started again.
            return
        assert state in TRANSITIONS[self._state], (self._state, state)
        self._state = state
        if state in (State.STARTING, State.RESTARTING):
            self._settled.clear()
        else:
            self._settled.set()
        self._changed(state)


def _completion(output: Any) -> Completion:
    generated = output.outputs[0]
    tokens = list(generated.token_ids)
    logprobs = [step[token].logprob for step, token in zip(generated.logprobs, tokens, strict=True)]
    complete = generated.finish_reason == "stop"
    if complete and tokens:  # The end token is the last.
        del tokens[-1], logprobs[-1]
    times = output.metrics
    return Completion(
        tokens=tuple(tokens),
        logprobs=tuple(logprobs),
        complete=complete,
        prompt_tokens=len(output.prompt_token_ids or ()),
        cached_tokens=output.num_cached_tokens or 0,
        prefill_s=times.first_token_ts - times.scheduled_ts if times else 0.0,
        decode_s=times.last_token_ts - times.first_token_ts if times else 0.0,
    )


class _Processes:
    """The processes of one engine, of several that this process may have."""

    def __init__(self) -> None:
        self.closed = False
        """Set for good: no engine is started any more."""
        self._others: frozenset[Any] | None = None
        """While the engine is being built: processes that were there before."""
        self._own: list[Any] = []

    def start(self, build: Callable[[], Any]) -> Any:
        """Build the engine. Blocks, also while another engine is being built."""
        with _building:
            if self.closed:
                raise RuntimeError("The engine was closed before it started.")
            self._others = frozenset(multiprocessing.active_children())
            try:
                return build()
            finally:
                self._own = self._started()
                self._others = None

    def end(self) -> None:
        """End them; also those of an engine that has not finished starting. Blocks."""
        children = self._started()
        for child in children:
            child.terminate()
        deadline = time.monotonic() + SHUTDOWN_S
        for child in children:
            child.join(max(0.0, deadline - time.monotonic()))
            if child.is_alive():
                child.kill()
                child.join()

    def _started(self) -> list[Any]:
        others, alive = self._others, multiprocessing.active_children()
        if others is None:
            return [child for child in self._own if child in alive]
        return [child for child in alive if child not in others and child.name.startswith(("EngineCore", "VLLM"))]
