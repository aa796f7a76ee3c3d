"""Accepts or refuses replies for training. Pure: a reply's text in, a Rationale and verdict out.

The text is what stands outside of thinking spans. What stands inside is judged only where it is to
be trained, too.

A teacher's text ends up in the student's training rows. Whatever is not plainly a finished
solution in plain text is refused with a reason and kept for the audit; what is merely wrapped
around it (thinking blocks, a leaked end token, text after the answer) is removed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from caft.grading import is_right
from caft.records import Question, Rationale, Target
from caft.teachers.config import Keep
from caft.teachers.refusals import Finish, read_finish
from caft.teachers.words import well_formed
from caft.text.answers import answer_labels
from caft.text.config import OptionIds
from caft.text.parsing import last_marker, read_marker
from caft.text.prompts import bracketed
from caft.text.thinking import drop_thinking, find_marks, find_thinking

LARGEST_TEXT = 100_000
"""Characters; no solution is longer, and longer text is cut before it is kept."""

_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
_CONTROL = re.compile(
    # C0 and C1 but tab and newline; line separators; marks that turn the direction of reading;
    # half characters and their replacement; tag characters, which hide text from people.
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffd"
    "\U000e0000-\U000e007f]"
)
_TEMPLATE_TOKEN = re.compile(
    r"<[|\uff5c][^|\uff5c<>\n]{1,40}[|\uff5c]>|\[/?INST\]|<</?SYS>>|</?(?:start|end)_of_turn>"
)
_END_TOKEN = re.compile(
    r"(?:<\|(?:im_end|eot_id|end|endoftext|end_of_text)\|>|</s>|<end_of_turn>)$"
)
_DANGLING = re.compile(r"(?:\*\*|__|\$|\\boxed\{|\\\[|\\\(|[(\[{`*_])$")
_WINDOW, _STEP, _SHINGLE = 500, 100, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a reply must fulfil to be the `target`.

    `forbidden` are the student's special tokens as text.
    """

    keep: Keep
    option_ids: OptionIds
    forbidden: Sequence[str] = ()
    target: Target = Target.rationale


def judge_reply(question: Question, reply: Rationale, rules: Rules) -> Rationale:
    """The reply with its answer, its verdict and its text made clean."""
    text, refusal = clean_text(reply.text, rules.forbidden)
    labels = answer_labels(question, rules.option_ids)
    marker = last_marker(text)
    answer = None if marker is None else read_marker(marker, labels)
    agrees = is_right(answer, question, rules.option_ids)
    refusal = reply.refusal or _refuse_unfinished(reply, rules.keep) or refusal
    if not refusal and not agrees and rules.keep is Keep.correct:
        refusal = "unparsable" if answer is None else "wrong"
    if not refusal and marker is not None and answer is not None:
        text = end_at_answer(text[: marker.start], answer)
    reasoning = _clean_reasoning(reply)
    refusal = refusal or _refuse_target(text, answer, reasoning, rules)
    return replace(
        reply, text=text[:LARGEST_TEXT], answer=answer, agrees=agrees, refusal=refusal,
        target=rules.target, reasoning=reasoning[:LARGEST_TEXT] or None,
    )  # fmt: skip


def _clean_reasoning(reply: Rationale) -> str:
    """What the server sends apart from the text, or what the text itself has between tags."""
    told = reply.reasoning or find_thinking(reply.text[:LARGEST_TEXT]) or ""
    return _INVISIBLE.sub("", well_formed(told).replace("\r\n", "\n")).strip()


def _refuse_target(text: str, answer: str | None, reasoning: str, rules: Rules) -> str:
    """The reason why an acceptable reply does not teach the target; empty if it does."""
    may_be_bare = rules.target in (Target.short_rationale, Target.own_rationale)
    if may_be_bare and answer and text == bracketed(answer):
        return "bare_answer"  # it would train an answer where a rationale is wanted
    if rules.target is not Target.thinking:
        return ""
    if not reasoning:
        return "no_reasoning"
    if len(reasoning) > LARGEST_TEXT:
        return "reasoning_too_large"
    # A mark would open or close the student's own span.
    marked = find_marks(reasoning) or find_marks(text)
    problem = "thinking_mark" if marked else _refuse_text(reasoning, rules.forbidden)
    return problem and f"reasoning_{problem}"


def clean_text(text: str, forbidden: Sequence[str]) -> tuple[str, str]:
    """The text without its wrapping, and the reason if it is refused."""
    if len(text) > LARGEST_TEXT:
        return "", "too_large"
    text = well_formed(text)  # no table can store half a character
    text = _INVISIBLE.sub("", text.replace("\r\n", "\n")).strip()
    text = _END_TOKEN.sub("", text).strip()
    spoken = drop_thinking(text)
    if spoken is None:
        return text, "unfinished_thinking"
    spoken = spoken.strip()
    return spoken, _refuse_text(spoken, forbidden)


def end_at_answer(solution: str, answer: str) -> str:
    """The solution up to its marker, and the marker in the form that the student is to write."""
    solution = solution.rstrip()
    while (shorter := _DANGLING.sub("", solution).rstrip()) != solution:
        solution = shorter
    return f"{solution} {bracketed(answer)}".lstrip()


def runs_in_circles(text: str) -> bool:
    """Whether in some 500 characters fewer than a quarter of the 20-character pieces differ."""
    for start in range(0, len(text) - _WINDOW + 1, _STEP):
        places = range(start, start + _WINDOW - _SHINGLE + 1)
        if len({text[at : at + _SHINGLE] for at in places}) < len(places) / 4:
            return True
    return False


def _refuse_unfinished(reply: Rationale, keep: Keep) -> str:
    meaning = read_finish(reply.finish_reason)
    unknown = meaning is Finish.unknown and keep is Keep.all
    if meaning is Finish.finished or unknown:
        return ""
    if meaning is Finish.cut:
        return "too_large" if reply.finish_reason == "too_large" else "cut_off"
    return "not_finished"


def _refuse_text(text: str, forbidden: Sequence[str]) -> str:
    if not text:
        return "empty"
    if _CONTROL.search(text):
        return "control_characters"
    if _TEMPLATE_TOKEN.search(text) or any(token in text for token in forbidden if token.strip()):
        return "special_token"
    return "repeated_loop" if runs_in_circles(text) else ""
