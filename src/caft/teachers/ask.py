"""Asking many things at once: the one front door to a paid endpoint."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from caft.errors import UserError
from caft.signals import asked_to_end, end_as_asked, ends_by_itself
from caft.teachers.api_key import check_endpoint, read_key
from caft.teachers.asks import CHARACTERS_A_TOKEN, Ask, find_replies, prepare, write_arrival
from caft.teachers.caps import Caps
from caft.teachers.client import Endpoint
from caft.teachers.config import OpenAITeacherConfig, Unanswered
from caft.teachers.ledger import Arrival, Claimed, Ledger
from caft.teachers.outcome import Answered, Failed, Remedy
from caft.teachers.prices import explain_cap, find_price
from caft.teachers.progress import AskProgress, Watcher
from caft.teachers.rate_limit import LONGEST_RETRY_AFTER, Circuit, Pace, back_off, count_words
from caft.teachers.replies import Request, TeacherReply

POLL_SECONDS = 0.1
"""Between looks at the ledger while other processes ask what we want."""

_WAITING = (
    b"waiting for the calls under way, which are paid for, and sending no more; a second signal "
    b"stops at once\n"
)
_STOPPED = Failed(reason="stopped while it was under way", maybe_charged=True)

T = TypeVar("T")


def ask_all(
    requests: Sequence[Request],
    config: OpenAITeacherConfig,
    ledger_path: Path,
    progress: Watcher | None = None,
    probe: Probe | None = None,
) -> list[TeacherReply]:
    """One reply for every request, in order; what the ledger has is not asked again.

    Every reply is in the ledger before it counts as done. A request that the endpoint refuses
    for good comes back with its `failure`. Raises UserError, with every reply kept, where a cap
    is reached, the endpoint is down or refuses the key, or (unless `unanswered` is drop) where
    requests stayed without a reply after all retries. With a `probe` the first requests are asked
    before the others, and UserError where it finds that buying more is no use. After a signal,
    what is under way is waited for, and then raised what the signal raises.
    """
    check_endpoint(config)
    find_price(config)
    prepared = [prepare(request, config) for request in requests]
    asks = {ask.key: ask for ask in prepared}
    with Ledger(ledger_path, config.model or "") as ledger:
        replies = find_replies(ledger, list(asks.values()), config)
        missing = [ask for key, ask in asks.items() if key not in replies]
        if missing:
            with ends_by_itself(_WAITING, second_ends=True):
                asking = _Asking(missing, config, ledger, len(replies), progress)
                if probe:
                    asking.ask_first(prepared[: probe.count], replies, probe)
                replies |= asking.settle_all()
            end_as_asked()  # for a signal that came in the last moment
    return [replies[ask.key] for ask in prepared]


@dataclass(frozen=True, slots=True)
class Probe:
    """What the first `count` requests' replies, in order, are worth.

    `object_to` says in words why no more should be bought, or nothing. Failures are left out.
    """

    count: int
    object_to: Callable[[Sequence[tuple[int, TeacherReply]]], str]


class _Asking:
    """The workers that settle all asks; lives for one `settle_all`."""

    def __init__(
        self,
        asks: Sequence[Ask],
        config: OpenAITeacherConfig,
        ledger: Ledger,
        from_ledger: int,
        watcher: Watcher | None,
    ) -> None:
        self.config, self.ledger, self.watcher = config, ledger, watcher
        self.price = find_price(config)
        self.caps = Caps(usd=config.budget_usd, calls=config.max_calls)
        self.open, self.ready = deque[Ask](), deque[Ask]()
        self.later = deque(asks)
        self.objection: Callable[[], str] = str  # nothing
        self.ahead = max(2, config.concurrency // 2)
        self.asks = {ask.key: ask for ask in asks}
        self.replies: dict[str, TeacherReply] = {}
        self.unanswered: dict[str, str] = {}
        self.arriving: deque[Arrival] = deque()
        self.under_way: set[asyncio.Task[Answered | Failed]] = set()
        self.stopped: UserError | None = None
        self.capped = self.lives = self.out_of_grace = False
        self.said = ""
        self.answered = from_ledger > 0
        self.count = AskProgress(
            done=from_ledger, total=from_ledger + len(asks), from_ledger=from_ledger
        )
        self.started = self.reported = time.monotonic()
        self.circuit = Circuit(
            config.circuit_failures, config.circuit_seconds, config.circuit_openings
        )
        self.calls_pace = Pace(config.requests_per_minute)
        self.tokens_pace = Pace(config.tokens_per_minute)
        self.reply_tokens = config.max_tokens / 4
        self.dice = random.Random()  # jitter only: two processes must not draw alike

    def ask_first(
        self, first: Sequence[Ask], known: Mapping[str, TeacherReply], probe: Probe
    ) -> None:
        """Ask these before the others, of which `known` are settled, and look at the replies."""
        keys = [ask.key for ask in first]
        among_first = set(keys)
        self.open = deque(ask for key, ask in self.asks.items() if key in among_first)
        self.later = deque(ask for key, ask in self.asks.items() if key not in among_first)

        def look() -> str:
            found = [self.replies.get(key) or known.get(key) for key in keys]
            rows = [(n, row) for n, row in enumerate(found) if row and not row.failure]
            return probe.object_to(rows) if len(rows) == probe.count and self.later else ""

        self.objection = look

    def settle_all(self) -> dict[str, TeacherReply]:
        """Ask until every ask is settled; whatever arrived is committed, come what may."""
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        try:
            asyncio.run(self._run())
        finally:
            self.thread.shutdown(wait=True)
            self.ledger.commit(list(self.arriving))
            self.ledger.release([ask.key for ask in self.ready])
        self._report(force=True)
        end_as_asked()
        self._explain_missing()
        return self.replies

    async def _run(self) -> None:
        self.halted, self.arrived, self.written = (asyncio.Event() for _ in range(3))
        self.claiming = asyncio.Lock()
        self.endpoint = Endpoint(self.config, read_key(self.config, os.environ))
        try:
            async with asyncio.TaskGroup() as background:
                helpers = [background.create_task(self._commit_arrivals())]
                helpers.append(background.create_task(self._stay_alive()))
                helpers.append(background.create_task(self._heed_signals()))
                await self._work_through()
                if not self.halted.is_set() and (objection := self.objection()):
                    self._end(objection)
                self.open += self.later
                await self._work_through()
                for helper in helpers:
                    helper.cancel()
        except* UserError as group:
            self.stopped = _first_leaf(group)
        finally:
            await self.endpoint.close()

    async def _work_through(self) -> None:
        """Settle what is open, and commit what arrived."""
        async with asyncio.TaskGroup() as self.workers:
            for _ in range(min(self.config.concurrency, len(self.open))):
                self.workers.create_task(self._work())
        await self._wait_for_commits()

    async def _work(self) -> None:
        while (ask := await self._next_claimed()) is not None:
            if not await self._may_send(ask):
                self.ready.append(ask)  # released, unsent, at the end
                return
            if await self._still_holds(ask):
                await self._settle(ask)
            else:
                self.open.append(ask)

    # Claims

    async def _next_claimed(self) -> Ask | None:
        while not self.ready:
            if not await self._claim_more():
                return None
        ask = self.ready.popleft()
        low = len(self.ready) < self.ahead // 2
        if low and self._may_claim() and not self.claiming.locked():
            # In good time: a worker should wait for the endpoint and not for the disk.
            self.workers.create_task(self._claim_more())
        return ask

    def _may_claim(self) -> bool:
        return bool(self.open) and not self.capped and not self.halted.is_set()

    async def _claim_more(self) -> bool:
        """Claim a batch unless some are claimed already; False where nothing is left to send."""
        async with self.claiming:
            if len(self.ready) >= self.ahead // 2:
                return True
            if not self._may_claim():
                return bool(self.ready)
            batch = [self.open.popleft() for _ in range(min(len(self.open), self.ahead))]
            wanted = [(ask.key, ask.worst_usd) for ask in batch]
            claimed = await self._in_thread(lambda: self.ledger.claim(wanted, self.caps))
            await self._sort_claimed(claimed)
            return True

    async def _sort_claimed(self, claimed: Claimed) -> None:
        # The endpoint's limits are one key's, however many jobs of a sweep ask with it.
        self.calls_pace.share(claimed.askers)
        self.tokens_pace.share(claimed.askers)
        self.ready += [self.asks[key] for key in claimed.taken]
        for reply in claimed.bought:
            self._settled(reply, from_ledger=1)
        self.open.extendleft(self.asks[key] for key in reversed(claimed.capped))
        self.open += [self.asks[key] for key in claimed.held]
        if not claimed.taken and not claimed.bought:
            await self._wait_for_others(claimed)

    async def _wait_for_others(self, claimed: Claimed) -> None:
        """Nothing could be claimed: what is in flight may yet bring a reply or free money."""
        spending = claimed.spending
        only_capped = bool(claimed.capped) and not claimed.held
        if only_capped and (spending.used_up(self.caps) or not spending.in_flight):
            self.capped = True
        else:
            await self._pause(POLL_SECONDS)

    async def _still_holds(self, ask: Ask) -> bool:
        """Whether the claim is ours still: a machine that slept may have lost it to another."""
        if not self.ledger.may_have_lapsed():
            return True
        return await self._in_thread(lambda: self.ledger.hold(ask.key))

    # One ask

    async def _may_send(self, ask: Ask) -> bool:
        """Wait for the circuit and the pace; False where the asking has stopped meanwhile."""
        tokens = len(json.dumps(ask.body)) / CHARACTERS_A_TOKEN + self.reply_tokens
        now = time.monotonic()
        await self._pause(max(self.calls_pace.book(now, 1), self.tokens_pace.book(now, tokens)))
        while not self.halted.is_set() and (wait := self.circuit.ask(time.monotonic())) > 0:
            self._report()
            await self._pause(min(wait, 1.0))
        return not self.halted.is_set()

    async def _settle(self, ask: Ask) -> None:
        for retry in range(self.config.retries + 1):
            outcome = await self._send(ask)
            self.count = replace(self.count, calls=self.count.calls + 1)
            self.lives |= isinstance(outcome, Answered) or not outcome.unreachable
            if isinstance(outcome, Answered):
                self.answered = True
                self.circuit.succeed()
                return await self._receive(ask, outcome)
            self._note_failure(outcome)
            if outcome.remedy is not Remedy.wait or retry == self.config.retries:
                return await self._give_up(ask, outcome)
            if not await self._try_again(ask, outcome, retry):
                return None
        return None

    async def _send(self, ask: Ask) -> Answered | Failed:
        call = asyncio.create_task(self.endpoint.send(ask.body, ask.key))
        self.under_way.add(call)
        try:
            return await call
        except asyncio.CancelledError:
            if not self.out_of_grace:
                raise
            return _STOPPED
        finally:
            self.under_way.discard(call)

    async def _receive(self, ask: Ask, answer: Answered) -> None:
        arrival = write_arrival(ask, answer, self.config, self.price)
        more = arrival.reply.completion_tokens - self.reply_tokens
        self.tokens_pace.correct(more)
        self.reply_tokens += 0.1 * more
        self.arriving.append(arrival)
        self.arrived.set()
        if len(self.arriving) >= self.config.concurrency:
            # The disk is slower than the endpoint: buy nothing that could be lost unwritten.
            self.written.clear()
            await self.written.wait()

    def _note_failure(self, failed: Failed) -> None:
        if failed is _STOPPED:
            return
        now = time.monotonic()
        self.said = failed.said or self.said
        if failed.retry_after is not None:
            self.calls_pace.hold(now + min(failed.retry_after, LONGEST_RETRY_AFTER))
        if failed.remedy is Remedy.ask_user:
            self._stop(failed.reason + _quote(failed.said))
        elif failed.retry_after is not None and failed.retry_after > LONGEST_RETRY_AFTER:
            wait = f", and it asks to wait {failed.retry_after:.0f} s"
            self._stop(failed.reason + wait + _quote(failed.said))
        elif failed.busy:
            self.circuit.turn_away(now)
        elif failed.remedy is Remedy.leave_out and self.answered:
            self.circuit.succeed()  # it lives, and says so of this one request
        else:
            # An address that never answered is a wrong one, or a server that was not started.
            lasting = failed.remedy is Remedy.leave_out or (failed.unreachable and not self.lives)
            self.circuit.fail(now, failed.reason, lasting=lasting)
            if self.circuit.broken:
                self._stop(self.circuit.broken + _quote(self.said))

    async def _try_again(self, ask: Ask, failed: Failed, retry: int) -> bool:
        """Wait and pay for one more call; False where that is not to be."""
        unsure = ask.worst_usd if failed.maybe_charged else 0.0
        draw, first = self.dice.random(), self.config.backoff_seconds
        await self._pause(back_off(retry, first, failed.retry_after, draw))
        if self.halted.is_set():
            await self._in_thread(lambda: self.ledger.give_up(ask.key, failed.reason, unsure))
            return False
        again = await self._in_thread(
            lambda: self.ledger.claim_again(
                ask.key, failed.reason, unsure, ask.worst_usd, self.caps
            )
        )
        if not again:
            self.open.append(ask)  # money in flight may yet come free
        elif not await self._may_send(ask):
            self.ready.append(ask)
            return False
        return again

    async def _give_up(self, ask: Ask, failed: Failed) -> None:
        unsure = ask.worst_usd if failed.maybe_charged else 0.0
        await self._in_thread(lambda: self.ledger.give_up(ask.key, failed.reason, unsure))
        if failed.busy:
            self.circuit.fail(time.monotonic(), failed.reason)
        if failed.remedy is Remedy.leave_out or self.config.unanswered is Unanswered.drop:
            told = f"{failed.reason}: {failed.said}" if failed.said else failed.reason
            self._settled(TeacherReply(key=ask.key, failure=told), failed=1)
        elif failed.remedy is Remedy.wait:
            self.unanswered[ask.key] = failed.reason

    # Background

    async def _commit_arrivals(self) -> None:
        while True:
            await self.arrived.wait()
            self.arrived.clear()
            batch = list(self.arriving)
            await self._in_thread(lambda batch=batch: self.ledger.commit(batch))  # type: ignore[misc]
            for arrival in batch:
                self.arriving.popleft()
                self.count = replace(self.count, usd=self.count.usd + arrival.reply.usd)
                self._settled(arrival.reply)
            self.written.set()

    async def _wait_for_commits(self) -> None:
        while self.arriving:
            await asyncio.sleep(0.001)

    async def _stay_alive(self) -> None:
        while True:
            await asyncio.sleep(self.ledger.lease_seconds / 4)
            await self._in_thread(self.ledger.renew)

    async def _heed_signals(self) -> None:
        """After a signal send nothing more, and wait for what is under way, but not for ever."""
        while not asked_to_end():
            await asyncio.sleep(POLL_SECONDS)
        self.halted.set()
        await asyncio.sleep(self.config.grace_seconds)
        self.out_of_grace = True
        for call in self.under_way:
            call.cancel()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        # One thread: SQLite waits for the disk there, and the calls in flight do not.
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            try:
                await asyncio.wait_for(self.halted.wait(), seconds)
            except TimeoutError:
                return

    # The end

    def _stop(self, reason: str) -> None:
        role = self.config.group.rpartition(".")[2]
        self._end(f"the {role} at {self.config.base_url} ({self.config.model}): {reason}")

    def _end(self, why: str) -> None:
        self.stopped = self.stopped or UserError(why)
        self.halted.set()

    def _settled(self, reply: TeacherReply, *, from_ledger: int = 0, failed: int = 0) -> None:
        self.replies[reply.key] = reply
        self.count = replace(
            self.count,
            done=self.count.done + 1,
            from_ledger=self.count.from_ledger + from_ledger,
            failed=self.count.failed + failed,
        )
        self._report()

    def _report(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if self.watcher and (force or now - self.reported > 0.2):
            self.reported = now
            note = self.circuit.note and self.circuit.note + _quote(self.said)
            moment = replace(self.count, seconds=now - self.started, note=note)
            self.watcher(moment)

    def _explain_missing(self) -> None:
        bought = self.count.done - self.count.failed
        kept = f"{bought} of {self.count.total} replies are kept"
        if self.stopped is not None:
            raise UserError(
                f"{self.stopped}; {kept}, {self.count.total - bought} are missing: mend it and run "
                "the same command again"
            )
        missing = [ask for ask in self.asks.values() if ask.key not in self.replies]
        if not missing:
            return
        if self.capped:
            bought_usd = [reply.usd for reply in self.replies.values()]
            worst = [ask.worst_usd for ask in missing]
            why = explain_cap(self.config, self.ledger.spending(), bought_usd, worst)
            raise UserError(f"{why}; {kept}")
        assert len(self.unanswered) == len(missing), "an ask was lost"
        reasons = count_words([(reason, False) for reason in self.unanswered.values()])
        raise UserError(
            f"{len(missing)} requests have no reply from {self.config.base_url} after all retries "
            f"({reasons}){_quote(self.said)}; {kept}: run the same command again to ask for the "
            f"rest, or set {self.config.group}.unanswered=drop to go on without them"
        )


def _quote(said: str) -> str:
    return f"; the server says: {said}" if said else ""


def _first_leaf(group: BaseExceptionGroup[Any]) -> UserError:
    first = group.exceptions[0]
    if isinstance(first, BaseExceptionGroup):
        return _first_leaf(first)
    assert isinstance(first, UserError)
    return first
