"""The queue of requests and the loop that steps a batch of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import nn

from ....sandboxes import InfrastructureFault
from ...engine import FinishReason, Sample, SamplingParams
from .choose import choose_decoder
from .prefixes import group_by_prefix
from .requests import Request, RequestQueue
from .sampling import BatchSampler
from .slots import Slot, SlotTable
from .stats import EngineStats
from .weights import fingerprint

_DEFAULT_CONTEXT = 4096


@dataclass(slots=True, eq=False)
class _Row:
    """A request that has a slot."""

    request: Request
    slot: Slot


class TorchEngine:
    """Samples from a live transformers causal language model, many requests at once.

    The weights are the model's own: after an optimizer step the next sample uses them. Cached prefixes of sessions are
    dropped when the weights changed; that is noticed by itself whenever the engine starts from idle, and has to be said
    with `weights_updated` when it happens while requests are in flight.

    Requests join the batch as slots become free, in the order they came; those of sessions that still hold a slot go
    first. Steps run on the event loop that called `sample`, which gets control back between steps. The engine may be
    used from one loop after another, not from two at the same time.

    Args:
        model: a transformers causal language model, on any device, in train or eval mode.
        max_slots: most requests in one batch, and most sessions that keep their state between turns. The key-value
            cache for all of them is allocated at once.
        context_limit: most tokens of prompt and sample together; by default what the model was made for, but no more
            than 4096.
        prefill_tokens: most prompt tokens in one forward pass, padding included; bounds the memory of long prompts.

    Raises:
        ValueError: the limits are not possible for this model, or it is not a causal language model.
    """

    def __init__(
        self, model: nn.Module, *, max_slots: int = 64, context_limit: int | None = None, prefill_tokens: int = 4096
    ) -> None:
        if not hasattr(model, "config") or not hasattr(model, "get_input_embeddings"):
            raise ValueError(f"TorchEngine needs a transformers causal language model, not {type(model).__name__}.")
        positions = getattr(model.config, "max_position_embeddings", None)
        if context_limit is None:
            context_limit = min(positions or _DEFAULT_CONTEXT, _DEFAULT_CONTEXT)
        if positions is not None and context_limit > positions:
            raise ValueError(f"context_limit {context_limit} exceeds the {positions} positions of the model.")
        if max_slots < 1 or context_limit < 2 or prefill_tokens < 1:
            raise ValueError("TorchEngine needs max_slots >= 1, context_limit >= 2 and prefill_tokens >= 1.")
        embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
        self.context_limit = context_limit
        self.stats = EngineStats()
        self._model = model
        self._device: torch.device = embedding.weight.device
        self._vocabulary: int = embedding.num_embeddings
        self._max_slots = max_slots
        self._prefill_tokens = prefill_tokens
        self._decoder = choose_decoder(model, slots=max_slots, context_limit=context_limit)
        self._slots = SlotTable(max_slots, self._decoder.swap)
        self._queue = RequestQueue()
        self._rows: list[_Row] = []
        """What is in flight; row `i` is in slot `i`."""
        self._sampler: BatchSampler | None = None
        """Of the present rows; None when they changed."""
        self._weights = fingerprint(model)
        self._seeds = Random()
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, session: str | None = None) -> Sample:
        """Sample one continuation of `prompt_ids`; see `Engine.sample`.

        A session that has two requests in flight keeps the state of the first.
        """
        if self._closed:
            raise InfrastructureFault("The torch engine is closed.")
        prompt = list(prompt_ids)
        self._require_valid(prompt, params)
        request = Request(
            prompt,
            params,
            session,
            random=Random(self._seeds.getrandbits(64) if params.seed is None else params.seed),
            budget=min(params.max_tokens, self.context_limit - len(prompt)),
            done=asyncio.get_running_loop().create_future(),
        )
        self._wake()
        self._queue.put(request, returning=self._slots.holds(session))
        # Cancelling the caller cancels the future; the next step sees that and frees the slot.
        return await request.done

    def release(self, session: str) -> None:
        """Forget a session. Unknown sessions are ignored."""
        if not self._closed:
            self._slots.release(session)

    def weights_updated(self) -> None:
        """Say that the weights changed: every cached prefix is dropped, and rows in flight are read anew."""
        if not self._closed:
            self._weights = fingerprint(self._model)
            self._slots.forget()

    async def close(self) -> None:
        """Stop sampling and free the cache. Requests in flight raise `InfrastructureFault`."""
        if self._closed:
            return
        self._closed = True
        self._stop("The torch engine was closed while this request was in flight.")
        if self._worker is not None and self._worker.get_loop() is asyncio.get_running_loop():
            self._worker.cancel()
            await asyncio.wait([self._worker])
        del self._decoder, self._slots

    def _require_valid(self, prompt: list[int], params: SamplingParams) -> None:
        if not prompt:
            raise ValueError("The prompt is empty.")
        if len(prompt) >= self.context_limit:
            raise ValueError(
                f"A prompt of {len(prompt)} tokens leaves no room within the context limit of {self.context_limit}."
            )
        if min(prompt) < 0 or max(prompt) >= self._vocabulary:
            raise ValueError(f"The prompt has token ids outside the vocabulary of {self._vocabulary}.")
        if params.max_tokens < 1 or params.temperature < 0 or not 0 < params.top_p <= 1 or params.top_k < 0:
            raise ValueError(f"Sampling needs max_tokens >= 1, temperature >= 0, 0 < top_p <= 1, top_k >= 0: {params}.")

    def _wake(self) -> None:
        """Make sure that a worker runs on the present event loop."""
        worker = self._worker
        if worker is not None and not worker.done():
            if worker.get_loop() is asyncio.get_running_loop():
                return
            if worker.get_loop().is_running():
                raise RuntimeError("TorchEngine is in use on another event loop.")
            # That loop was dropped in the middle of its work: nobody is left to answer.
            self._queue.clear()
            self._rows = []
            self._stop("The event loop of this request is gone.")
        self._worker = asyncio.get_running_loop().create_task(self._work(), name="TorchEngine")

    async def _work(self) -> None:
        """Step until nothing is left to do."""
        try:
            while self._queue or self._rows:
                started = time.perf_counter()
                with torch.inference_mode():
                    self._step()
                self.stats.seconds += time.perf_counter() - started
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self._stop("The torch engine's worker was cancelled.")
            raise
        except Exception as error:
            self._stop(f"The torch engine failed: {error!r}", error)
            with torch.inference_mode():
                self._decoder.reset()

    def _stop(self, reason: str, cause: Exception | None = None) -> None:
        """Give everyone who waits an `InfrastructureFault` and free all slots."""
        waiting = [row.request for row in self._rows] + self._queue.clear()
        self._rows, self._sampler = [], None
        self._slots.clear()
        for request in waiting:
            if not request.done.done():
                fault = InfrastructureFault(reason)
                fault.__cause__ = cause
                request.done.set_exception(fault)

    def _step(self) -> None:
        """Let requests in, read their prompts, and sample one token for every row."""
        self._leave()
        if self._queue and not self._rows:
            self._check_weights()
        self._admit()
        if not self._rows:
            return
        rows = self._rows
        if self._sampler is None:
            self._sampler = BatchSampler.of([row.request.params for row in rows], self._device)
        positions = [row.slot.cached for row in rows]
        inputs = torch.tensor([[row.slot.context[-1] for row in rows], positions], device=self._device)
        logits = self._decoder.decode(inputs[0], inputs[1], max(positions) + 1)
        tokens, logprobs = self._sampler.draw(logits, [row.request.random.random() for row in rows])
        self._record(tokens.tolist(), logprobs.tolist())

    def _check_weights(self) -> None:
        """Drop cached prefixes if an optimizer, or anyone else, changed the weights since they were made."""
        weights = fingerprint(self._model)
        if len(weights) != len(self._weights):
            raise RuntimeError("the model got other parameters since the engine was made; make a new engine")
        if weights != self._weights:
            self._weights = weights
            self._slots.forget()

    def _record(self, tokens: list[int], logprobs: list[float]) -> None:
        """Append what was drawn to each row and answer the requests that are complete."""
        if (total := sum(logprobs)) != total:
            raise FloatingPointError("the model's logits are not finite")
        self.stats.steps += 1
        self.stats.sampled_tokens += len(tokens)
        for row, token, logprob in zip(self._rows, tokens, logprobs, strict=True):
            request, slot = row.request, row.slot
            slot.cached += 1
            slot.context.append(token)
            request.token_ids.append(token)
            request.logprobs.append(logprob)
            stopped = token in request.params.stop_token_ids
            if (stopped or len(request.token_ids) == request.budget) and not request.done.done():
                reason = FinishReason.STOP if stopped else FinishReason.LENGTH
                request.done.set_result(Sample(request.token_ids, request.logprobs, reason))

    def _leave(self) -> None:
        """Free the slots of rows that are answered or were cancelled, from the last row to the first."""
        for index in reversed(range(len(self._rows))):
            row = self._rows[index]
            if row.request.done.done():
                self._slots.finish(row.slot)
                last = self._rows.pop()
                if last is not row:
                    self._rows[index] = last
                self._sampler = None

    def _admit(self) -> None:
        """Give the free slots to requests that wait, and read their prompts; what several have in common only once."""
        requests = self._queue.take(self._max_slots - len(self._rows))
        returning = [request for request in requests if self._slots.holds(request.session)]
        groups = group_by_prefix([request for request in requests if not self._slots.holds(request.session)])
        leaders = {id(group): self._join(group.leader) for group in groups}
        for request in returning:
            self._join(request)
        self._prefill(0)
        alone = len(self._rows)
        for group in groups:
            first = len(self._rows)
            for request in group.followers:
                self._join(request).slot.cached = group.shared
            if group.followers:
                self._decoder.copy(leaders[id(group)].slot.index, first, len(self._rows), group.shared)
                self.stats.copied_tokens += group.shared * len(group.followers)
        self._prefill(alone)
        self.stats.evicted_sessions = self._slots.evictions

    def _join(self, request: Request) -> _Row:
        """Give a request the slot behind the last row."""
        row = _Row(request, self._slots.acquire(request.prompt, request.session))
        self.stats.reused_tokens += row.slot.cached
        self._rows.append(row)
        self._sampler = None
        return row

    def _prefill(self, first: int) -> None:
        """Bring the cache of the rows from `first` on up to all but the last token, which the decode step reads."""
        missing = [len(row.slot.context) - 1 - row.slot.cached for row in self._rows]
        while first < len(missing):
            stop, width = first, 0
            while stop < len(missing) and missing[stop]:
                wider = max(width, missing[stop])
                if stop > first and wider * (stop + 1 - first) > self._prefill_tokens:
                    break
                stop, width = stop + 1, wider
            if width:
                self._read(first, stop, width)
            first = max(stop, first + 1)

    def _read(self, first: int, stop: int, width: int) -> None:
        """Prefill rows `first .. stop-1`, which miss at most `width` tokens, in passes of bounded size."""
        slots = [row.slot for row in self._rows[first:stop]]
        missing = [slot.context[slot.cached : -1] for slot in slots]
        tokens = torch.tensor([new + [0] * (width - len(new)) for new in missing], device=self._device)
        starts = torch.tensor([slot.cached for slot in slots], device=self._device)
        end = max(len(slot.context) - 1 for slot in slots)
        chunk = max(1, self._prefill_tokens // len(slots))
        for begin in range(0, width, chunk):
            self._decoder.prefill(first, tokens[:, begin : begin + chunk], starts + begin, end)
            self.stats.prefills += 1
        for slot, new in zip(slots, missing, strict=True):
            slot.cached += len(new)
            self.stats.prefilled_tokens += len(new)
