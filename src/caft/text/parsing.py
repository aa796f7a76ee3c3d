"""Reading the answer off a reply: the last [[...]] decides, and what cannot be read is wrong.

Only the wrapping is forgiven (spaces, markdown, LaTeX, an option's text after its id, case),
never the choice: a marker that names two options, or something that merely resembles one, is no
answer. A LaTeX box alone is no marker, since the prompt asked for brackets. Everything here is
linear in the reply's length: replies come from strangers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from caft.text.quantities import plain_signs, read_quantity, same_quantity, strip_ends

LONGEST_ANSWER = 500
"""Characters inside a marker, beyond which it is text and no answer."""


@dataclass(frozen=True, slots=True)
class Marker:
    """One complete [[...]] of a text: `text[start:end]` with its brackets, `content` without."""

    start: int
    end: int
    content: str


def parse_answer(reply: str, allowed: Sequence[str]) -> str | None:
    """The answer in the reply's last marker, or None where there is none that can be read.

    With `allowed` the member of it that the marker names; with none (free text) the marker's
    content without its wrapping. Thinking blocks and quoted lines ("> ...") do not count.
    """
    spoken = drop_thinking(reply)
    marker = None if spoken is None else last_marker(spoken)
    return None if marker is None else read_marker(marker, allowed)


def read_marker(marker: Marker, allowed: Sequence[str]) -> str | None:
    """The allowed answer that a marker names, or its content where every text is allowed."""
    if len(marker.content) > LONGEST_ANSWER:
        return None
    content = _unwrap(marker.content)
    if not content:
        return None
    return _match_label(content, allowed) if allowed else _without_lead_in(content) or content


def answers_agree(parsed: str | None, gold: str) -> bool:
    """Whether two answers say the same: as numbers if both are, else as texts.

    Texts are compared without case and spacing. Numbers may be grouped, have a currency, a unit
    or a name ("x = 6"); what only one side gives is ignored, different ones disagree.
    """
    if parsed is None:
        return False
    if _plain(parsed) == _plain(gold):
        return True
    parsed, gold = _without_lead_in(parsed), _without_lead_in(gold)
    if parsed and _plain(parsed) == _plain(gold):
        return True
    left, right = read_quantity(parsed), read_quantity(gold)
    return left is not None and right is not None and same_quantity(left, right)


# Thinking and quotes


# Mistral's models write [THINK]; in small letters it may be a word in brackets.
_THINK_TAG = re.compile(r"<(/?)think(?:ing)?>|(?-i:\[(/?)THINK\])", re.IGNORECASE)


def drop_thinking(reply: str) -> str | None:
    """The reply without its thinking blocks; None where a block was never closed.

    Chat templates may open the block inside the prompt: a closing tag without an opening one
    ends a block that began before the reply.
    """
    kept: list[str] = []
    position, open_block = 0, False
    for tag in _THINK_TAG.finditer(reply):
        closes = bool(tag.group(1) or tag.group(2))
        if closes and not open_block:
            kept = []
        elif not closes and not open_block:
            kept.append(reply[position : tag.start()])
        open_block = not closes
        position = tag.end()
    return None if open_block else "".join(kept) + reply[position:]


_QUOTED_LINE = re.compile(r"^[ \t]*>.*$", re.MULTILINE)


def _blank_quotes(text: str) -> str:
    # Blanks of equal length: positions stay those of the text.
    return _QUOTED_LINE.sub(lambda line: " " * len(line.group()), text)


# Markers


_BRACKET = re.compile(r"[\[\]]")


def last_marker(text: str) -> Marker | None:
    """The last complete [[...]], with brackets inside it balanced; quoted lines do not count.

    Doubled brackets must enclose the same thing: the matrix [[1, 2], [3, 4]] is no marker.
    """
    last: Marker | None = None
    opened: list[int] = []
    inner, inner_encloses = (-1, -1), False
    visible = _blank_quotes(text)
    for bracket in _BRACKET.finditer(visible):
        end = bracket.start()
        if bracket.group() == "[":
            opened.append(end)
        elif opened:
            start = opened.pop()
            encloses = inner == (start + 1, end - 1)
            if encloses and not inner_encloses:  # [[[B]]] holds [[B]], and that counts
                last = Marker(start, end + 1, visible[start + 2 : end - 1])
            inner, inner_encloses = (start, end), encloses
    return last


# What stands inside a marker


_WRAPPINGS = (
    re.compile(r"\$\$([^$]*)\$\$", re.DOTALL),
    re.compile(r"\$([^$]*)\$", re.DOTALL),
    re.compile(r"\\\[(.*)\\\]", re.DOTALL),
    re.compile(r"\\\((.*)\\\)", re.DOTALL),
    re.compile(r"\*\*(.*)\*\*", re.DOTALL),
    re.compile(r"__(.*)__", re.DOTALL),
    re.compile(r"\*([^*]*)\*", re.DOTALL),
    re.compile(r"`([^`]*)`", re.DOTALL),
    re.compile(r"\"([^\"]*)\"", re.DOTALL),
    re.compile(r"'([^']*)'", re.DOTALL),
    re.compile(r"[\u201c\u2018]([^\u2019\u201d]*)[\u2019\u201d]", re.DOTALL),
    re.compile(r"\[([^\[\]]*)\]", re.DOTALL),
    re.compile(r"\(([^()]*)\)", re.DOTALL),
    re.compile(r"\{([^{}]*)\}", re.DOTALL),
    re.compile(
        r"\\(?:boxed|text|textbf|mathrm|mathbf)\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}", re.DOTALL
    ),
)


def _unwrap(content: str) -> str:
    # Every round makes the text shorter, so it ends.
    content = content[:LONGEST_ANSWER].strip()
    while content:
        inner = next((m.group(1) for w in _WRAPPINGS if (m := w.fullmatch(content))), None)
        if inner is None:
            return content
        content = inner.strip()
    return content


_LEAD_IN = re.compile(
    r"(?:the\s+)?(?:final\s+|correct\s+)*(?:answer|option|choice)(?:\s+is)?"
    r"[*_]*\s*(?:[:=][*_]*\s*|\s)",
    re.I,
)
_SAID_TO_BE = re.compile(
    r"(?:\#+\s*)?(?:[*_]*(?:the\s+|my\s+)?(?:final\s+|correct\s+)*(?:answer|result|solution)[*_]*"
    r"(?:\s+is\s*:?|\s*[:=])[*_]*\s*)?",
    re.I,
)
_LEADING_TEXT = re.compile(r"^\\(?:text|textbf|mathrm)\{([^{}]*)\}")
_NAME = re.compile(r"([^\W\d_]{1,12})\s*=\s*(.+)", re.DOTALL)
_ID_THEN_TEXT = re.compile(r"([^\s.):]+)(?:[.:](?=\s|$)|\))\s*(.*)", re.DOTALL)


def _without_lead_in(content: str) -> str:
    """What is said to be the answer: the 42 of "Answer: 42"; without wrapping."""
    content = _LEADING_TEXT.sub(r"\1 ", _unwrap(content))
    lead_in = _SAID_TO_BE.match(content)
    content = content[lead_in.end() :] if lead_in else content
    content = _unwrap(content)
    # A full stop behind a wrapping, as in "$x = 6$.", is the sentence's; in "U.S." it may not be.
    ended = strip_ends(content)
    inner = _unwrap(ended)
    return content if inner == ended else inner


def _match_label(content: str, allowed: Sequence[str]) -> str | None:
    content = _unwrap(_LEAD_IN.sub("", content, count=1) if _LEAD_IN.match(content) else content)
    named = _NAME.fullmatch(content)
    # "x = 6" names 6; "A = B" names two options, and two are none.
    if named and _same_label(named[1], allowed) is None:
        content = _unwrap(named[2])
    found = _same_label(content, allowed) or _same_label(strip_ends(content), allowed)
    if found is not None:
        return found
    parts = _ID_THEN_TEXT.fullmatch(content)
    # "B. text" names B; "A: B" names two options, and two are none.
    if parts is None or _same_label(_unwrap(parts.group(2)), allowed) is not None:
        return None
    return _same_label(_unwrap(parts.group(1).lstrip("(")), allowed)


def _same_label(content: str, allowed: Sequence[str]) -> str | None:
    if content in allowed:
        return content
    folded = [label for label in allowed if _plain(label) == _plain(content)]
    return folded[0] if len(folded) == 1 else None


def _plain(text: str) -> str:
    return " ".join(strip_ends(_unwrap(plain_signs(_unwrap(text)))).casefold().split())
