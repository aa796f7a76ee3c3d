"""From a response's body to what became of the call, whatever the body is. Pure; never raises.

What comes back is somebody else's text, and servers differ in everything but the outline of the
protocol. Each reply thus is accepted, or failed with what helps: waiting where the server broke
down, nothing where it has answered for good.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from caft.teachers.finish import Finish, read_finish
from caft.teachers.outcome import Answered, Failed, classify_status
from caft.teachers.words import clean_words, find_words, well_formed

Scrub = Callable[[str], str]
"""Takes secrets out of a text."""

DECLINED = "refusal"
"""The finish reason of a reply in which the model declines, whatever the server calls it."""

FILTERED = "content_filter"
"""The finish reason of an answer without any choice that names what blocked the prompt."""

_BROKE_DOWN = 502
_LONGEST_FINISH = 40
_LONGEST_NUMBER = 18
_OTHER_REASONS = (
    "stop_reason", "native_finish_reason", "finishReason", "stopReason", "done_reason",
)  # fmt: skip
_VERDICTS = ("prompt_feedback", "promptFeedback")
_STATUS_OF = {
    "insufficient_quota": 402, "billing_hard_limit_reached": 402, "payment_required": 402,
    "invalid_api_key": 401, "authentication_error": 401, "unauthorized": 401,
    "unauthenticated": 401, "permission_denied": 403, "permission_error": 403, "forbidden": 403,
    "model_not_found": 404, "not_found": 404, "not_found_error": 404, "notfounderror": 404,
    "rate_limit_exceeded": 429, "rate_limit_error": 429, "resource_exhausted": 429,
    "too_many_requests": 429, "content_filter": 400, "content_policy_violation": 400,
    "context_length_exceeded": 400, "invalid_request_error": 400, "invalid_argument": 400,
    "bad_request": 400, "badrequesterror": 400, "timeout": 504, "deadline_exceeded": 504,
}  # fmt: skip


def read_body(raw: bytes, scrub: Scrub, seconds: float) -> Answered | Failed:
    """What the body of a response with status 200 says; `seconds` is how long it took.

    A byte that is no UTF-8 becomes U+FFFD, which the judge refuses: the reply is paid for, and
    asking again would most likely pay for the same byte.
    """
    text = raw.decode("utf-8-sig", "replace")
    try:
        data = json.loads(text, parse_int=_read_int)
    except (ValueError, RecursionError):
        said = clean_words(scrub(text))
        return Failed(reason="reply is no JSON", said=said, maybe_charged=True)
    return read_completion(data, scrub, seconds)


def read_completion(data: object, scrub: Scrub, seconds: float) -> Answered | Failed:
    """A chat completion's first choice, or what went wrong with it."""
    if not isinstance(data, dict):
        return _no_completion(data, scrub)
    if data.get("error"):
        return read_error(data["error"], scrub, _BROKE_DOWN)
    choices = data.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return _read_choice(choices[0], data, scrub, seconds)
    if not choices and _is_blocked(data):
        return _answer("", FILTERED, data, scrub, seconds)
    status = find_status(data, 0)
    return read_error(data, scrub, status) if status else _no_completion(data, scrub)


def _read_choice(
    choice: Mapping[str, Any], data: Mapping[str, Any], scrub: Scrub, seconds: float
) -> Answered | Failed:
    reason = _finish_of(choice)
    if choice.get("error"):
        return read_error(choice["error"], scrub, _BROKE_DOWN)
    if read_finish(reason) is Finish.failed:
        return read_error({"message": choice.get("native_finish_reason")}, scrub, _BROKE_DOWN)
    text = _text_in(choice, reason)
    if text is None:
        return _no_completion(data, scrub)
    declined = _refusal_of(choice.get("message"))
    return _answer(declined or text, DECLINED if declined else reason, data, scrub, seconds)


def read_error(error: object, scrub: Scrub, otherwise: int) -> Failed:
    """An error in a body means what the same HTTP status means; `otherwise` where it has none."""
    code = _word(error.get("code")) if isinstance(error, dict) else ""
    words = clean_words(scrub(find_words(error)))
    return classify_status(find_status(error, otherwise), code, words, {})


def find_status(error: object, otherwise: int) -> int:
    """The HTTP status that an error names, as a number or in a word that is known for one."""
    for name in ("code", "status_code", "status", "http_status", "type"):
        word = _word(error.get(name)) if isinstance(error, dict) else ""
        if word.isascii() and word.isdigit() and 400 <= int(word) < 600:
            return int(word)
        if word in _STATUS_OF:
            return _STATUS_OF[word]
    return otherwise


def _word(value: object) -> str:
    """A short word or number, and nothing of what is neither."""
    return str(value)[:_LONGEST_FINISH].casefold().strip() if isinstance(value, str | int) else ""


def _no_completion(data: object, scrub: Scrub) -> Failed:
    said = clean_words(scrub(find_words(data)))
    return Failed(reason="reply is no chat completion", said=said, maybe_charged=True)


def _answer(text: str, reason: str, data: Mapping[str, Any], scrub: Scrub, s: float) -> Answered:
    usage = data.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Answered(
        text=scrub(well_formed(text)),
        finish_reason=clean_words(scrub(reason))[:_LONGEST_FINISH],
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        usd=_charge(usage.get("cost")),
        seconds=s,
    )


def _finish_of(choice: Mapping[str, Any]) -> str:
    """The finish reason; where it says nothing, another server's name for one that is known."""
    reason = choice.get("finish_reason")
    if reason is None or (isinstance(reason, str) and not reason.strip()):
        others = (choice.get(name) for name in _OTHER_REASONS)
        known = (each for each in others if isinstance(each, str) and _means_something(each))
        reason = next(known, "")
    return reason if isinstance(reason, str) else find_words(reason) or "unreadable"


def _means_something(reason: str) -> bool:
    return bool(reason.strip()) and read_finish(reason) is not Finish.unknown


def _is_blocked(data: Mapping[str, Any]) -> bool:
    """Whether a filter stopped the prompt itself, as Gemini says it: for good."""
    verdicts = [data[name] for name in _VERDICTS if isinstance(data.get(name), dict)]
    return any(each.get("block_reason") or each.get("blockReason") for each in verdicts)


def _text_in(choice: Mapping[str, Any], reason: str) -> str | None:
    """The text of a choice's message, or where older completions and streams have theirs."""
    if "message" not in choice and isinstance(choice.get("text"), str):
        return str(choice["text"])
    return _text_of(choice.get("message", choice.get("delta")), reason)


def _text_of(message: object, reason: str) -> str | None:
    """The message's text, "" where there is none, and None where this is no message.

    A message that is null is a filter's verdict where the server names any reason for ending.
    """
    if message is None:
        return "" if reason else None
    if not isinstance(message, dict):
        return None
    content = message.get("content")
    if isinstance(content, list):
        return "".join(_text_of_part(part) for part in content)
    return content or "" if isinstance(content, str | None) else None


def _text_of_part(part: object) -> str:
    if isinstance(part, dict):
        spoken = part.get("type") in ("text", "output_text", None)
        part = part.get("text") if spoken else None
        part = part.get("value") if isinstance(part, dict) else part
    return part if isinstance(part, str) else ""


def _refusal_of(message: object) -> str:
    refusal = message.get("refusal") if isinstance(message, dict) else None
    return refusal if isinstance(refusal, str) else ""


def _read_int(digits: str) -> int | None:
    # Python refuses to read thousands of digits, and nothing here counts that far.
    return int(digits) if len(digits) <= _LONGEST_NUMBER else None


def _count(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 10**9 else None  # type: ignore[operator, return-value]


def _charge(value: object) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 <= value < 10**6 else None  # type: ignore
