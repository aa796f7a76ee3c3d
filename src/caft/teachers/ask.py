"""Asks an endpoint many requests at once: the only way to a paid endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from caft.errors import UserError, count_of
from caft.signals import end_as_asked, ends_by_itself
from caft.teachers.address import is_loopback, same_place
from caft.teachers.batches import BatchWorkers, check_interface
from caft.teachers.config import EndpointConfig, OpenAITeacherConfig
from caft.teachers.ledger import BatchLedger, Ledger, Place
from caft.teachers.other_limits import find_under_other_limits
from caft.teachers.prices import check_paid, explain_cap, sends_batches
from caft.teachers.progress import Watcher
from caft.teachers.rate_limit import list_failures, quote
from caft.teachers.refusals import Finish, read_finish
from caft.teachers.replies import PreparedRequest, Request, TeacherReply, prepare
from caft.teachers.workers import Workers

_WAITING = (
    b"waiting for the calls in flight, which are paid for, and sending no more; a second signal "
    b"stops at once\n"
)
_GOING_ON = (
    b"the batches that were created go on at the provider, and the same command takes their "
    b"results; a second signal stops at once\n"
)


def ask_all(
    requests: Sequence[Request],
    config: EndpointConfig,
    ledger_path: Place,
    progress: Watcher | None = None,
    *,
    probe: int = 0,
    object_to: Callable[[Sequence[TeacherReply]], str] | None = None,
) -> list[TeacherReply]:
    """One reply for every request, in order; what the ledger has is not asked again.

    The first `probe` requests are sent before the others, live even where the others are sent as
    batches; if all have a reply, `object_to` returns the reason to buy no more, or nothing.

    Every reply is in the ledger before it counts as done. A request that the endpoint refuses
    for good is returned with its `failure`. Raises UserError, with every reply kept, where a cap
    is reached, the endpoint is down or refuses the key, `object_to` objects, or (unless
    `unanswered` is drop) where requests stayed without a reply after all retries. After a signal
    the calls in flight are waited for, and then the signal's exception is raised.
    """
    check_paid(config, pays=True)
    prepared = [prepare(request, config) for request in requests]
    by_key = {request.key: request for request in prepared}
    batched = sends_batches(config)
    if batched and probe:
        _probe_live(requests, config, ledger_path, progress, probe=probe, object_to=object_to)
        probe = 0
    with BatchLedger(ledger_path, config.model or "", sends=batched) as ledger:
        replies = find_replies(ledger, list(by_key.values()), config)
        missing = [request for key, request in by_key.items() if key not in replies]
        if missing:
            first = [request.key for request in prepared[:probe]]

            def find_objection(new: Mapping[str, TeacherReply]) -> str:
                found = [new.get(key) or replies.get(key) for key in first]
                probed = [reply for reply in found if reply and not reply.failure]
                return object_to(probed) if object_to and 0 < probe == len(probed) else ""

            if not batched:
                _refuse_batched(ledger, missing, config)
            kind = BatchWorkers if batched else Workers
            workers = kind(missing, config, ledger, len(replies), progress)
            with ends_by_itself(_GOING_ON if batched else _WAITING, second_ends=True):
                workers.settle_all(set(first), find_objection)
                _refuse_missing(workers, missing)
            end_as_asked()  # for a signal that came in the last moment
            replies |= workers.replies
    return [replies[request.key] for request in prepared]


def _probe_live(
    requests: Sequence[Request],
    config: EndpointConfig,
    place: Place,
    progress: Watcher | None,
    *,
    probe: int,
    object_to: Callable[[Sequence[TeacherReply]], str] | None,
) -> None:
    """Ask the first requests live, before a day is spent on the others; UserError if they object.

    Where a batch has some of the requests, this was done before, and it has perhaps these.
    """
    prepared = [prepare(request, config) for request in requests]
    with BatchLedger(place, config.model or "") as ledger:
        replies = find_replies(ledger, prepared, config)
        missing = [request.key for request in prepared if request.key not in replies]
        if not missing or ledger.find_batches(missing):
            return
        check_interface(config)
    probed = ask_all(requests[:probe], as_live(config), place, progress)
    answered = [reply for reply in probed if not reply.failure]
    problem = object_to(answered) if object_to and len(answered) == probe else ""
    if problem:
        raise UserError(f"{problem}; {probe} of {len(requests)} replies are kept")


def ask_live(request: Request, config: EndpointConfig, place: Place) -> TeacherReply | None:
    """A reply that others wait for; None where a batch that is out has the request."""
    if sends_batches(config):
        prepared = prepare(request, config)
        with BatchLedger(place, config.model or "") as ledger:
            if not find_replies(ledger, [prepared], config) and ledger.find_batches([prepared.key]):
                return None
    (reply,) = ask_all([request], as_live(config), place)
    return reply


def as_live(config: EndpointConfig) -> EndpointConfig:
    """The same endpoint, asked call by call."""
    return replace(config, batch=False) if isinstance(config, OpenAITeacherConfig) else config


def _refuse_batched(
    ledger: BatchLedger, requests: Sequence[PreparedRequest], config: EndpointConfig
) -> None:
    """UserError where some requests are in a batch that is out: they would be bought twice."""
    if sent := ledger.find_batches([request.key for request in requests]):
        count = sum(len(batch.keys) for batch in sent)
        raise UserError(
            f"a batch at {config.base_url} ({sent[0].batch or sent[0].file}) has {count} of "
            f"{count_of(len(requests), 'request')}, which would be bought twice; set "
            f"{config.group}.batch=true to take its results"
        )


def find_replies(
    ledger: Ledger, requests: Sequence[PreparedRequest], config: EndpointConfig
) -> dict[str, TeacherReply]:
    """The replies that the ledger has, by the requests' keys; none is written under another key.

    A reply under an old key is used if it comes from the same address, if it was paid for, since
    money is never lost, or if nothing would be paid now. So free replies of a mock server are not
    used in a paid run. One under another limit of length is used if it ended below both.
    """
    found = ledger.replies(request.key for request in requests)
    older = {request.old_key: request for request in requests if request.key not in found}
    here = same_place(config.base_url or "")
    for reply, endpoint in ledger.replies_and_endpoints(older):
        request = older[reply.key]
        free = request.worst_usd == 0 and is_loopback(config.base_url)
        serves = same_place(endpoint) == here or reply.usd > 0 or free
        # Replies that ended in a server's error were once kept by mistake.
        if serves and read_finish(reply.finish_reason) is not Finish.failed:
            found[request.key] = reply
    missing = [request for request in requests if request.key not in found]
    return found | find_under_other_limits(ledger, missing, config)


def _refuse_missing(workers: Workers, requests: Sequence[PreparedRequest]) -> None:
    """UserError if requests have no reply: the reason, the replies that are kept, and advice."""
    config, progress = workers.config, workers.progress()
    kept = f"{progress.replies} of {progress.total} replies are kept"
    if workers.stopped:
        raise UserError(
            f"{workers.stopped}; {kept}, {progress.total - progress.replies} are missing: "
            f"{workers.advice}"
        )
    missing = [request for request in requests if request.key not in workers.replies]
    if not missing:
        return
    if workers.capped is not None:
        worst = [request.worst_usd for request in missing]
        why = explain_cap(config, workers.capped, worst)
        raise UserError(f"{why}; {kept}")
    assert len(workers.unanswered) == len(missing), "a request was lost"
    raise UserError(
        f"{config.base_url} gave no reply to {count_of(len(missing), 'request')} after all retries "
        f"({list_failures(workers.unanswered.values())}){quote(workers.throttle.message)}; {kept}: "
        f"{workers.again}, or set {config.group}.unanswered=drop to continue without them"
    )
