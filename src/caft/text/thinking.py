"""The marks that open and close a thinking span, for every model family. Pure.

A tag is recognised by the word in it, not by a list of models: <think>, [THINK], <seed:think>,
<|START_THINKING|>, and the channels of gpt-oss and Gemma.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_WORD = r"(?:think|thought|reason|scratchpad|reflect)"
# Tags that open nothing: </think>, <|END_THINKING|>, <|think_end|>, <no_think>.
_CLOSES = re.compile(r"^/|(?:^|[^a-z])(?:end|close|stop|no|off)(?:[^a-z]|$)|^end|^no", re.I)
_TAG = re.compile(
    rf"(?P<left><[|\uff5c]?|\u25c1)(?P<body>/?[\w:.\u2581-]{{0,40}}{_WORD}[\w:.\u2581-]{{0,40}})"
    r"(?P<right>[|\uff5c]?>|\u25b7)",
    re.IGNORECASE,
)
# Only in capitals and single brackets: an answer is in brackets, too.
_BRACKETS = re.compile(
    r"(?<!\[)(?P<left>\[)(?P<body>/?[A-Z_]{0,40}(?:THINK|THOUGHT|REASON)[A-Z_]{0,40})"
    r"(?P<right>\])(?!\])"
)
_CHANNEL_OPENS = re.compile(r"<\|channel\|>\s*(?:analysis|commentary)|<\|channel>\s*thought")
_CHANNEL_CLOSES = re.compile(r"<\|channel\|>\s*final|<\|end\|>|<channel\|>")
_PAIRS = (("start", "end"), ("begin", "end"), ("open", "close"))
_SWITCH = re.compile(r"[^a-z](?:no|off)[^a-z]", re.IGNORECASE)  # <|no_think|> ends no span
# In a reply: <think>, <thinking>, <thought>, [THINK], and whatever nobody writes as text, such as
# <seed:think> and <|begin_of_thought|>. [REASON] and <reasoning> may be the reply's own headings.
_SURELY = re.compile(
    r"</?(?:\w+[_:])?(?:think(?:ing)?|thought)>|(?-i:\[/?THINK\])|[<\u25c1].*[|\uff5c\u25b7].*",
    re.IGNORECASE,
)


class Mark(NamedTuple):
    """Start and end of a mark in its text, and whether it opens a span."""

    start: int
    end: int
    opens: bool


def find_marks(text: str) -> list[Mark]:
    """Every mark that any template may write, in order."""
    tags = [
        Mark(*tag.span(), not _CLOSES.search(tag["body"]))
        for kind in (_TAG, _BRACKETS)
        for tag in kind.finditer(text)
    ]
    opened = [Mark(*mark.span(), True) for mark in _CHANNEL_OPENS.finditer(text)]
    closed = [Mark(*mark.span(), False) for mark in _CHANNEL_CLOSES.finditer(text)]
    return sorted([*tags, *opened, *closed])


def find_spoken_marks(reply: str, open_mark: str | None = None) -> list[Mark]:
    """The marks that count in a reply: grading, chains and generation go by these.

    `open_mark` is the mark of the span that is open before the reply; None if there is none, and
    "" if it is not known, so that any mark may close it.
    """
    kept, last = [], open_mark
    for mark in find_marks(reply):
        text = reply[mark.start : mark.end]
        if _counts(text, mark.opens, last):
            kept.append(mark)
            last = text
    return kept


def _counts(text: str, opens: bool, last: str | None) -> bool:
    if _SWITCH.search(text):
        return False
    if opens:
        return bool(_SURELY.fullmatch(text)) or bool(_CHANNEL_OPENS.fullmatch(text))
    if _CHANNEL_CLOSES.fullmatch(text):  # <|end|> also ends the turns of models without channels
        return last == "" or bool(last and _CHANNEL_OPENS.fullmatch(last))
    return last == "" or bool(_SURELY.fullmatch(text))


def find_open_mark(text: str) -> str | None:
    """The mark of a span that `text` opens and does not close, if there is one."""
    last = _last_open(text)
    return text[last.start : last.end] if last else None


def opens_thinking(prompt: str) -> bool:
    """Whether a rendered prompt ends in a thinking span, which the reply then continues.

    Marks before its end belong to the question's text.
    """
    last = _last_open(prompt)
    return last is not None and not prompt[last.end :].replace("<|message|>", "").strip()


def _last_open(text: str) -> Mark | None:
    marks = find_marks(text)
    return marks[-1] if marks and marks[-1].opens else None


def drop_thinking(reply: str, *, opened: bool = False) -> str | None:
    """A reply without its thinking spans; None if the last one is never closed.

    `opened`: the prompt has opened a span already.
    """
    kept, position = [], 0
    for start, end, opens in find_spoken_marks(reply, "" if opened else None):
        if opens and not opened:
            kept.append(reply[position:start])
        elif not opens and not opened:
            kept = []  # a chat template may open the span: it began before the reply
        opened, position = opens, end
    return None if opened else "".join(kept) + reply[position:]


def find_thinking(reply: str, *, opened: bool = False) -> str | None:
    """What `drop_thinking` drops, without its marks; None if nothing is left of it."""
    kept, position = [], 0
    for start, end, opens in find_spoken_marks(reply, "" if opened else None):
        if opened or not opens:
            kept.append(reply[position:start].removeprefix("<|message|>").strip())
        opened, position = opens, end
    if opened:
        kept.append(reply[position:].removeprefix("<|message|>").strip())
    return "\n\n".join(filter(None, kept)) or None


def closing_marks(opened: str) -> tuple[str, ...]:
    """What may close the span that `opened` opens, the most likely first."""
    tag = _TAG.fullmatch(opened) or _BRACKETS.fullmatch(opened)
    if tag is None:
        if opened.startswith("<|channel>"):
            return ("<channel|>",)
        return ("<|end|><|start|>assistant<|channel|>final<|message|>",)
    left, body, right = tag["left"], tag["body"], tag["right"]
    bodies = [_swap(body, begin, end) for begin, end in _PAIRS if begin in body.lower()]
    bodies += [f"/{body}"]
    bodies += [f"end_{body}", f"end_of_{body}", f"{body}_end", f"end{body}", f"END_{body}"]
    return tuple(f"{left}{each}{right}" for each in bodies)


def is_plain_tag(opened: str) -> bool:
    """Whether a mark is written like markup, such as <think>: text that needs no token."""
    tag = _TAG.fullmatch(opened)
    return tag is not None and (tag["left"], tag["right"]) == ("<", ">")


def _swap(body: str, begin: str, end: str) -> str:
    def in_its_case(found: re.Match[str]) -> str:
        return end.upper() if found.group().isupper() else end

    return re.sub(begin, in_its_case, body, flags=re.IGNORECASE)
