"""The process that asks math-verify: a pair a line in, true, false or null out.

python -P -m caft.grading.worker CPU_SECONDS
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from contextlib import suppress

MEMORY = 4 * 2**30


def main() -> None:
    """Answer until the input ends."""
    # Ctrl-C is for the command; this process ends with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable()
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer_pairs(float(sys.argv[1]))


def answer_pairs(cpu_seconds: float) -> None:
    """One line of output for each of input.

    The system ends the process in the middle of any computation of more than `cpu_seconds`.
    """
    from math_verify import LatexExtractionConfig, parse, verify

    def read(text: str) -> list[object]:
        # The whole text is the answer: nothing is to be found in it. And only LaTeX is parsed by a
        # grammar: plain expressions would be evaluated as Python.
        return list(
            parse(
                f"${text}$",
                [LatexExtractionConfig()],
                parsing_timeout=None,
                fallback_mode="no_fallback",
            )
        )

    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_VIRTUAL, cpu_seconds)
        verdict = None
        with suppress(Exception):
            answer, gold = map(read, json.loads(line))
            if answer and gold:
                verdict = bool(verify(gold, answer, timeout_seconds=None))
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        # To the process that asks, and not to a terminal.
        os.write(1, f"{json.dumps(verdict)}\n".encode())


if __name__ == "__main__":
    main()
