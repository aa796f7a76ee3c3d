"""Bad input of every kind, as the tests generate it, in greater numbers."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

from fake_server import FakeServer

from bad_inputs import find_fault, list_cases
from torturing.tally import Tally

_MOST_SECONDS = 120
_MOST_MEMORY = 24 * 2**30
"""Bytes of addresses: a size in a model's config must not take the machine."""


def _raise_timeout(*_: object) -> None:
    raise TimeoutError(f"not done within {_MOST_SECONDS} seconds")


def torture_inputs(tally: Tally, number: int, work: Path) -> None:
    """`number` cases; those that were neither done nor refused well are named."""
    signal.signal(signal.SIGALRM, _raise_timeout)
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, before[1]))
    try:
        with FakeServer() as server:

            def url(body: bytes) -> str:
                server.raw = body
                return server.base_url

            for case in list_cases(number, work, url):
                part = f"bad input, {case.kind}"
                signal.alarm(_MOST_SECONDS)
                status, fault = find_fault(case)
                signal.alarm(0)
                tally.add(part, "bad_inputs")
                tally.add(part, "done well" if not status else "well_refused", not fault)
                if fault:
                    tally.fail(part, "badly_refused", fault)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
