"""The marks that open and close a thinking span, for every model family. Pure.

A tag is recognised by the word in it, not by a list of models: <think>, [THINK], <seed:think>,
<|START_THINKING|>, and the channels of gpt-oss and Gemma.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = r"(?:think|thought|reason|scratchpad|reflect)"
# Tags that open nothing: </think>, <|END_THINKING|>, <|think_end|>, <no_think>.
_CLOSES = re.compile(r"^/|(?:^|[^a-z])(?:end|close|stop|no|off)(?:[^a-z]|$)|^end|^no", re.I)
_TAG = re.compile(
    rf"(?P<left><[|\uff5c]?|\u25c1)(?P<body>/?[\w:.\u2581-]*{_WORD}[\w:.\u2581-]*)"
    r"(?P<right>[|\uff5c]?>|\u25b7)",
    re.IGNORECASE,
)
# Only in capitals and single brackets: an answer is in brackets, too.
_BRACKETS = re.compile(
    r"(?<!\[)(?P<left>\[)(?P<body>/?[A-Z_]*(?:THINK|THOUGHT|REASON)[A-Z_]*)(?P<right>\])(?!\])"
)
_CHANNEL_OPENS = re.compile(r"<\|channel\|>\s*(?:analysis|commentary)|<\|channel>\s*thought")
_CHANNEL_CLOSES = re.compile(r"<\|channel\|>\s*final|<\|end\|>|<channel\|>")
_PAIRS = (("start", "end"), ("begin", "end"), ("open", "close"))
# The few tags that grading recognises. Mistral writes [THINK]; in small letters it may be a word.
_GRADED_TAG = re.compile(r"<(/?)think(?:ing)?>|(?-i:\[(/?)THINK\])", re.IGNORECASE)

Mark = tuple[int, int, bool]
"""Start and end of a mark in its text, and whether it opens a span."""


def find_marks(text: str) -> list[Mark]:
    """Every mark, in order."""
    tags = [
        (*tag.span(), not _CLOSES.search(tag["body"]))
        for kind in (_TAG, _BRACKETS)
        for tag in kind.finditer(text)
    ]
    opened = [(*mark.span(), True) for mark in _CHANNEL_OPENS.finditer(text)]
    closed = [(*mark.span(), False) for mark in _CHANNEL_CLOSES.finditer(text)]
    return sorted([*tags, *opened, *closed])


def find_open_mark(text: str) -> str | None:
    """The mark of a span that `text` opens and does not close, if there is one."""
    start, end, opens = (find_marks(text) or [(0, 0, False)])[-1]
    return text[start:end] if opens else None


def opens_thinking(prompt: str) -> bool:
    """Whether a rendered prompt ends in a thinking span, which the reply then continues.

    Marks before its end belong to the question's text.
    """
    _, end, opens = (find_marks(prompt) or [(0, 0, False)])[-1]
    return opens and not prompt[end:].replace("<|message|>", "").strip()


def drop_spans(reply: str, *, opened: bool) -> str | None:
    """A reply without its thinking spans; None if the last one is never closed.

    `opened`: the prompt has opened a span already.
    """
    return _text_outside(reply, find_marks(reply), opened=opened)


def find_thinking(reply: str, *, opened: bool = False) -> str | None:
    """What `drop_thinking` drops, without its tags; None if nothing is left of it."""
    kept, position = [], 0
    for start, end, opens in find_marks(reply) if opened else _graded_marks(reply):
        if opened or not opens:  # a chat template may have opened the span
            kept.append(reply[position:start].strip())
        opened, position = opens, end
    if opened:
        kept.append(reply[position:].strip())
    return "\n\n".join(filter(None, kept)) or None


def drop_thinking(reply: str, *, opened: bool = False) -> str | None:
    """As `drop_spans`, but by the tags <think>, <thinking> and [THINK] alone: grading uses this.

    Whatever mark has `opened` a span, its own may close it.
    """
    marks = find_marks(reply) if opened else _graded_marks(reply)
    return _text_outside(reply, marks, opened=opened)


def _graded_marks(reply: str) -> list[Mark]:
    tags = _GRADED_TAG.finditer(reply)
    return [(*tag.span(), not (tag.group(1) or tag.group(2))) for tag in tags]


def _text_outside(reply: str, marks: Iterable[Mark], *, opened: bool) -> str | None:
    kept, position = [], 0
    for start, end, opens in marks:
        if opens and not opened:
            kept.append(reply[position:start])
        elif not opens and not opened:
            kept = []  # a chat template may open the span: it began before the reply
        opened, position = opens, end
    return None if opened else "".join(kept) + reply[position:]


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

    return re.sub(begin, in_its_case, body, count=1, flags=re.IGNORECASE)
