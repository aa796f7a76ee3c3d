"""`teacher=openai` and its presets: an endpoint that is paid by the token."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from caft.distill.accept import judge_reply
from caft.distill.forecast import CostForecast, Tariff, forecast_cost
from caft.distill.inputs import DistillInputs, from_reply, rationale_prompt
from caft.records import Rationale
from caft.teachers.api_key import check_address, check_endpoint
from caft.teachers.ask import Probe, ask_all
from caft.teachers.asks import Ask, find_replies, prepare
from caft.teachers.caps import Spending
from caft.teachers.config import OpenAITeacherConfig
from caft.teachers.finish import Finish, read_finish
from caft.teachers.ledger import Ledger
from caft.teachers.ledger_mark import read_mark, refuse_lost_replies
from caft.teachers.prices import find_price, look_up_price, price_settings
from caft.teachers.refusals import WRONG, advise, count_reasons, list_reasons, name_reason
from caft.teachers.replies import Request, TeacherReply, token_limits, write_body
from caft.text.prompts import Prompt

log = logging.getLogger(__name__)

FEW = 3
"""Repeats that may be chance."""


def check_openai(_questions_have_rationales: bool, teacher: OpenAITeacherConfig) -> None:
    """UserError for an address that cannot be asked, or a budget that has nothing to count."""
    check_address(teacher)
    look_up_price(teacher)


def check_paying(teacher: OpenAITeacherConfig) -> None:
    """UserError where the key or the price is missing that only a real request needs."""
    check_endpoint(teacher)
    find_price(teacher)


def ask_endpoint(job: DistillInputs, teacher: OpenAITeacherConfig) -> list[Rationale]:
    """Attempt by attempt; only what was refused is asked again."""
    by_question: dict[int, list[Rationale]] = {}
    said: dict[int, list[str]] = {}
    open_places = list(range(len(job.questions)))
    for attempt in range(teacher.attempts):
        replies = _ask(job, teacher, open_places, attempt)
        for place, reply in zip(open_places, replies, strict=True):
            by_question.setdefault(place, []).append(_judge(job, teacher, place, reply, attempt))
            said.setdefault(place, []).append(reply.text)
        if attempt:
            _warn_of_repeats([said[place] for place in open_places], teacher)
        open_places = [place for place in open_places if _is_open(by_question[place][-1])]
    rationales = [row for place in sorted(by_question) for row in by_question[place]]
    _tell_refusals(rationales)
    return rationales


def _ask(
    job: DistillInputs, teacher: OpenAITeacherConfig, places: Sequence[int], attempt: int
) -> list[TeacherReply]:
    asked = [_request(rationale_prompt(job.questions[place], job), attempt) for place in places]
    probing = attempt == 0 and 0 < teacher.probe_replies < len(asked)
    look = partial(_object_to, job, teacher)
    probe = Probe(teacher.probe_replies, look) if probing else None
    return ask_all(asked, teacher, job.ledger_path, job.progress, probe) if asked else []


def _object_to(
    job: DistillInputs, teacher: OpenAITeacherConfig, replies: Sequence[tuple[int, TeacherReply]]
) -> str:
    """Why no more should be bought: the first replies are all useless, for one reason.

    Wrong answers are no such reason: a teacher may be weak.
    """
    reasons = {name_reason(_judge(job, teacher, place, reply, 0)) for place, reply in replies}
    if len(reasons) > 1 or reasons & {"", WRONG}:
        return ""
    reason = reasons.pop()
    return (
        f"the first {len(replies)} replies of {teacher.model} are all refused as {reason}, and no "
        f"more were bought: {advise(reason)}; or set teacher.probe_replies=0 to buy them all"
    )


def _judge(
    job: DistillInputs, teacher: OpenAITeacherConfig, place: int, reply: TeacherReply, attempt: int
) -> Rationale:
    question = job.questions[place]
    limits = token_limits(write_body(Request((), attempt), teacher))
    came = from_reply(question, mark_cut(reply, limits), teacher.model or "", attempt)
    return judge_reply(question, came, job.rules)


def mark_cut(reply: TeacherReply, limits: Sequence[int]) -> TeacherReply:
    """A reply of full length is a cut one, whatever the server calls it.

    Even where it ends well: nobody can tell whether a sentence, or a correction, was to follow.
    """
    full = reply.counted and bool(limits) and reply.completion_tokens >= min(limits)
    claims_more = read_finish(reply.finish_reason) in (Finish.finished, Finish.unknown)
    return replace(reply, finish_reason="length") if full and claims_more else reply


def _tell_refusals(rationales: Sequence[Rationale]) -> None:
    counts = count_reasons(rationales)
    told = next((row.refusal for row in rationales if row.refusal.startswith("no_reply")), "")
    if counts:
        log.log(
            logging.INFO if set(counts) == {WRONG} else logging.WARNING,
            "%d of %d replies are refused: %s%s", sum(counts.values()), len(rationales),
            list_reasons(counts), f" (such as {told})" if told else "",
        )  # fmt: skip


def _warn_of_repeats(said: Sequence[Sequence[str]], teacher: OpenAITeacherConfig) -> None:
    """Say so where asking again is money for the same words: some servers do not sample."""
    repeats = sum(texts[-1] in texts[:-1] for texts in said)
    if repeats > len(said) / 2 and repeats >= FEW:
        log.warning(
            "%d of %d refused replies came back word for word when asked for again: %s does not "
            "seem to sample; set teacher.attempts=1, a higher teacher.reask_temperature, or what "
            "the server wants in teacher.extra",
            repeats, len(said), teacher.model,
        )  # fmt: skip


def _is_open(rationale: Rationale) -> bool:
    # What the endpoint, its filter or the model refused for good they will refuse again.
    final = read_finish(rationale.finish_reason) is Finish.withheld
    return not rationale.accepted and not rationale.refusal.startswith("no_reply") and not final


def _request(prompt: Prompt, attempt: int) -> Request:
    return Request(tuple((turn.role, turn.content) for turn in prompt.messages), attempt)


def estimate_asking(
    prompts: Sequence[Prompt], teacher: OpenAITeacherConfig, ledger_path: Path
) -> CostForecast:
    """What the calls that the ledger does not have would cost, beside what the caps leave."""
    asks = {ask.key: ask for ask in (prepare(_request(prompt, 0), teacher) for prompt in prompts)}
    paid, seen, spent = _look_into_ledger(ledger_path, teacher, list(asks.values()))
    missing = {key: len(json.dumps(ask.body)) for key, ask in asks.items() if key not in paid}
    price = look_up_price(teacher)
    tariff = Tariff(
        usd_per_million_prompt=price.prompt if price else None,
        usd_per_million_completion=price.completion if price else None,
        max_tokens=teacher.max_tokens,
        attempts=teacher.attempts,
    )
    estimate = forecast_cost(list(missing.values()), len(paid), tariff, seen)
    return replace(estimate, note=_describe_caps(estimate, teacher, spent))


def _describe_caps(estimate: CostForecast, teacher: OpenAITeacherConfig, spent: Spending) -> str:
    """What the caps leave, where that may not be enough, and prices that are missing."""
    notes = []
    if estimate.usd is None:
        notes.append(f"no run starts without {price_settings(teacher)}")
    elif teacher.budget_usd is not None:
        left = max(0.0, teacher.budget_usd - spent.usd - spent.unsure_usd)
        if estimate.usd.high > left:
            notes.append(f"teacher.budget_usd={teacher.budget_usd:g} leaves {left:.4f} USD")
    if teacher.max_calls is not None:
        calls = max(0, teacher.max_calls - spent.calls)
        if estimate.calls.high > calls:
            notes.append(f"teacher.max_calls={teacher.max_calls} leaves {calls} calls")
    return " and ".join(notes)


def _look_into_ledger(
    path: Path, teacher: OpenAITeacherConfig, asks: Sequence[Ask]
) -> tuple[set[str], list[tuple[int, int, int]], Spending]:
    had = read_mark(path)
    if not path.is_file():
        refuse_lost_replies(path, had, 0)
        return set(), [], Spending()
    with Ledger(path, teacher.model or "", reads_only=True) as ledger:
        return set(find_replies(ledger, asks, teacher)), ledger.token_counts(), ledger.spending()
