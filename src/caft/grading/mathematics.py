r"""Whether two answers are the same mathematics: math-verify decides, in a process of its own.

Texts come from models, and $9^{9^{9}}$ would take hours or all memory. math-verify's own limits are
signals, which only a main thread has; so each pair has some processor seconds in another process,
which the system ends where they are used up. Where math-verify has no verdict, our rules decide.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
import threading
from functools import lru_cache

from caft.text.parsing import answers_agree, fit_brackets, unwrap_math
from caft.text.quantities import PI, read_quantity

LONGEST = 200
"""Characters; a longer text is no answer that a parser of mathematics should see."""

CPU_SECONDS = 5.0
"""Of one pair: of the processor, so that a busy machine gives the same verdicts."""

_COMMAND = re.compile(r"\\(?:begin|end)\{[a-z]+\*?\}|\\[A-Za-z]+\s?")
_DECIMAL = re.compile(r"-?\d+(?:\.\d+)?")
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")
_FUNCTIONS = re.compile(
    r"(?<![^\W\d_])(?:a?(?:sin|cos|tan)h?|log|ln|exp|sqrt|cot|sec|csc|inf)(?![^\W\d_])"
)
_WORD = re.compile(r"[^\W\d_]{3,}")
_SHORT_WORD = re.compile(r"[^\W\d_]{2}")
_OPERATOR = re.compile(r"[-+*/^=<>_]|\\")
_SIGN = re.compile(r"[\d\\+*/^=<>()\[\]{}|]")


def same_mathematics(answer: str, gold: str) -> bool:
    """Whether two answers mean the same.

    Numbers with their units, and words, are compared by our rules: math-verify ignores units, and
    reads a word as the product of its letters.
    """
    answer = fit_brackets(answer, gold)
    by_rules = answers_agree(answer, gold)
    if answer.strip() == gold.strip():
        return True
    left, right = read_quantity(answer), read_quantity(gold)
    if (left and right) or not (may_be_mathematics(answer) and may_be_mathematics(gold)):
        return by_rules
    verdict = _ask(_write(answer), _write(gold))
    return by_rules if verdict is None else verdict


def may_be_mathematics(text: str) -> bool:
    """Whether a text has numbers or operators, and no words."""
    if len(text) > LONGEST or not (_SIGN.search(text) or PI.search(text)):
        return False
    bare = _FUNCTIONS.sub(" ", _COMMAND.sub(" ", PI.sub(" ", _TEXT.sub(r" \1 ", text))))
    if _WORD.search(bare):
        return False
    # "xy" is a product in "2xy + 1", and "km" is a unit in "5 km".
    return not _SHORT_WORD.search(bare) or _OPERATOR.search(text) is not None


def _write(text: str) -> str:
    """As LaTeX. An exact fraction where we read a number: math-verify reads "1 1/2" as 1."""
    number = read_quantity(text)
    if number and not _DECIMAL.fullmatch(text) and not number.unit and not number.name:
        return f"{number.value.numerator}/{number.value.denominator}"
    return PI.sub(r"\\pi ", unwrap_math(text))


@lru_cache(maxsize=100_000)
def _ask(answer: str, gold: str) -> bool | None:
    return _WORKER.ask(answer, gold)


class _Worker:
    """The other process: started when it is first asked, and again after it was ended."""

    def __init__(self, cpu_seconds: float = CPU_SECONDS) -> None:
        self._cpu_seconds = cpu_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def ask(self, answer: str, gold: str) -> bool | None:
        """math-verify's verdict; None if it has none, or took more than its time or memory."""
        with self._lock:
            try:
                return self._exchange(json.dumps([answer, gold]))
            except (OSError, ValueError):  # the system has ended it
                self.close()
                return None
            except BaseException:  # or its verdict would be taken for that of the next pair
                self.close()
                raise

    def _exchange(self, pair: str) -> bool | None:
        # A forked process must not share the pipes of the one that it was forked from.
        if self._process is None or self._owner != os.getpid():
            self._process, self._owner = self._start(), os.getpid()
        process = self._process
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"{pair}\n")
        process.stdin.flush()
        verdict = json.loads(process.stdout.readline())
        return verdict if isinstance(verdict, bool) else None

    def close(self) -> None:
        """End it; the next question starts another."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()

    def _start(self) -> subprocess.Popen[str]:
        # -P: no module of the current folder takes the place of one that is installed.
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "caft.grading.worker", str(self._cpu_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


_WORKER = _Worker()
atexit.register(_WORKER.close)
