"""Interprets any response: a reply, or a failure with what helps. Pure; never raises.

Servers differ in everything but the outline of the protocol. After a failure it helps to wait if
the server broke down, and nothing helps if it refused for good.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import NamedTuple

from caft.teachers.refusals import Finish, read_finish
from caft.teachers.words import clean_words, find_words, well_formed

Scrub = Callable[[str], str]
"""Removes secrets from a text."""

_ADDRESS_OR_MODEL = (404, 405, 410)
_AGAIN = (408, 409, 425, 429)
_BROKE_DOWN = 502
_LONGEST_FINISH = 40
_LONGEST_NUMBER = 18
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
_OTHER_REASONS = (
    "stop_reason", "native_finish_reason", "finishReason", "stopReason", "done_reason",
)  # fmt: skip
_STATUS_WORDS = {
    400: "content_filter content_policy_violation context_length_exceeded invalid_request_error "
    "invalid_argument bad_request badrequesterror",
    401: "invalid_api_key authentication_error unauthorized unauthenticated",
    402: "insufficient_quota billing_hard_limit_reached payment_required "
    "exceeded_current_quota_error",
    403: "permission_denied permission_error forbidden",
    404: "model_not_found not_found not_found_error notfounderror",
    429: "rate_limit_exceeded rate_limit_error resource_exhausted too_many_requests",
    504: "timeout deadline_exceeded",
}
_STATUS_OF = {word: status for status, words in _STATUS_WORDS.items() for word in words.split()}
_NO_CREDIT = re.compile(
    # With the complaint: a refusal may quote a question about money.
    r"(?:credit|account) balance (?:is )?(?:too low|insufficient|not enough|exhausted)"
    r"|key limit exceeded|billing hard limit|(?:its|your|monthly) (?:\w+ )?spending limit"
    r"|(?:have|has) no credits|^\W*no credits"
    r"|insufficient[ _](?:\w+[ _])?(?:credit|balance|quota)s?\b|insufficient[ _]funds\W*$",
    re.I,
)
_BAD_KEY = re.compile(r"api key (?:not valid|expired)", re.I)


class Usage(NamedTuple):
    """The tokens and the USD that a server counts for one call, each None if it does not."""

    prompt_tokens: int | None
    completion_tokens: int | None
    usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A reply. Token counts and USD are None if the server reports none.

    `reasoning` is what the model thought, where the server sends it apart from the text.
    `alternatives` are the likeliest first tokens, where they were asked for and are given: JSON, a
    list of [token, natural logarithm of its probability].
    """

    text: str
    finish_reason: str
    reasoning: str = ""
    alternatives: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    usd: float | None = None
    seconds: float = 0.0


class Remedy(Enum):
    """The remedy for a failed call: wait, leave this request out, or ask the user to act."""

    wait = "wait"
    leave_out = "leave_out"
    ask_user = "ask_user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A call without a reply: the reason, and the server's own `message`, both without secrets.

    `maybe_charged`: the server may have done the work, of which `usage` is what it counts; `busy`:
    it works and only asks for fewer calls; `unreachable`: nothing listens at the address.
    `retry_after` are the seconds that it asks to wait, if it does.
    """

    reason: str
    message: str = ""
    remedy: Remedy = Remedy.wait
    maybe_charged: bool = False
    busy: bool = False
    unreachable: bool = False
    retry_after: float | None = None
    usage: Usage | None = None


# An HTTP status


def classify_status(status: int, code: str, message: str, headers: Mapping[str, str]) -> Failed:
    """What an HTTP error means for us; `message` is the server's, already without secrets.

    `code` is as of `find_code`. Some refuse a key, or an account without credit, as others do one
    request.
    """
    message = " ".join(message.split())
    told = f"{code} {message}" if status in (400, 403) else ""
    reason = f"HTTP {status}"
    full = f"{reason}: {message}" if message else reason
    if status == 401 or _BAD_KEY.search(told):
        reason += ": the key was refused"
        return Failed(reason=reason, message=message, remedy=Remedy.ask_user)
    unpaid = "insufficient_quota" in code or 402 in map(_STATUS_OF.get, code.split())
    if status == 402 or unpaid or _NO_CREDIT.search(told):
        credit = f"{reason}: no credit left{message and ': ' + message}"
        return Failed(reason=credit, remedy=Remedy.ask_user)
    if status in _ADDRESS_OR_MODEL:
        return Failed(reason=full, remedy=Remedy.ask_user)
    if status in _AGAIN or status >= 500:
        wait = read_retry_after(headers, time.time())
        late = status in (504, 524)  # a gateway timed out, but the work may have been done
        return Failed(
            reason=reason, message=message, busy=status == 429, retry_after=wait, maybe_charged=late
        )
    return Failed(reason=full, remedy=Remedy.leave_out)


def find_code(error: object) -> str:
    """The code and the type of a server's error, as words."""
    return " ".join(_short_word(_table(error).get(name)) for name in ("code", "type")).strip()


def read_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a server asks to wait, from either header or a date; None if it does not."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None


# A body


def read_body(raw: bytes, scrub: Scrub, seconds: float) -> Answered | Failed:
    """What the body of a response with status 200 means; `seconds` is how long it took.

    A byte that is no UTF-8 becomes U+FFFD: asking again would most likely pay for the same byte.
    """
    text = raw.decode("utf-8-sig", "replace")
    try:
        data: object = json.loads(text, parse_int=_read_int)
    except (ValueError, RecursionError):
        message = clean_words(scrub(text))
        return Failed(reason="reply is not JSON", message=message, maybe_charged=True)
    completion = _table(data)
    choices = completion.get("choices")
    found: tuple[str, str, str] | Failed | None = None
    if completion.get("error"):
        found = _read_error(completion["error"], scrub)
    elif isinstance(choices, list) and choices and isinstance(choices[0], dict):
        found = _read_choice(choices[0], scrub)
    elif not choices and _is_blocked(completion):
        found = "", "content_filter", ""
    elif _find_status(data):
        found = _read_error(data, scrub)
    if found is None:
        message = clean_words(scrub(find_words(data)))
        found = Failed(reason="reply is not a chat completion", message=message, maybe_charged=True)
    if isinstance(found, Failed):
        return note_usage(found, completion)
    usage = _read_usage(completion)
    return Answered(
        text=scrub(well_formed(found[0])),
        finish_reason=clean_words(scrub(found[1]))[:_LONGEST_FINISH],
        reasoning=scrub(well_formed(found[2])),
        alternatives=scrub(well_formed(_alternatives_in(choices))),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        usd=usage.usd,
        seconds=seconds,
    )


def note_usage(failed: Failed, body: object) -> Failed:
    """The failure with what its body counts, if anything: a call that used tokens is charged."""
    usage = _read_usage(_table(body))
    return replace(failed, maybe_charged=True, usage=usage) if any(usage) else failed


def _read_usage(completion: Mapping[str, object]) -> Usage:
    """What a body counts, thinking included.

    xAI and some gateways leave the tokens of thinking out of `completion_tokens`, but not out of
    the total, and charge them as such.
    """
    usage = _table(completion.get("usage"))
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    prompt, written, total = (_count(usage.get(name)) for name in names)
    if prompt and total is not None and total - prompt > (written or 0):
        written = total - prompt
    return Usage(prompt_tokens=prompt, completion_tokens=written, usd=_read_cost(usage))


def _read_cost(usage: Mapping[str, object]) -> float | None:
    """USD of a call, both parts where OpenRouter uses the user's own key of the provider.

    Then `cost` is only its fee. For other calls it repeats the cost as the provider's.
    """
    cost = _number(usage.get("cost"), 10**6)
    details = _table(usage.get("cost_details"))
    upstream = _number(details.get("upstream_inference_cost"), 10**6)
    own_key = usage.get("is_byok")
    if own_key is True:
        return (cost or 0.0) + upstream if upstream else None
    # Where it is not said whose key it was, a fee is a small part of the provider's bill.
    if own_key is None and upstream and (cost is None or cost < upstream / 2):
        return (cost or 0.0) + upstream
    return cost


def read_batch_row(line: bytes, scrub: Scrub) -> tuple[str, Answered | Failed] | None:
    """Which request (its `custom_id`) a line of a batch's output is about, and its outcome.

    None for a line that is no such row.
    """
    try:
        row: object = json.loads(line.decode("utf-8-sig", "replace"), parse_int=_read_int)
    except (ValueError, RecursionError):
        return None
    key, response = _table(row).get("custom_id"), _table(_table(row).get("response"))
    if not isinstance(key, str):
        return None
    status, body = response.get("status_code"), response.get("body")
    if status == 200:
        return key, read_body(json.dumps(body).encode(), scrub, 0.0)
    error = _table(body).get("error", body) or _table(row).get("error")
    code, message = _short_word(_table(error).get("code")), clean_words(scrub(find_words(error)))
    if isinstance(status, int) and 400 <= status < 600:
        return key, note_usage(classify_status(status, find_code(error), message, {}), body)
    if error and _find_status(error):
        return key, _read_error(error, scrub)
    # An error without a status, such as batch_expired: it was never executed.
    reason = clean_words(scrub(code)) or "failed" if error else "reply is not a chat completion"
    return key, Failed(reason=reason, message=message, maybe_charged=not error)


def _read_choice(
    choice: Mapping[str, object], scrub: Scrub
) -> tuple[str, str, str] | Failed | None:
    """Text, finish reason and reasoning; None if there is no message."""
    reason = _finish_of(choice)
    if choice.get("error"):
        return _read_error(choice["error"], scrub)
    if read_finish(reason) is Finish.failed:
        return _read_error({"message": choice.get("native_finish_reason")}, scrub)
    text = _text_in(choice, reason)
    if text is None:
        return None
    reasoning = _reasoning_in(_table(choice.get("message", choice.get("delta"))))
    refusal = _table(choice.get("message")).get("refusal")
    if refusal and isinstance(refusal, str):
        # Set if the model declines, whatever the server calls it.
        text, reason = refusal, "refusal"
    return text, reason, reasoning


def _read_error(error: object, scrub: Scrub) -> Failed:
    """An error in a body means what the same HTTP status means; without one, a breakdown."""
    message = clean_words(scrub(find_words(error)))
    return classify_status(_find_status(error) or _BROKE_DOWN, find_code(error), message, {})


def _find_status(error: object) -> int:
    """The HTTP status that an error names, as a number or as a known word; 0 for none."""
    for name in ("code", "status_code", "status", "http_status", "type"):
        word = _short_word(_table(error).get(name))
        if word.isascii() and word.isdigit() and 400 <= int(word) < 600:
            return int(word)
        if word in _STATUS_OF:
            return _STATUS_OF[word]
    return 0


def _finish_of(choice: Mapping[str, object]) -> str:
    """The finish reason; where it says nothing, another server's name for one that is known."""
    reason = choice.get("finish_reason")
    if reason is None or (isinstance(reason, str) and not reason.strip()):
        others = (choice.get(name) for name in _OTHER_REASONS)
        known = (each for each in others if isinstance(each, str) and _is_known(each))
        reason = next(known, "")
    return reason if isinstance(reason, str) else find_words(reason) or "unreadable"


def _is_known(reason: str) -> bool:
    return bool(reason.strip()) and read_finish(reason) is not Finish.unknown


def _is_blocked(completion: Mapping[str, object]) -> bool:
    """Whether a filter stopped the prompt itself, as Gemini reports it: for good."""
    verdicts = [_table(completion.get(name)) for name in ("prompt_feedback", "promptFeedback")]
    return any(verdict.get("block_reason") or verdict.get("blockReason") for verdict in verdicts)


def _text_in(choice: Mapping[str, object], reason: str) -> str | None:
    """The text of a choice, or of where older completions and streams have theirs; "" for none.

    None if this is no message; a null one is a filter's verdict if there is a finish reason.
    """
    text = choice.get("text")
    if "message" not in choice and isinstance(text, str):
        return text
    message = choice.get("message", choice.get("delta"))
    if message is None:
        return "" if reason else None
    if not isinstance(message, dict):
        return None
    content = message.get("content")
    if isinstance(content, list):
        return "".join(map(_text_of_part, content))
    return content or "" if isinstance(content, str | None) else None


def _alternatives_in(choices: object) -> str:
    """The first token's alternatives as JSON; empty where the server gives none."""
    choice = choices[0] if isinstance(choices, list) and choices else None
    content = _table(_table(choice).get("logprobs")).get("content")
    first = _table(content[0] if isinstance(content, list) and content else None)
    top = first.get("top_logprobs")
    rows = map(_table, top if isinstance(top, list) else ())
    pairs = [[row.get("token"), row.get("logprob")] for row in rows]
    return json.dumps(pairs, ensure_ascii=False) if pairs else ""


def _text_of_part(part: object) -> str:
    if isinstance(part, dict):
        spoken = part.get("type") in ("text", "output_text", None)
        part = part.get("text") if spoken else None
        part = part.get("value") if isinstance(part, dict) else part
    return part if isinstance(part, str) else ""


def _reasoning_in(message: Mapping[str, object]) -> str:
    """What the model thought: a field of the message, or parts of its content; "" for none."""
    fields = (message.get(name) for name in _REASONING_FIELDS)
    told = next((each for each in fields if isinstance(each, str) and each.strip()), "")
    content = message.get("content")
    parts = content if isinstance(content, list) and not told else []
    return told or "".join(map(_reasoning_of_part, parts))


def _reasoning_of_part(part: object) -> str:
    """Such as {"type": "thinking", "thinking": "..."}; Mistral's holds a list of text parts."""
    if not isinstance(part, dict) or part.get("type") not in ("thinking", "reasoning"):
        return ""
    inner = part.get("thinking", part.get("text"))
    return "".join(map(_text_of_part, inner)) if isinstance(inner, list) else _text_of_part(inner)


def _table(value: object) -> Mapping[str, object]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def _short_word(value: object) -> str:
    return str(value)[:_LONGEST_FINISH].casefold().strip() if isinstance(value, str | int) else ""


def _read_int(digits: str) -> int | None:
    # Python refuses to read thousands of digits, and nothing here counts that far.
    return int(digits) if len(digits) <= _LONGEST_NUMBER else None


def _count(value: object) -> int | None:
    number = _number(value, 10**9)
    return int(number) if number is not None and number.is_integer() else None


def _number(value: object, below: int) -> float | None:
    """A number from 0 to below a bound; None for anything else, NaN and truth values too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < below else None
