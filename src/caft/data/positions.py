"""Whether the right answer's place gives it away, and the shuffling of options. Pure.

Files that list the right answer first teach "always A", and a test on such rows calls that a
success. The null hypothesis is that each question's gold answer falls on any of its options with
equal chance: the count of a place is then a sum of binomial draws, one for each number of options.
The p-values are exact except for the correction over places, which only makes them larger.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import compress

from caft.packed import pack, values_of
from caft.records import Question

ALPHA = 0.001
"""A place is reported if chance gives it as many or as few gold answers less often than this."""

_NEVER = 1e-30
"""Counts less likely than this are left out, or sums over 100,000 questions would take hours."""

HANDFUL = 5
"""So few questions may all have their gold answer at one place."""


@dataclass(frozen=True, slots=True)
class GoldPlace:
    """How many of `questions` have their gold answer at `place` (from 0).

    `expected` is the count by chance, `p` the probability of a count so far from it, corrected
    for the number of places.
    """

    place: int
    gold: int
    questions: int
    expected: float
    p: float

    @property
    def everywhere(self) -> bool:
        """Whether every gold answer is there."""
        return self.gold == self.questions


def find_uneven_place(questions: Sequence[Question]) -> GoldPlace | None:
    """The least likely place, if it has all gold answers or a p below `ALPHA`; else None.

    Questions without listed options do not count.
    """
    counts = [*map(len, values_of(questions, "options"))]
    sizes = Counter(filter(None, counts))
    if not sizes:
        return None
    golds = Counter(compress(values_of(questions, "gold_index"), counts))
    places = [_judge_place(place, golds[place], sizes) for place in range(max(sizes))]
    worst = min(places, key=lambda found: (not found.everywhere, found.p))
    return worst if worst.p < ALPHA or worst.everywhere else None


def _judge_place(place: int, gold: int, sizes: Mapping[int, int]) -> GoldPlace:
    """A two-sided test, corrected over all places (Bonferroni)."""
    import numpy as np
    from scipy.stats import binom

    expected, chances, least = 0.0, np.ones(1), 0
    for size, count in sizes.items():
        if size > place:
            expected += count / size
            pmf = binom.pmf(np.arange(count + 1), count, 1 / size)
            likely = np.flatnonzero(pmf > _NEVER)
            chances = np.convolve(chances, pmf[likely[0] : likely[-1] + 1])
            least += int(likely[0])
    from_least = max(0, gold - least)
    tails = chances[from_least:].sum(), chances[: from_least + 1].sum() * (gold >= least)
    p = min(1.0, 2 * max(sizes) * float(min(tails)))
    return GoldPlace(place, gold, sum(sizes.values()), expected, p)


def shuffle_options(questions: Sequence[Question], seed: int) -> Sequence[Question]:
    """Each question with its options in an order that depends only on `seed` and its id.

    "All of the above" keeps its place. A question whose options or solution name options by
    letter or by place is not changed.
    """
    return pack(_shuffle(question, seed) for question in questions)


def _shuffle(question: Question, seed: int) -> Question:
    if not question.options or names_letters(question):
        return question
    free = [p for p, option in enumerate(question.options) if not _POINTS_ABOVE.search(option)]

    def rank(place: int) -> bytes:
        return hashlib.sha256(f"options {seed} {question.id} {place}".encode()).digest()

    order = list(range(len(question.options)))
    for place, source in zip(free, sorted(free, key=rank), strict=True):
        order[place] = source
    assert question.gold_index is not None
    return replace(
        question,
        options=tuple(question.options[source] for source in order),
        gold_index=order.index(question.gold_index),
    )


_POINTS_ABOVE = re.compile(
    r"\b(?:all|none|both|neither|any|either|each|one)\b.{0,20}\b(?:above|below|these|those|them)\b",
    re.IGNORECASE,
)
_LETTER = r"(?:\(?[A-Z]\)?)"
_AMONG_LETTERS = re.compile(
    rf"^\W*(?:both|either|neither|only|all of)?\s*{_LETTER}(?:\s*,\s*{_LETTER})*"
    rf"\s*,?\s*(?:and|or|nor|&)\s*{_LETTER}\W*(?:only|are correct)?\W*$",
    re.IGNORECASE,
)
_LETTER_IN_PROSE = r"\([{0}]\)|\b(?:answer is|option|choice|options) [{0}]\b"
# What no option says, but a solution does. An article is no letter: "the answer is a tree".
_LETTER_IN_SOLUTION = "|".join(
    (
        r"\[\[(?i:\W{{0,8}}(?:\\\w{{1,12}}\{{\W{{0,8}})?[{0}]\b)",
        r"\[\[\s?\d{{1,2}}\s?\]\]",
        r"\\f?box(?:ed)?\s?\{{(?i:\W{{0,8}}(?:\\\w{{1,12}}\s?\{{\W{{0,8}})?[{0}]\b)",
        r"\b(?i:ans(?:wer)?|option|choice|alternative)s?\b"
        r"(?:\W{{1,8}}(?i:is|was|are|be|must|should|would|thus|therefore|hence|clearly|the|correct|option"
        r"|choice)\b){{0,5}}\W{{1,8}}(?:[{0}]\b|(?i:[{0}])(?=[.,;:)\]*]|\s*$))",
        r"\b(?i:choose|chose|pick|select|eliminate|exclude|rule out)[sd]?\W{{1,8}}[{0}]\b",
        r"\b[{0}]\W{{1,8}}(?:is|are|was)\s(?:\w+\s){{0,3}}"
        r"(?:correct|right|true|best|wrong|incorrect|false|answer|choice|option)\b",
        r"(?:\*\*|__)\(?[{0}][.:)]?(?:\*\*|__)",
        r"^[\s*_#>-]{{0,8}}[{0}][.:)]",
        r"\b(?i:option|choice)s?\W{{1,4}}\d{{1,2}}\b",
        r"\b(?i:first|second|third|fourth|fifth|last) (?i:option|choice)\b",
        # The last letter of all, where it is no name of a thing: "area A".
        r"\b(?i:answer|option|choice)s?\b[^.\n]{{0,60}}\W[{0}]\W*\Z",
        r"(?:[=:]|\b(?i:it is|it's|it must be)\b)\W{{0,8}}\b[{0}]\W*\Z",
        r"^\W{{0,8}}\b[{0}]\W*\Z",
    )
)


def names_letters(question: Question) -> bool:
    """Whether an option or the worked solution names options by letter, or by place."""
    in_option, in_solution = _patterns(len(question.options))
    if question.rationale and in_solution.search(question.rationale):
        return True
    return any(
        _AMONG_LETTERS.match(option) or in_option.search(option) for option in question.options
    )


@lru_cache
def _patterns(options: int) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """For an option and for a solution, with letters up to J at least."""
    letters = f"A-{string.ascii_uppercase[max(9, options - 1)]}"
    both = f"{_LETTER_IN_PROSE}|{_LETTER_IN_SOLUTION}"
    return (
        re.compile(_LETTER_IN_PROSE.format(letters)),
        re.compile(both.format(letters), re.MULTILINE),
    )
