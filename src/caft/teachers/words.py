"""A server's error message, as one safe line for a terminal. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

LONGEST = 200
"""Characters of a server's message that are shown."""

_READ = 20_000
"""Characters of a body that are searched."""

_TELLING = (
    "message", "msg", "detail", "details", "error", "errors", "error_message", "error_description",
    "description", "title", "reason", "cause",
)  # fmt: skip
_DEEPEST, _MOST_ITEMS = 6, 3
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_HTML = re.compile(r"<!doctype\s+html|<html|<head|<body|<title|<h1", re.I)
_TITLE = re.compile(r"<(title|h1)[^>]*>(.*?)</\1", re.I | re.S)
_HIDDEN = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|\Z)", re.I | re.S)


def find_words(value: object, deep: int = 0) -> str:
    """The message in a JSON value, wherever it is; empty if there is none.

    A text itself, the values of a table's known keys, or the first items of a list. An item of
    FastAPI's (`loc`, `msg`) names its place, too.
    """
    if isinstance(value, str):
        return value[:_READ]
    if deep >= _DEEPEST or value is None or isinstance(value, bool):
        return ""
    if isinstance(value, Mapping):
        text = next((w for name in _TELLING if (w := find_words(value.get(name), deep + 1))), "")
        place = value.get("loc")
        if text and isinstance(place, list):
            steps = [str(step)[:40] for step in place[:_DEEPEST] if isinstance(step, str | int)]
            return f"{'.'.join(steps)}: {text}"
        return text
    if isinstance(value, list):
        text = "; ".join(w for item in value[:_MOST_ITEMS] if (w := find_words(item, deep + 1)))
        return text + ("; ..." if text and len(value) > _MOST_ITEMS else "")
    return str(value)[:LONGEST]


def clean_words(text: str) -> str:
    """One line of at most LONGEST characters, without markup and without control characters."""
    text = well_formed(text[:_READ])
    if _HTML.search(text[:2_000]):
        text = _HIDDEN.sub(" ", text)
        title = next((found[2] for found in _TITLE.finditer(text) if found[2].strip()), None)
        text = re.sub(r"<[^<>]*>", " ", text if title is None else title)
    text = "".join(sign if sign.isprintable() else " " for sign in _ESCAPES.sub("", text))
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3].rstrip()}..."


def well_formed(text: str) -> str:
    """JSON may contain half a character; it cannot be stored, so it becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
