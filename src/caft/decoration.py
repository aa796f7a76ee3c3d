"""Optional extras of a result may fail without losing it: a warning names what is left out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")


def or_without(what: str, make: Callable[[], T], otherwise: T) -> T:
    """What `make` returns; if it raises, `otherwise`, and a warning with the cause.

    For everything that a run can do without at its end: hours of work must not be lost because git,
    a driver, a web service or a font fails.
    """
    try:
        return make()
    except Exception as error:
        text = " ".join(str(error).split())
        log.warning("%s is left out: %s: %s", what, type(error).__name__, text)
        # On a terminal the traceback is of no use.
        log.debug("%s is left out", what, exc_info=True)
        return otherwise
