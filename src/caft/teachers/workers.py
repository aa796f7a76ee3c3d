"""The workers that send many requests at once, and commit every reply to the ledger."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from caft.errors import UserError, count_of
from caft.signals import asked_to_end, end_as_asked
from caft.teachers.api_key import read_key
from caft.teachers.client import Endpoint
from caft.teachers.config import EndpointConfig, Unanswered
from caft.teachers.ledger import Claims, Ledger
from caft.teachers.outcome import Answered, Failed, Remedy
from caft.teachers.prices import Caps, Spending, find_price
from caft.teachers.progress import AskProgress, Watcher
from caft.teachers.rate_limit import Throttle, back_off
from caft.teachers.replies import (
    BYTES_A_TOKEN,
    LedgerEntry,
    PreparedRequest,
    TeacherReply,
    make_entry,
    unsure_usd,
)

POLL_SECONDS = 0.1
"""Seconds between checks of the ledger while other processes send the same requests."""

STOPPED = Failed(reason="stopped while it was in flight", maybe_charged=True)

Objection = Callable[[Mapping[str, TeacherReply]], str]
"""From new replies, by key, to the reason to buy no more; empty for none."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class Workers:
    """Settles requests; lives for one `settle_all`.

    Afterwards every request is in `replies` (a failed one with its failure) or in `unanswered`
    (with the reason), unless asking was `stopped` (why, and `advice`) or `capped` (at that
    spending, which other runs may have changed since).
    """

    def __init__(
        self,
        requests: Sequence[PreparedRequest],
        config: EndpointConfig,
        ledger: Ledger,
        known: int,
        watcher: Watcher | None,
    ) -> None:
        self.config, self.ledger, self.price = config, ledger, find_price(config)
        self.caps = Caps(usd=config.budget_usd, calls=config.max_calls)
        self.ahead = max(2, config.concurrency // 2)
        self.requests = {request.key: request for request in requests}
        self.open, self.claimed = deque[PreparedRequest](), deque[PreparedRequest]()
        self.replies: dict[str, TeacherReply] = {}
        self.unanswered: dict[str, str] = {}
        self.retried: Counter[str] = Counter()
        self.unsure: defaultdict[str, float] = defaultdict(float)
        self.uncommitted: deque[LedgerEntry] = deque()
        self.under_way: set[asyncio.Task[Any]] = set()
        self.stopped, self.advice = "", "fix this and run the same command again"
        self.again = "run the same command again to ask for the rest"
        self.waits_for_batch = ""
        self.capped: Spending | None = None
        self.out_of_grace = False
        self.throttle = Throttle(config, answered=known > 0)
        self.watcher, self.known, self.from_ledger = watcher, known, known
        self.failed, self.calls, self.usd = 0, 0, 0.0
        self.started = self.shown = time.monotonic()
        self.random = random.Random()  # jitter only: two processes must not draw alike

    def settle_all(self, first: Collection[str], find_objection: Objection) -> None:
        """Ask until every request is settled; every reply is committed, whatever is raised.

        Those with the keys `first` are asked before the others; if `find_objection` then returns a
        reason, the others are not asked.
        """
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        try:
            asyncio.run(self._run(first, find_objection))
        finally:
            self.thread.shutdown(wait=True)
            self.ledger.commit(list(self.uncommitted))
            self.ledger.release([request.key for request in self.claimed])
        self._show(last=True)
        end_as_asked()

    async def _run(self, first: Collection[str], find_objection: Objection) -> None:
        self.halted, self.received, self.written = (asyncio.Event() for _ in range(3))
        self.claiming = asyncio.Lock()
        self.endpoint = Endpoint(self.config, read_key(self.config, os.environ))
        try:
            async with asyncio.TaskGroup() as background:
                loops = (self._commit_replies(), self._renew_claims(), self._heed_signals())
                helpers = [background.create_task(loop) for loop in loops]
                later = [each for key, each in self.requests.items() if key not in first]
                await self._work_through(e for key, e in self.requests.items() if key in first)
                if later and (problem := find_objection(self.replies)):
                    self._stop(problem)
                await self._work_through(later)
                for helper in helpers:
                    helper.cancel()
        except* UserError as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            self.stopped = str(error)
        finally:
            await self.endpoint.close()

    async def _work_through(self, requests: Iterable[PreparedRequest]) -> None:
        """Settle these and all open requests, and commit all replies."""
        self.open += requests
        async with asyncio.TaskGroup() as self.workers:
            for _ in range(min(self.config.concurrency, len(self.open))):
                self.workers.create_task(self._work())
        while self.uncommitted:
            await asyncio.sleep(0.001)

    async def _work(self) -> None:
        while (request := await self._next_claimed()) is not None:
            if not await self._may_send(request):
                self.claimed.append(request)  # released, unsent, at the end
                return
            if await self._still_holds(request):
                await self._settle(request)
            else:
                self.throttle.unsend()
                self.open.append(request)

    # Claims

    async def _next_claimed(self) -> PreparedRequest | None:
        while not self.claimed:
            if not await self._claim_more():
                return None
        request = self.claimed.popleft()
        low = len(self.claimed) < self.ahead // 2
        if low and self._may_claim() and not self.claiming.locked():
            # In good time: a worker should wait for the endpoint and not for the disk.
            self.workers.create_task(self._claim_more())
        return request

    def _may_claim(self) -> bool:
        return bool(self.open) and self.capped is None and not self.halted.is_set()

    async def _claim_more(self) -> bool:
        """Claim a batch unless some are claimed already; False where nothing is left to send."""
        async with self.claiming:
            if len(self.claimed) >= self.ahead // 2:
                return True
            if not self._may_claim():
                return bool(self.claimed)
            batch = [self.open.popleft() for _ in range(min(len(self.open), self.ahead))]
            wanted = [(request.key, request.worst_usd) for request in batch]
            await self._sort(await self._in_thread(lambda: self.ledger.claim(wanted, self.caps)))
            return True

    async def _sort(self, claims: Claims) -> None:
        self.throttle.share(claims.clients)
        self.claimed += [self.requests[key] for key in claims.taken]
        for reply in claims.bought:
            self.from_ledger += 1
            self._settled(reply)
        self.open.extendleft(self.requests[key] for key in reversed(claims.capped))
        self.open += [self.requests[key] for key in claims.held]
        self._say_batched(claims.batched)
        if claims.taken or claims.bought:
            return
        # What is in flight may yet bring a reply or free money.
        hopeless = claims.spending.used_up(self.caps) or not claims.spending.in_flight
        if claims.capped and not claims.held and hopeless:
            self.capped = claims.spending
        else:
            await self._pause(POLL_SECONDS)

    def _say_batched(self, count: int) -> None:
        """Say it when another run has sent some of the requests in a batch since this one began."""
        if count and not self.waits_for_batch:
            log.warning(
                "another run has %s of this one in a batch, which may take 24 hours, and this one "
                "waits for the replies; Ctrl-C loses none, and with %s.batch=true it takes them "
                "itself",
                count_of(count, "request"), self.config.group,
            )  # fmt: skip
        waits = f"waiting for {count_of(count, 'request')} in another run's batch"
        self.waits_for_batch = waits if count else ""
        self._show()

    async def _still_holds(self, request: PreparedRequest) -> bool:
        """Whether we still have the claim: a machine that slept may have lost it to another."""
        if not self.ledger.may_have_lapsed():
            return True
        return await self._in_thread(lambda: self.ledger.hold(request.key))

    # One request

    async def _may_send(self, request: PreparedRequest) -> bool:
        """Wait for the limits and for a server that is down; False where asking has stopped."""
        tokens = request.size / BYTES_A_TOKEN
        await self._pause(self.throttle.book(time.monotonic(), tokens))
        while not self.halted.is_set() and (wait := self.throttle.pause(time.monotonic())) > 0:
            self._show()
            await self._pause(min(wait, 1.0))
        return not self.halted.is_set()

    async def _settle(self, request: PreparedRequest) -> None:
        outcome = await self._send(request)
        self.calls += 1
        if isinstance(outcome, Answered):
            await self._receive(request, outcome)
        else:
            await self._end_claim(request, outcome)

    async def _send(self, request: PreparedRequest) -> Answered | Failed:
        return await self._watched(self.endpoint.send(request.body, request.key))

    async def _watched(self, sending: Coroutine[Any, Any, T | Failed]) -> T | Failed:
        """The outcome of a call, which ends where the grace after a signal does."""
        call = asyncio.create_task(sending)
        self.under_way.add(call)
        try:
            return await call
        except asyncio.CancelledError:
            if not self.out_of_grace:
                raise
            return STOPPED
        finally:
            self.under_way.discard(call)

    async def _receive(self, request: PreparedRequest, answer: Answered) -> None:
        entry = make_entry(request, answer, self.config, self.price)
        self.throttle.succeed(entry.reply.completion_tokens)
        self.uncommitted.append(entry)
        self.received.set()
        if len(self.uncommitted) >= self.config.concurrency:
            # The disk is slower than the endpoint: buy nothing that could be lost unwritten.
            self.written.clear()
            await self.written.wait()

    async def _end_claim(self, request: PreparedRequest, failed: Failed) -> None:
        """End the claim of a failed call, and ask again later if that may help."""
        now, retry = time.monotonic(), self.retried[request.key]
        if failed is not STOPPED and (problem := self.throttle.fail(now, failed)):
            role = self.config.group.rpartition(".")[2]
            self._stop(f"the {role} at {self.config.base_url} ({self.config.model}): {problem}")
        unsure = unsure_usd(request, failed, self.price)
        self.unsure[request.key] += unsure
        await self._in_thread(lambda: self.ledger.give_up(request.key, failed.reason, unsure))
        if failed.remedy is Remedy.wait and retry < self.config.retries:
            self.retried[request.key] += 1
            first, draw = self.config.backoff_seconds, self.random.random()
            await self._pause(back_off(retry, first, failed.retry_after, draw))
            self.open.appendleft(request)
            return
        self.throttle.give_up(time.monotonic(), failed)
        self._leave(request, failed)

    def _leave(self, request: PreparedRequest, failed: Failed) -> None:
        """Ask it no more."""
        if failed.remedy is Remedy.leave_out or self.config.unanswered is Unanswered.drop:
            why = f"{failed.reason}: {failed.message}" if failed.message else failed.reason
            self.failed += 1
            unsure = self.unsure[request.key]
            self._settled(TeacherReply(key=request.key, failure=why, usd=unsure))
        elif failed.remedy is Remedy.wait:
            self.unanswered[request.key] = failed.reason

    def _settled(self, reply: TeacherReply) -> None:
        self.replies[reply.key] = reply
        self._show()

    def _show(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if self.watcher and (last or now - self.shown > 0.2):
            self.shown = now
            self.watcher(self.progress())

    def progress(self) -> AskProgress:
        """The current progress."""
        return AskProgress(
            done=self.known + len(self.replies),
            total=self.known + len(self.requests),
            from_ledger=self.from_ledger,
            failed=self.failed,
            calls=self.calls,
            usd=self.usd,
            seconds=time.monotonic() - self.started,
            note="; ".join(filter(None, (self.throttle.note, self.waits_for_batch))),
        )

    # Background

    async def _commit_replies(self) -> None:
        while True:
            await self.received.wait()
            self.received.clear()
            batch = list(self.uncommitted)
            await self._in_thread(lambda batch=batch: self.ledger.commit(batch))  # type: ignore[misc]
            for entry in batch:
                self.uncommitted.popleft()
                self.usd += entry.reply.usd
                self._settled(entry.reply)
            self.written.set()

    async def _renew_claims(self) -> None:
        while True:
            await asyncio.sleep(self.ledger.lease_seconds / 4)
            await self._in_thread(self.ledger.renew)

    async def _heed_signals(self) -> None:
        """After a signal send nothing more, and wait for calls in flight, but not for ever."""
        while not asked_to_end():
            await asyncio.sleep(POLL_SECONDS)
        self.halted.set()
        await asyncio.sleep(self.config.grace_seconds)
        self.out_of_grace = True
        for call in self.under_way:
            call.cancel()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        # SQLite runs in one thread of its own, so that calls in flight do not wait for the disk.
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            try:
                await asyncio.wait_for(self.halted.wait(), seconds)
            except TimeoutError:
                return

    def _stop(self, why: str) -> None:
        self.stopped = self.stopped or why
        self.halted.set()
