"""Reads the answer from a reply. The last [[...]] decides; an unreadable reply is wrong.

Spaces, markdown, LaTeX, case and an option's text after its id are ignored: "B. Paris", "B - Paris"
and "B (Paris)". A marker that names two options, or only resembles one ("B Paris", "B, Paris"), is
no answer. A LaTeX box alone is no marker, because the prompt asked for brackets. The time taken is
linear in the reply's length, since replies are not to be trusted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from caft.text.quantities import PI, plain_signs, read_quantity, same_quantity, strip_ends
from caft.text.thinking import drop_thinking

LONGEST_ANSWER = 500
"""Characters inside a marker; a longer one is text and not an answer."""


@dataclass(frozen=True, slots=True)
class Marker:
    """One complete [[...]]: `text[start:end]` with its brackets, `content` without."""

    start: int
    end: int
    content: str


def parse_answer(reply: str, allowed: Sequence[str], *, opened: bool = False) -> str | None:
    """The answer in the reply's last marker; None if it cannot be read.

    The answer is a member of `allowed`. If `allowed` is empty (free text), it is the marker's
    content without its wrapping. Thinking spans and quoted lines ("> ...") do not count; `opened`
    says that the prompt has opened a span already.
    """
    marker = last_marker(drop_thinking(reply, opened=opened) or "")
    return read_marker(marker, allowed) if marker else None


def first_line(reply: str) -> str:
    """A bare free-text answer: what stands before the first line break."""
    stripped = reply.strip()
    return stripped.splitlines()[0].strip() if stripped else ""


def read_marker(marker: Marker, allowed: Sequence[str]) -> str | None:
    """The allowed answer that a marker names, or its content where every text is allowed."""
    content = _unwrap(marker.content)
    if not content or len(marker.content) > LONGEST_ANSWER:
        return None
    return _match_label(content, allowed) if allowed else _without_lead_in(content) or content


def answers_agree(parsed: str | None, gold: str) -> bool:
    """Whether two answers are equal: as numbers if both are numbers, else as texts.

    Case and spacing of texts are ignored. Numbers may have grouped digits, a currency, a unit or
    a name ("x = 6"). A unit or name on one side only is ignored; different ones disagree,
    and so does a factor: 4y is not 4.
    """
    if parsed is None:
        return False
    parsed = fit_brackets(parsed, gold)
    bare, bare_gold = _without_lead_in(parsed), _without_lead_in(gold)
    left, right = read_quantity(bare), read_quantity(bare_gold)
    if left is not None and right is not None:  # not as texts: mW is not MW
        return same_quantity(left, right)
    # "1,234" is a number, and "1, 234" is two.
    form = _plain if left or right else _join_signs
    return form(parsed) == form(gold) or (bool(bare) and form(bare) == form(bare_gold))


def fit_brackets(answer: str, gold: str) -> str:
    """The answer without brackets around all of it, or with the gold answer's, as a reader has it.

    So "[3,000]" is 3,000, and "3, 4" is the pair (3, 4), whose brackets a marker may have taken;
    but the interval "[1,2]" is not the pair "(1,2)".
    """
    whole, whole_gold = (_IN_BRACKETS.fullmatch(_unwrap(strip_ends(t))) for t in (answer, gold))
    if whole:
        return answer if _has_brackets(gold) else whole[whole.lastindex or 0]
    if whole_gold and "," in answer and not _has_brackets(answer):
        inner = whole_gold[whole_gold.lastindex or 0]
        if "," in inner and read_quantity(inner) is None:
            opening, closing = whole_gold[0][0], whole_gold[0][-1]
            return f"{opening}{answer}{closing}"
    return answer


def _has_brackets(text: str) -> bool:
    """Whether an answer has brackets that are its own, and not LaTeX's or around a number."""
    bare = _without_lead_in(text)
    own = _OWN_BRACKET.search(_GROUP.sub("", unwrap_math(bare)))
    return own is not None and read_quantity(bare) is None


_GROUP = re.compile(r"(?<=[a-zA-Z\d^_}])\s?\{[^{}]*\}")
_OWN_BRACKET = re.compile(r"[\[\](){}]")
_IN_BRACKETS = re.compile(r"\[([^\[\]]*)\]|\(([^()]*)\)|\{([^{}]*)\}")


def unwrap_math(text: str) -> str:
    """The text without signs of LaTeX's mathematics and of markdown around it; brackets stay."""
    text = strip_ends(text.strip())
    while inner := next((m[1] for w in _AROUND_MATH if (m := w.fullmatch(text))), None):
        text = inner.strip()
    return text


_QUOTED_LINE = re.compile(r"^[ \t]*>.*$", re.MULTILINE)


# Those of \left[ and \right] belong to the answer.
_BRACKET = re.compile(r"\\(?:left|right)\s?[\[\]]|(?P<counts>[\[\]])")


def last_marker(text: str) -> Marker | None:
    """The last complete [[...]] with balanced brackets inside; quoted lines do not count.

    Both pairs of brackets must enclose the same text: [[1, 2], [3, 4]] is no marker.
    """
    last: Marker | None = None
    opened: list[int] = []
    inner, inner_encloses = (-1, -1), False
    # Quotes become blanks of equal length: positions remain those of the text.
    visible = _QUOTED_LINE.sub(lambda line: " " * len(line.group()), text)
    for bracket in _BRACKET.finditer(visible):
        end = bracket.start()
        if not bracket["counts"]:
            continue
        if bracket.group() == "[":
            opened.append(end)
        elif opened:
            start = opened.pop()
            encloses = inner == (start + 1, end - 1)
            if encloses and not inner_encloses:  # [[[B]]] holds [[B]], and that counts
                last = Marker(start, end + 1, visible[start + 2 : end - 1])
            inner, inner_encloses = (start, end), encloses
    return last and _with_own_brackets(last, visible)


def _with_own_brackets(marker: Marker, text: str) -> Marker:
    """The marker with a third bracket that is its answer's: (1,2] of [[(1,2]]], [1,2] of [[[1,2]]].

    Only an answer with a comma has brackets of its own: [[[B]]] is B.
    """
    start, end, content = marker.start, marker.end, marker.content
    if "," not in content:
        return marker
    before, behind = text[start - 1 : start] == "[", text[end : end + 1] == "]"
    unclosed = content.count("(") - content.count(")")
    opens = before and (unclosed < 0 or (behind and not unclosed))
    closes = behind and (unclosed > 0 or (before and not unclosed))
    return Marker(start - opens, end + closes, "[" * opens + content + "]" * closes)


def has_closed_marker(text: str) -> bool:
    """Whether a reply's text holds a whole [[...]], to which no bracket behind it can belong."""
    marker = last_marker(text)
    return marker is not None and (marker.end < len(text) or last_marker(f"{text}]") == marker)


_WRAPPINGS = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"\$\$((?:[^$\\]|\\.)*)\$\$",
        r"\$((?:[^$\\]|\\.)*)\$",
        r"\\\[(.*)\\\]",
        r"\\\((.*)\\\)",
        r"\*\*(.*)\*\*",
        r"__(.*)__",
        r"\*([^*]*)\*",
        r"`([^`]*)`",
        r"\"([^\"]*)\"",
        r"'([^']*)'",
        r"[\u201c\u2018]([^\u2019\u201d]*)[\u2019\u201d]",
        # With a comma they are an interval's, a pair's or a set's.
        r"\[([^\[\],]*)\]",
        r"\(([^(),]*)\)",
        r"\{([^{},]*)\}",
        r"\\(?:boxed|text|textbf|mathrm|mathbf)\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}",
    )
]

_AROUND_MATH = [*_WRAPPINGS[:8], _WRAPPINGS[-1]]


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
    r"^(?:the\s+)?(?:final\s+|correct\s+)*(?:answer|option|choice)(?:\s+is)?"
    r"[*_]*\s*(?:[:=][*_]*\s*|\s)",
    re.I,
)
_ANSWER_IS = re.compile(
    r"^(?:\#+\s*)?(?:[*_]*(?:the\s+|my\s+)?(?:final\s+|correct\s+)*(?:answer|result|solution)[*_]*"
    r"(?:\s+is\s*:?|\s*[:=])[*_]*\s*)?",
    re.I,
)
_LEADING_TEXT = re.compile(r"^\\(?:text|textbf|mathrm)\{([^{}]*)\}")
_NAME = re.compile(r"([^\W\d_]{1,12})\s*=\s*(.+)", re.DOTALL)
# "B - Paris" and "B (Paris)" only behind a letter: "7 - x" is a difference.
_ID_THEN_TEXT = re.compile(
    r"(?:(?P<id>[^\s.):]+)(?:[.:](?=\s|$)|\))"
    r"|(?P<letter>[*`]{0,2}[^\W\d_][*`]{0,2})\s+(?:[-\u2013\u2014]{1,2}\s|(?=\([^()]*\)$)))"
    r"\s*(?P<text>.*)",
    re.DOTALL,
)


def _without_lead_in(content: str) -> str:
    """The 42 of "Answer: 42", without wrapping."""
    content = _LEADING_TEXT.sub(r"\1 ", _unwrap(content))
    content = _unwrap(_ANSWER_IS.sub("", content))
    # A full stop after a wrapping ("$x = 6$.") ends the sentence; that of "U.S." belongs to it.
    ended = strip_ends(content)
    inner = _unwrap(ended)
    return content if inner == ended else inner


def _match_label(content: str, allowed: Sequence[str]) -> str | None:
    whole = _IN_BRACKETS.fullmatch(content)
    if whole:  # a comma of the option's text is no interval's
        content = _unwrap(whole[whole.lastindex or 0])
    content = _unwrap(_LEAD_IN.sub("", content))
    named = _NAME.fullmatch(content)
    # "x = 6" names 6; "A = B" names two options, and two are none.
    if named and _same_label(named[1], allowed) is None:
        content = _unwrap(named[2])
    found = _same_label(content, allowed) or _same_label(strip_ends(content), allowed)
    if found is not None:
        return found
    parts = _ID_THEN_TEXT.fullmatch(content)
    # "B. text" names B; "A: B" names two options, and two are none.
    if parts is None or _same_label(_unwrap(parts["text"]), allowed) is not None:
        return None
    first = _same_label(_unwrap((parts["id"] or parts["letter"]).lstrip("([")), allowed)
    if first is None:
        return None
    another = _names_another(first, tuple(allowed), listed=parts["letter"] is not None)
    return None if another.match(parts["text"]) else first


_PAUSE = r"[,;:.\u2013\u2014-]"

# What people write around an id. Other signs make it a text of its own: -i, ~H and |c|.
_AROUND_ID = r"(?:[\s\"'`\u2018\u2019\u201c\u201d()\[\]{}*.,;:]|[\u2013\u2014-](?=\s))*"
_IT_IS = (
    r"(?i:\b(?:(?:it|that|the\s+(?:(?:right|correct|final)\s+)?(?:answer|option|choice|one))"
    r"(?:\s+(?:is|was|must\s+be|should\s+be)|['\u2019]s)|option|choice|answer|so|no[,;:.])(?!\w))"
)
_IS_RIGHT = r"(?i:(?:is|was)\s+(?:the\s+)?(?:right|correct)\b(?!\s+(?:about|in|of|that|to)\b))"
_INSTEAD = r"(?i:but|rather|instead|actually|wait|sorry|i\s+mean)"


@lru_cache
def _names_another(first: str, allowed: tuple[str, ...], *, listed: bool) -> re.Pattern[str]:
    """Finds another id in what follows an id, where that is no text of an option.

    So in "and B", "is wrong, B is right" and "no, B". An option may say "both A and B", and
    "no, because B is empty". If `listed`, also one with a text of its own: in "Paris; C - Rome",
    and in "B - C".
    """
    others = "|".join(re.escape(label) for label in allowed if label != first) or r"(?!)"
    exact = rf"(?<!\w)(?:{others})(?!\w)"
    other = rf"(?:{exact}|(?<!\w)(?i:{others})(?=\)|\W*$))"
    joined = rf"(?i:and|or|nor|[&,;/])\W*(?i:(?:also|then|option|choice)\s+)*\W*{other}"
    verdict = r"(?i:wrong|incorrect|false|right|correct|true)"
    judged = (
        rf"(?:(?i:is|are|was)\s+(?:\w+\s+){{0,2}}{verdict}\b"
        rf"|(?:{verdict}|(?i:nope|no|not))\s*{_PAUSE})"
    )
    named = (
        rf"\W*(?:{_IT_IS}\W*)*{other}(?=[.:)]|\W*$)"
        rf"|.*{other}\W{{1,3}}{_IS_RIGHT}"
        rf"|.*\b{_IT_IS}\W*{other}\W*$"
    )
    corrected = rf".*\b{_INSTEAD}\b\W*(?:{_IT_IS}\W*)*{other}\W*$"
    alone = rf"{_AROUND_ID}{other}{_AROUND_ID}$"
    pattern = rf"\W*(?:{joined}|{judged}(?:{named})|{corrected})|{alone}"
    if listed:
        pattern += (
            rf"|\W*{exact}(?:\s*[-\u2013\u2014,;:(]|\s+or\b)"
            rf"|.*(?:[,;/&]|\b(?:and|or)\b)\W*{exact}\s*(?:[-\u2013\u2014]{{1,2}}\s|[(.:)])"
        )
    return re.compile(pattern, re.DOTALL)


def _same_label(content: str, allowed: Sequence[str]) -> str | None:
    if content in allowed:
        return content
    folded = [label for label in allowed if _plain(label) == _plain(content)]
    return folded[0] if len(folded) == 1 else None


def _plain(text: str) -> str:
    text = PI.sub("\u03c0", strip_ends(_unwrap(plain_signs(_unwrap(text)))))
    return " ".join(text.casefold().split())


# What people write with and without spaces: "(3, 4)" and "(3,4)".
_AROUND_SIGN = re.compile(r" ?([^\w\s.]) ?")


def _join_signs(text: str) -> str:
    return _AROUND_SIGN.sub(r"\1", _plain(text).replace("\\{", "{").replace("\\}", "}"))
