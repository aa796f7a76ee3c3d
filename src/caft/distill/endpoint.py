"""`teacher=openai` and its presets: an endpoint that is paid by the token."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from caft.distill.accept import judge_reply
from caft.distill.estimate import Estimate, Tariff, estimate_cost
from caft.distill.job import Job, ask_words, from_reply
from caft.records import Rationale
from caft.teachers.api_key import check_address, check_endpoint
from caft.teachers.ask import ask_all
from caft.teachers.config import OpenAITeacherConfig
from caft.teachers.ledger import Ledger, Spending
from caft.teachers.prices import find_price, look_up_price, price_settings
from caft.teachers.replies import Request, reply_key, write_body
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


def ask_endpoint(job: Job, teacher: OpenAITeacherConfig) -> list[Rationale]:
    """Attempt by attempt; only what was refused is asked again."""
    by_question: dict[int, list[Rationale]] = {}
    said: dict[int, list[str]] = {}
    open_places = list(range(len(job.questions)))
    for attempt in range(teacher.attempts):
        asked = [_request(ask_words(job.questions[place], job), attempt) for place in open_places]
        replies = ask_all(asked, teacher, job.ledger_path, job.progress) if asked else []
        for place, reply in zip(open_places, replies, strict=True):
            question = job.questions[place]
            came = from_reply(question, reply, teacher.model or "", attempt)
            by_question.setdefault(place, []).append(judge_reply(question, came, job.rules))
            said.setdefault(place, []).append(reply.text)
        if attempt:
            _warn_of_repeats([said[place] for place in open_places], teacher)
        open_places = [place for place in open_places if _is_open(by_question[place][-1])]
    return [rationale for place in sorted(by_question) for rationale in by_question[place]]


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
    # What the endpoint refused for good it will refuse again.
    return not rationale.accepted and not rationale.refusal.startswith("no_reply")


def _request(prompt: Prompt, attempt: int) -> Request:
    return Request(tuple((turn.role, turn.content) for turn in prompt.messages), attempt)


def estimate_asking(
    prompts: Sequence[Prompt], teacher: OpenAITeacherConfig, ledger_path: Path
) -> Estimate:
    """What the calls that the ledger does not have would cost, beside what the caps leave."""
    bodies = [write_body(_request(prompt, 0), teacher) for prompt in prompts]
    asks = {reply_key(body, 0): body for body in bodies}
    paid, seen, spent = _look_into_ledger(ledger_path, teacher.model or "", list(asks))
    missing = {key: len(json.dumps(body)) for key, body in asks.items() if key not in paid}
    price = look_up_price(teacher)
    tariff = Tariff(
        usd_per_million_prompt=price.prompt if price else None,
        usd_per_million_completion=price.completion if price else None,
        max_tokens=teacher.max_tokens,
        attempts=teacher.attempts,
    )
    estimate = estimate_cost(list(missing.values()), len(paid), tariff, seen)
    return replace(estimate, note=_describe_caps(estimate, teacher, spent))


def _describe_caps(estimate: Estimate, teacher: OpenAITeacherConfig, spent: Spending) -> str:
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
    path: Path, model: str, keys: Sequence[str]
) -> tuple[set[str], list[tuple[int, int, int]], Spending]:
    if not path.is_file():
        return set(), [], Spending()
    with Ledger(path, model, reads_only=True) as ledger:
        return set(ledger.replies(keys)), ledger.token_counts(), ledger.spending()
