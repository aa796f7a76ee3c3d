"""What only decorates a result can fail without costing it: a warning names what is left out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")


def or_without(what: str, make: Callable[[], T], otherwise: T) -> T:
    """What `make` returns; where it raises, `otherwise`, and a warning with the cause.

    For whatever a run could do without at its end: hours of work depend on no answer of git, a
    driver, a web service or a font.
    """
    try:
        return make()
    except Exception as error:
        text = " ".join(str(error).split())
        log.warning("%s is left out: %s: %s", what, type(error).__name__, text)
        # Nobody needs the traceback on a terminal.
        log.debug("%s is left out", what, exc_info=True)
        return otherwise
