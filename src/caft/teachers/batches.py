"""Sends requests through a provider's batch interface (OpenAI's: files and batches).

A batch is written into the ledger before and after the call that creates it. A kill between the two
leaves one that may exist: it is looked for at the provider by its input file and our name for it,
and created again only if it is not there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from caft.errors import UserError, count_of
from caft.teachers.api_key import read_key
from caft.teachers.batch_files import (
    BatchState,
    create,
    find,
    read_lines,
    retrieve,
    take_piece,
    upload,
)
from caft.teachers.client import Endpoint
from caft.teachers.config import EndpointConfig
from caft.teachers.ledger import BatchLedger, Claims, SentBatch
from caft.teachers.ledger.claims import IN_BATCH
from caft.teachers.outcome import Answered, Failed, Remedy, read_batch_row
from caft.teachers.progress import AskProgress, Watcher
from caft.teachers.rate_limit import LONGEST_RETRY_AFTER, quote
from caft.teachers.replies import PreparedRequest, make_entry, unsure_usd
from caft.teachers.words import clean_words
from caft.teachers.workers import STOPPED, Workers

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")
Row = tuple[PreparedRequest, Answered | Failed]
log = logging.getLogger(__name__)

MOST_ROWS, MOST_BYTES = 50_000, 200_000_000
"""Of one input file."""

FIRST_POLL, LONGEST_POLL = 5.0, 60.0
"""Seconds between two looks at the batches: the first ones, and what they grow to."""

CREATE_SECONDS = 120.0
"""After so long without a batch at the provider, the call that should have created it is repeated;
before that it may be under way, and it is given up after a quarter of it."""

PATIENCE_SECONDS = 3600.0
"""How long a provider that was reached before may fail until the run stops."""

_ENDED = ("completed", "expired", "cancelled")
_GONE = ("HTTP 400", "HTTP 403", "HTTP 404", "HTTP 410")
_AT_ONCE = 500
"""Replies of one commit."""


def check_interface(config: EndpointConfig) -> None:
    """UserError if the endpoint has no batch interface. Any other trouble is met later."""

    async def ask() -> object:
        endpoint = Endpoint(config, read_key(config, os.environ))
        try:
            return await endpoint.call(_list_one, config.timeout_seconds)
        finally:
            await endpoint.close()

    found = asyncio.run(ask())
    if isinstance(found, Failed):
        _refuse_without_interface(config, found)


async def _list_one(client: AsyncOpenAI) -> object:
    return await client.batches.list(limit=1)


def _refuse_without_interface(config: EndpointConfig, failed: Failed) -> None:
    if failed.reason.startswith(("HTTP 404", "HTTP 405", "HTTP 410", "HTTP 501")):
        raise UserError(
            f"{config.base_url} has no batch interface ({failed.reason.partition(':')[0]} for "
            f"/batches or /files); set {config.group}.batch=false"
        )


class BatchWorkers(Workers):
    """Settles requests by batches, all of which are out at the same time."""

    ledger: BatchLedger

    def __init__(
        self,
        requests: Sequence[PreparedRequest],
        config: EndpointConfig,
        ledger: BatchLedger,
        known: int,
        watcher: Watcher | None,
    ) -> None:
        super().__init__(requests, config, ledger, known, watcher)
        self.most_rows = MOST_ROWS
        self.wait, self.asked_to_wait = FIRST_POLL, 0.0
        self.failures, self.most_lost, self.reached = 0, 0, 0.0
        self.trouble, self.troubled = "", False
        # False while the provider holds enough: one batch has to end first.
        self.may_send_more = True
        self.counts: dict[str, tuple[int, int]] = {}

    async def _work_through(self, requests: Iterable[PreparedRequest]) -> None:
        self.open += requests
        while self.open and not self.halted.is_set() and self.capped is None:
            self.troubled, before = False, (len(self.open), set(self.counts))
            sent = await self._find_sent()
            for batch in sent:
                await self._look_at(batch)
            await self._send_rest()
            settled = self.replies.keys() | self.unanswered.keys()
            self.open = deque(each for each in self.open if each.key not in settled)
            await self._rest(moved=before != (len(self.open), set(self.counts)))

    async def _find_sent(self) -> list[SentBatch]:
        keys = [request.key for request in self.open]
        return await self._in_thread(lambda: self.ledger.find_batches(keys))

    async def _rest(self, *, moved: bool) -> None:
        """Wait until the next look: a few seconds, and longer while nothing happens."""
        self.wait = FIRST_POLL if moved else min(LONGEST_POLL, self.wait * 1.5)
        self._show(last=True)
        if self.open and self.capped is None:
            await self._pause(max(self.wait, self.asked_to_wait))
        self.asked_to_wait = 0.0

    def progress(self) -> AskProgress:
        """The current progress, with what the provider has done so far."""
        note = self.trouble
        if self.counts:
            done, failed = (sum(each) for each in zip(*self.counts.values(), strict=True))
            out = f"{len(self.counts)} out" if len(self.counts) > 1 else "out"
            note = f"batches {out}: {done} done, {failed} failed{note and '; ' + note}"
        return replace(super().progress(), note=note)

    # Calls

    async def _call(
        self,
        doing: str,
        work: Callable[[AsyncOpenAI], Awaitable[T]],
        seconds: float | None = None,
        *,
        about: SentBatch | None = None,
    ) -> T | Failed:
        """One call, perhaps about a batch. If it fails, time will help, or asking stops."""
        found = await self._watched(self.endpoint.call(work, seconds))
        if not isinstance(found, Failed):
            self.failures, self.reached, self.trouble = 0, time.monotonic(), ""
        elif found is not STOPPED:
            self._note_failure(doing, found, about)
        return found

    def _note_failure(self, doing: str, failed: Failed, about: SentBatch | None) -> None:
        self.failures, self.troubled = self.failures + 1, True
        self.trouble = f"{doing}: {failed.reason}{quote(failed.message)}"
        self.asked_to_wait = min(failed.retry_after or 0.0, LONGEST_RETRY_AFTER)
        over = time.monotonic() - self.reached > PATIENCE_SECONDS
        if about and failed.reason.startswith(_GONE):
            # Not freed by itself: with the key of another project it only looks gone.
            ledger, batch = map(shlex.quote, (self.ledger.database.name, about.batch or about.file))
            self.advice = (
                "use the key and project that sent it; if it is gone, run `python -m "
                f"caft.teachers.ledger forget {ledger} {batch}`, which counts its requests as "
                "charged, and then the same command again"
            )
        elif not self.reached:
            _refuse_without_interface(self.config, failed)
            over = self.failures > self.config.retries
        if over or failed.remedy is not Remedy.wait:
            self._stop_with(self.trouble)

    def _stop_with(self, problem: str) -> None:
        role = self.config.group.rpartition(".")[2]
        self._stop(f"the {role} at {self.config.base_url} ({self.config.model}): {problem}")

    # Sending

    async def _send_rest(self) -> None:
        """Send what is neither in a batch nor answered, as the caps allow."""
        if self.halted.is_set() or self.troubled:
            return
        sent = await self._find_sent()
        out = {key for batch in sent for key in batch.keys}
        free = [each for each in self.open if each.key not in self.replies.keys() | out]
        free = [each for each in free if each.key not in self.unanswered]
        while free and not self.halted.is_set() and (self.may_send_more or not out):
            self.may_send_more = True
            piece = take_piece(free, self.most_rows, MOST_BYTES)
            wanted = [(request.key, request.worst_usd) for request, _ in piece]
            claim = partial(self.ledger.claim_to_send, wanted, self.caps, self.config.retries + 1)
            claims, lost = await self._in_thread(claim)
            for key, costs in lost.items():
                self._leave_lost(self.requests[key], costs)
            if not await self._use_claims(claims, {each.key: line for each, line in piece}):
                may_free = claims.spending.in_flight and not claims.spending.used_up(self.caps)
                others = out or lost or claims.held or claims.taken or may_free
                if claims.capped and not others:
                    self.capped = claims.spending
                return
            out |= set(claims.taken)
            free = free[len(piece) :]

    async def _use_claims(self, claims: Claims, lines: Mapping[str, bytes]) -> bool:
        """Submit what was claimed; whether there may be more to send."""
        for reply in claims.bought:
            self.from_ledger += 1
            self._settled(reply)
        if claims.taken:
            await self._submit(claims.taken, b"".join(lines[key] for key in claims.taken))
        return not claims.capped and not self.troubled

    async def _submit(self, keys: Sequence[str], content: bytes) -> None:
        name = f"{IN_BATCH}{uuid.uuid4().hex}"
        file = await self._call(
            "uploading a batch's file", partial(upload, name=f"{name}.jsonl", content=content)
        )
        if not isinstance(file, Failed) and not self.halted.is_set():
            at, count = time.time(), len(keys)
            if await self._in_thread(lambda: self.ledger.hand_over(file, count, name)):
                new = SentBatch(id=name, file=file, batch="", age=0.0, keys=frozenset(keys))
                await self._create(new, at)
                return
        await self._in_thread(lambda: self.ledger.release(keys))

    async def _create(self, batch: SentBatch, at: float) -> None:
        """Create it, if that was allowed to us (`at`) just now: a machine may have slept since."""
        if time.time() - at > CREATE_SECONDS / 2:
            return

        created = await self._call(
            "creating a batch",
            partial(create, file=batch.file, name=batch.id),
            CREATE_SECONDS / 4,
            about=batch if batch.age else None,
        )
        new = not batch.age  # one that was handed over before may exist elsewhere
        if not isinstance(created, Failed):
            await self._note_created(batch, created)
        elif new and created.remedy is not Remedy.wait:
            await self._in_thread(lambda: self.ledger.undo(batch))

    async def _note_created(self, batch: SentBatch, provider_id: str) -> None:
        await self._in_thread(lambda: self.ledger.note_created(batch, provider_id))
        self.counts[batch.id] = (0, 0)
        log.info(
            "batch %s: %s sent to %s, done within 24 hours; Ctrl-C leaves it there, and the same "
            "command takes its results",
            provider_id, count_of(len(batch.keys), "request"), self.config.base_url,
        )  # fmt: skip

    # Results

    async def _look_at(self, sent: SentBatch) -> None:
        if self.halted.is_set():
            return
        if not sent.batch:
            await self._find_lost(sent)
            return
        batch = await self._call(
            f"looking at batch {sent.batch} of {count_of(len(sent.keys), 'request')}",
            partial(retrieve, batch=sent.batch),
            about=sent,
        )
        if isinstance(batch, Failed):
            return
        if batch.status == "failed":
            await self._undo(sent, batch)
        elif batch.status in _ENDED and not batch.may_be_unwritten(PATIENCE_SECONDS):
            await self._take(sent, batch)
        else:
            self.counts[sent.id] = (batch.done, batch.failed)

    async def _find_lost(self, sent: SentBatch) -> None:
        """Nobody wrote down that this batch was created: find it, or create it."""
        search = partial(find, file=sent.file, name=sent.id, age=sent.age)
        found = await self._call("listing batches", search, about=sent)
        if isinstance(found, Failed):
            return
        at = time.time()
        if found:
            await self._note_created(sent, found)
        elif await self._in_thread(lambda: self.ledger.take_over(sent, CREATE_SECONDS)):
            await self._create(sent, at)

    async def _undo(self, sent: SentBatch, batch: BatchState) -> None:
        """The provider refused the whole batch, and charged nothing."""
        self.counts.pop(sent.id, None)
        await self._in_thread(lambda: self.ledger.undo(sent))
        why = clean_words(self.endpoint.scrub(batch.why)) or "no reason is given"
        if "token_limit" in batch.why or "enqueued" in batch.why.casefold():
            self.most_rows = max(1, len(sent.keys) // 2)
            self.may_send_more, self.troubled = False, True
            self.asked_to_wait = LONGEST_POLL
            self.trouble = f"the provider holds enough of them for now ({why})"
            log.warning("batch %s has to wait: %s", sent.batch, why)
        else:
            self._stop_with(f"batch {sent.batch} failed ({why})")

    async def _take(self, sent: SentBatch, batch: BatchState) -> None:
        """Commit what a batch answered, and end the claims of what it did not."""
        seen: dict[str, bool] = {}
        for file in batch.files:
            doing = f"reading the results of batch {sent.batch}"
            read = partial(self._read, file=file, sent=sent, seen=seen)
            if isinstance(await self._call(doing, read, about=sent), Failed):
                return
        charged = batch.status == "completed" or batch.done > sum(seen.values())
        lost = Failed(reason=f"no result in batch {sent.batch}", maybe_charged=charged)
        await self._settle_rows(
            sent, [(self.requests[key], lost) for key in sent.keys - seen.keys()]
        )
        self.counts.pop(sent.id, None)
        self.may_send_more = True
        if batch.status == "cancelled":
            self.advice = "run the same command again to send those anew"
            self._stop_with(f"batch {sent.batch} was cancelled there")

    async def _read(
        self, client: AsyncOpenAI, file: str, sent: SentBatch, seen: dict[str, bool]
    ) -> None:
        """Settle the rows of a file as they come; `seen` says which of them were answered."""
        rows: list[Row] = []
        async with aclosing(read_lines(client, file)) as pieces:
            async for lines in pieces:
                rows += self._read_rows(lines, sent, seen)
                while len(rows) >= _AT_ONCE:
                    await self._settle_rows(sent, rows[:_AT_ONCE])
                    rows = rows[_AT_ONCE:]
        await self._settle_rows(sent, rows)

    def _read_rows(
        self, lines: Iterable[bytes], sent: SentBatch, seen: dict[str, bool]
    ) -> list[Row]:
        rows = []
        for line in lines:
            row = read_batch_row(line, self.endpoint.scrub)
            if row and row[0] in sent.keys and row[0] not in seen:
                seen[row[0]] = isinstance(row[1], Answered)
                rows.append((self.requests[row[0]], row[1]))
        return rows

    async def _settle_rows(self, sent: SentBatch, rows: Sequence[Row]) -> None:
        answered = [(request, each) for request, each in rows if isinstance(each, Answered)]
        failed = [(request, each) for request, each in rows if isinstance(each, Failed)]
        entries = [make_entry(*row, self.config, self.price) for row in answered]
        ended = [(r.key, f.reason, unsure_usd(r, f, self.price)) for r, f in failed]
        await self._in_thread(lambda: self.ledger.commit_from(sent, entries))
        await self._in_thread(lambda: self.ledger.end(sent, ended))
        self.calls += len(rows)
        for entry in entries:
            self.usd += entry.reply.usd
            self.throttle.succeed(entry.reply.completion_tokens)
            self._settled(entry.reply)
        for (request, each), (_, _, unsure) in zip(failed, ended, strict=True):
            self.unsure[request.key] += unsure
            self._settle_failed(request, each, unsure)

    def _settle_failed(self, request: PreparedRequest, failed: Failed, unsure: float) -> None:
        if failed.remedy is not Remedy.wait:
            if problem := self.throttle.fail(time.monotonic(), failed):
                self._stop_with(problem)
        elif unsure:
            return  # counted in the ledger, over all runs, and left when it is claimed again
        elif self.retried[request.key] < self.config.retries:
            self.retried[request.key] += 1
            return
        self._leave(request, failed)

    def _leave_lost(self, request: PreparedRequest, costs: Sequence[float]) -> None:
        self.most_lost, usd = max(self.most_lost, len(costs)), sum(costs)
        retries = f"{self.config.group}.retries={self.most_lost}"
        self.again = f"set {retries} or more to send what has no result once more"
        self.unsure[request.key] = usd
        times = count_of(len(costs), "time")
        reason = f"sent {times} without a result, which may have cost {usd:.4f} USD"
        self._leave(request, Failed(reason=reason))
