"""`teacher=openai` and its presets: an endpoint that is paid by the token."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from caft.distill.accept import judge_reply
from caft.distill.forecast import Asked, CostForecast, Range, add_ranges, forecast_cost
from caft.distill.inputs import DistillInputs, from_reply
from caft.errors import count_of
from caft.records import Rationale
from caft.teachers.ask import as_live, ask_all, find_replies
from caft.teachers.config import EndpointConfig, OpenAITeacherConfig
from caft.teachers.ledger import BatchLedger, Place
from caft.teachers.prices import (
    Spending,
    find_batch_factor,
    look_up_price,
    missing_prices,
    sends_batches,
    usd_form,
)
from caft.teachers.refusals import (
    WRONG,
    Finish,
    advise,
    count_reasons,
    list_reasons,
    name_reason,
    read_finish,
)
from caft.teachers.replies import (
    PreparedRequest,
    Request,
    TeacherReply,
    asks_alternatives,
    prepare,
    token_limits,
)
from caft.text.prompts import Prompt

log = logging.getLogger(__name__)

FEW = 3
"""Repeats that may be chance."""


def ask_endpoint(inputs: DistillInputs, teacher: OpenAITeacherConfig) -> list[Rationale]:
    """Attempt by attempt; only what was refused is asked again."""
    prompts = inputs.prompts
    by_question: list[list[Rationale]] = [[] for _ in prompts]
    texts: list[list[str]] = [[] for _ in prompts]
    asked = list(range(len(prompts)))
    for attempt in range(teacher.attempts):
        if not asked:
            break
        requests = [Request(prompts[place].turns, attempt) for place in asked]
        probes = attempt == 0 and teacher.probe_replies < len(requests)
        replies = ask_all(
            requests,
            teacher,
            inputs.ledger_path,
            inputs.progress,
            probe=teacher.probe_replies if probes else 0,
            object_to=partial(_object_to, inputs, teacher),
        )
        for place, reply in zip(asked, replies, strict=True):
            by_question[place].append(_judge(inputs, teacher, place, reply, attempt))
            texts[place].append(reply.text)
        if attempt:
            _warn_of_repeats([texts[place] for place in asked], teacher)
        asked = [place for place in asked if _is_open(by_question[place][-1])]
    rationales = [row for rows in by_question for row in rows]
    _log_refusals(rationales)
    return rationales


def _object_to(
    inputs: DistillInputs, teacher: OpenAITeacherConfig, replies: Sequence[TeacherReply]
) -> str:
    """The reason to buy no more: the first replies are all refused for one reason.

    Wrong answers are no such reason: a teacher may be weak.
    """
    judged = (_judge(inputs, teacher, *row, attempt=0) for row in enumerate(replies))
    reasons = set(map(name_reason, judged))
    if len(reasons) != 1 or reasons & {"", WRONG}:
        return ""
    (reason,) = reasons
    return (
        f"{teacher.model} wrote {count_of(len(replies), 'reply')} first, all refused as {reason}, "
        f"and no more were bought: {advise(reason)}; or set teacher.probe_replies=0 to buy them all"
    )


def _judge(
    inputs: DistillInputs,
    teacher: OpenAITeacherConfig,
    place: int,
    reply: TeacherReply,
    attempt: int,
) -> Rationale:
    question = inputs.questions[place]
    full = reply.counted and reply.completion_tokens >= min(token_limits(teacher))
    if full and read_finish(reply.finish_reason) in (Finish.finished, Finish.unknown):
        # It counts as cut even if it ends well: a correction might have followed.
        reply = replace(reply, finish_reason="length")
    row = from_reply(question, reply, teacher.model or "", attempt)
    return judge_reply(question, row, inputs.rules)


def _log_refusals(rationales: Sequence[Rationale]) -> None:
    counts = count_reasons(rationales)
    example = next((row.refusal for row in rationales if row.refusal.startswith("no_reply")), "")
    if counts:
        log.log(
            logging.INFO if set(counts) == {WRONG} else logging.WARNING,
            "%d of %d replies are refused: %s%s", sum(counts.values()), len(rationales),
            list_reasons(counts), f" (such as {example})" if example else "",
        )  # fmt: skip


def _warn_of_repeats(texts: Sequence[Sequence[str]], teacher: OpenAITeacherConfig) -> None:
    """A warning: if a server does not sample, asking again pays for the same text."""
    repeats = sum(attempts[-1] in attempts[:-1] for attempts in texts)
    if repeats > len(texts) / 2 and repeats >= FEW:
        log.warning(
            "%d of %d refused replies were repeated word for word when asked again: %s does not "
            "seem to sample; set teacher.attempts=1, a higher teacher.reask_temperature, or what "
            "the server needs for that in teacher.extra",
            repeats, len(texts), teacher.model,
        )  # fmt: skip


def _is_open(rationale: Rationale) -> bool:
    # What the endpoint, its filter or the model refused for good is refused again.
    final = read_finish(rationale.finish_reason) is Finish.withheld
    return not rationale.accepted and not rationale.refusal.startswith("no_reply") and not final


def find_open(
    requests: Sequence[DistillInputs], teacher: OpenAITeacherConfig
) -> list[tuple[PreparedRequest, int]]:
    """What is asked next where the ledger's replies to a question are all refused.

    Each with the calls that the question may still take.
    """
    if teacher.attempts == 1:
        return []
    found: dict[str, tuple[PreparedRequest, int]] = {}
    with BatchLedger(requests[0].ledger_path, teacher.model or "", reads_only=True) as ledger:
        for inputs in requests:
            prompts = inputs.prompts
            places: Sequence[int] = range(len(prompts))
            for attempt in range(teacher.attempts):
                wanted = [prepare(Request(prompts[at].turns, attempt), teacher) for at in places]
                replies = find_replies(ledger, wanted, teacher)
                left = teacher.attempts - attempt
                missing = [each for each in wanted if attempt and each.key not in replies]
                found |= {each.key: (each, left) for each in missing}
                known = zip(places, wanted, strict=True)
                answered = [(at, replies[each.key]) for at, each in known if each.key in replies]
                places = [
                    at for at, reply in answered
                    if _is_open(_judge(inputs, teacher, at, reply, attempt))
                ]  # fmt: skip
    return list(found.values())


def forecast_endpoint(
    sets: Sequence[Sequence[Prompt]],
    endpoint: EndpointConfig,
    ledger_path: Place,
    asked_again: Sequence[tuple[PreparedRequest, int]] = (),
    before: Sequence[CostForecast] = (),
) -> CostForecast:
    """What the calls that the ledger does not have would cost, beside what the caps leave.

    The prompts of a set are asked together, the first ones live. `asked_again` are those whose
    replies so far are refused, each with the calls that it may still take. `before` are the
    stages of a plan that ask first, and spend of the same caps.
    """
    before = [each for each in before if each.model == endpoint.model]
    prepared = [[prepare(Request(prompt.turns), endpoint) for prompt in one] for one in sets]
    requests = {request.key: request for one in prepared for request in one}
    again = {request.key: request for request, _ in asked_again}
    paid, out, seen, spent = _read_ledger(ledger_path, endpoint, list((requests | again).values()))
    look_up_price(endpoint)  # UserError where that of a batch is not known
    foresee = partial(
        forecast_cost,
        price=look_up_price(as_live(endpoint)),
        max_tokens=max(token_limits(endpoint)),
        seen=seen,
    )
    attempts = endpoint.attempts if isinstance(endpoint, OpenAITeacherConfig) else 1
    open_ = [(each, attempts) for key, each in requests.items() if key not in paid]
    whole = foresee([_count_calls(*each, out) for each in (*open_, *asked_again)])
    paid, sent = paid & requests.keys(), out & requests.keys()
    first = {key for one in prepared for key in _find_probes(one, endpoint, paid, sent)}
    probes = foresee([Asked(requests[key].size, 1, 1) for key in first])
    as_batch = _price_as_batch(whole.usd, probes.usd, find_batch_factor(endpoint))
    batched = sends_batches(endpoint)
    forecast = replace(whole, usd=as_batch) if batched and as_batch else whole
    live = out and not batched
    notes = (
        f"set {endpoint.group}.batch=true to take the batch's replies" if live else "",
        _name_both_prices(whole.usd, as_batch),
        _describe_caps(forecast, endpoint, spent, before),
    )
    return replace(
        forecast,
        questions=len(requests),
        from_ledger=len(paid),
        in_batch=len(out),
        model=endpoint.model,
        note="; ".join(filter(None, notes)),
    )


def _count_calls(request: PreparedRequest, left: int, out: set[str]) -> Asked:
    """The calls of a question that may still take `left`; one that is in a batch is no new one."""
    new = request.key not in out
    return Asked(request.size, int(new), left - int(not new))


def _find_probes(
    requests: Sequence[PreparedRequest], endpoint: EndpointConfig, paid: set[str], sent: set[str]
) -> set[str]:
    """The keys of those that are asked live even where the others go into a batch."""
    if not isinstance(endpoint, OpenAITeacherConfig):
        return set()
    keys = [request.key for request in requests]
    alone = asks_alternatives(endpoint)
    count = 1 if alone else endpoint.probe_replies
    # Where a batch is out they have been asked; and all there are would be no probe.
    if sent.intersection(keys) or (len(keys) <= count and not alone):
        return set()
    return set(keys[:count]) - paid


def _price_as_batch(
    whole: Range | None, probes: Range | None, factor: float | None
) -> Range | None:
    """What calls cost as a batch that cost so much live, `probes` being those that stay live."""
    if factor is None or whole is None or probes is None:
        return None
    both = zip(whole, probes, strict=True)
    return Range(*(usd * factor + live * (1 - factor) for usd, live in both))


def _name_both_prices(live: Range | None, as_batch: Range | None) -> str:
    """What the calls would cost live and as a batch, where both prices are known."""
    if live is None or as_batch is None or not as_batch.likely:
        return ""
    return f"{live.likely:.4f} USD live, {as_batch.likely:.4f} as a batch, within 24 hours"


def _describe_caps(
    forecast: CostForecast,
    endpoint: EndpointConfig,
    spent: Spending,
    before: Sequence[CostForecast],
) -> str:
    """What the caps leave, if that may not be enough, and prices that are missing."""
    notes = []
    whom = " for this stage and those before it" if any(each.calls.high for each in before) else ""
    if forecast.usd is None:
        notes.append(f"no run starts without {missing_prices(endpoint)}")
    elif endpoint.budget_usd is not None:
        left = max(0.0, endpoint.budget_usd - spent.usd - spent.unsure_usd - spent.reserved_usd)
        usd = add_ranges([forecast.usd, *(each.usd for each in before if each.usd)])
        if forecast.usd.high and usd.high > left:
            budget = f"{endpoint.group}.budget_usd={endpoint.budget_usd:g}"
            lack = _describe_lack(usd.likely, left, usd_form(usd.likely))
            notes.append(f"{budget} leaves {left:{usd_form(left)}} USD{whom}, {lack}")
    if endpoint.max_calls is not None:
        calls = add_ranges([forecast.calls, *(each.calls for each in before)])
        rest = max(0, endpoint.max_calls - spent.calls)
        if forecast.calls.high and calls.high > rest:
            notes.append(
                f"{endpoint.group}.max_calls={endpoint.max_calls} leaves "
                f"{count_of(rest, 'call')}{whom}, {_describe_lack(calls.likely, rest, ',.0f')}"
            )
    return "; and ".join(notes)


def _describe_lack(likely: float, left: float, form: str) -> str:
    """What follows where a cap leaves so much, and it is not sure that it is enough."""
    if likely <= left:
        return "enough for the likely cost and not for the highest"
    return f"and about {likely:{form}} are needed: the run would stop there and keep what it bought"


def _read_ledger(
    place: Place, endpoint: EndpointConfig, requests: Sequence[PreparedRequest]
) -> tuple[set[str], set[str], list[tuple[int, int, int]], Spending]:
    """The keys that are paid, those in a batch, the lengths of replies, and what was spent."""
    with BatchLedger(place, endpoint.model or "", reads_only=True) as ledger:
        paid = set(find_replies(ledger, requests, endpoint))
        batches = ledger.find_batches([each.key for each in requests if each.key not in paid])
        sent = {key for batch in batches for key in batch.keys}
        return paid, sent, ledger.token_counts(), ledger.spending()
