"""The marks that open and close a thinking span, in the form of every family. Pure.

Tags are known by their word, not by a list of models: <think>, [THINK], <seed:think>,
<|START_THINKING|>, and channels as gpt-oss and Gemma have them.
"""

from __future__ import annotations

import re

_WORD = r"(?:think|thought|reason|scratchpad|reflect)"
# What says inside a tag that nothing opens: </think>, <|END_THINKING|>, <|think_end|>, <no_think>.
_CLOSES = re.compile(r"^/|(?:^|[^a-z])(?:end|close|stop|no|off)(?:[^a-z]|$)|^end|^no", re.I)
_TAG = re.compile(
    rf"(?P<left><[|\uff5c]?|\u25c1)(?P<body>/?[\w:.\u2581-]*{_WORD}[\w:.\u2581-]*)"
    r"(?P<right>[|\uff5c]?>|\u25b7)",
    re.IGNORECASE,
)
# In capitals only and not doubled: brackets are also what answers stand in.
_BRACKETS = re.compile(
    r"(?<!\[)(?P<left>\[)(?P<body>/?[A-Z_]*(?:THINK|THOUGHT|REASON)[A-Z_]*)(?P<right>\])(?!\])"
)
_CHANNEL_OPENS = re.compile(r"<\|channel\|>\s*(?:analysis|commentary)|<\|channel>\s*thought")
_CHANNEL_CLOSES = re.compile(r"<\|channel\|>\s*final|<\|end\|>|<channel\|>")
_PAIRS = (("start", "end"), ("begin", "end"), ("open", "close"))


def find_marks(text: str) -> list[tuple[int, int, bool]]:
    """Every mark in order: where it starts and stops, and whether it opens a span."""
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
    marks = find_marks(text)
    if not marks or not marks[-1][2]:
        return None
    return text[marks[-1][0] : marks[-1][1]]


def opens_thinking(prompt: str) -> bool:
    """Whether a rendered prompt ends in a thinking span, which the reply then goes on with.

    Marks before its end are a question's own words.
    """
    marks = find_marks(prompt)
    behind = prompt[marks[-1][1] :].replace("<|message|>", "") if marks else ""
    return bool(marks) and marks[-1][2] and not behind.strip()


def drop_spans(reply: str, *, opened: bool) -> str | None:
    """What a reply says behind its thinking spans; None where the last one is never closed.

    With `opened` the prompt has opened a span already. A closing mark that nothing has opened
    ends one that began before the reply.
    """
    kept, position = [], 0
    for start, end, opens in find_marks(reply):
        if opens and not opened:
            kept.append(reply[position:start])
        elif not opens and not opened:
            kept = []
        opened, position = opens, end
    return None if opened else "".join(kept) + reply[position:]


def closing_marks(opened: str) -> tuple[str, ...]:
    """What may close the span that `opened` opens, the likeliest first."""
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
    """Whether a mark is written as markup is, such as <think>: text that needs no token."""
    tag = _TAG.fullmatch(opened)
    return tag is not None and (tag["left"], tag["right"]) == ("<", ">")


def _swap(body: str, begin: str, end: str) -> str:
    def in_its_case(found: re.Match[str]) -> str:
        return end.upper() if found.group().isupper() else end

    return re.sub(begin, in_its_case, body, count=1, flags=re.IGNORECASE)
