"""What only decorates a result can fail without costing it: a warning says what is left out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")


def or_without(what: str, make: Callable[[], T], otherwise: T) -> T:
    """What `make` returns; where it raises, `otherwise`, and a warning with the cause.

    For whatever a run could do without at its end: hours of work hang on nothing that git, a
    driver, a web service or a font has to say.
    """
    try:
        return make()
    except Exception as error:
        words = " ".join(str(error).split())
        log.warning("%s is left out: %s: %s", what, type(error).__name__, words)
        # Whose fault it was stands in the log; nobody needs a traceback on a terminal for it.
        log.debug("%s is left out", what, exc_info=True)
        return otherwise
