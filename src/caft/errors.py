"""The one exception whose message is written for the user."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """The user must act: exit status 2, one line, no traceback.

    The message says what was given, what is allowed and what to do.
    """


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A hint where one of `names` is near; empty where none is."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""
