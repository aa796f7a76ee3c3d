"""Arithmetic made by our own code: `7 + 2 - 4`, with a one-digit answer and its solution.

A chain is a walk: from one value to the next by adding or subtracting an operand. Counting, for
every value, the chains that end there numbers all chains of n steps 0, 1, 2, ..., and drawing
distinct numbers draws distinct questions, every one equally likely. Nothing is generated and
thrown away, and how many questions exist is known beforehand.

How rows are spread: shots get their step counts first, then test, validation and train each
share theirs evenly over 1..most_steps. Where the short chains are too few for that, every split
takes of them in proportion to its size and the longer chains share the rest evenly, so that all
splits keep the same mix.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil

from caft.data.config import ArithmeticConfig
from caft.data.splits import QuestionSplits
from caft.errors import UserError
from caft.records import Question

ANSWERS = range(1, 10)


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a chain: `before` + or - `operand` gives the next value."""

    before: int
    sign: str
    operand: int


def load_arithmetic(config: ArithmeticConfig) -> QuestionSplits:
    """All splits, from `config` alone. Raises UserError where too few distinct questions exist."""
    steps = range(1, config.most_steps + 1)
    sizes = {"test": config.test, "validation": config.validation, "train": config.train}
    decks = [_Deck(config, count) for count in steps]
    for_shots = spread_shots(config.prompt.shots, config.most_steps)
    available = [deck.size - shots for deck, shots in zip(decks, for_shots, strict=True)]
    waiting = sum(size for size in sizes.values() if size is not None)
    _refuse_too_few(waiting, available, config)
    splits = {"shots": _deal(decks, for_shots, "shots", config)}
    for split, size in sizes.items():
        assert size is not None, "the config refuses null"
        shares = share(size, available, waiting)
        splits[split] = _deal(decks, shares, split, config)
        available = [left - taken for left, taken in zip(available, shares, strict=True)]
        waiting -= size
    return QuestionSplits(
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        shots=splits["shots"],
    )


def spread_shots(shots: int, most_steps: int) -> list[int]:
    """How many shots each step count gets: evenly, and from short to long where they are few."""
    counts = [0] * most_steps
    for shot in range(shots):
        counts[(2 * shot + 1) * most_steps // (2 * shots)] += 1
    return counts


def share(size: int, available: Sequence[int], waiting: int) -> list[int]:
    """Divide `size` rows over step counts, evenly up to a cap each; leftovers go to the shortest.

    A cap is this split's part of what is `available`, out of all `waiting` rows of this and the
    splits to come. Where every step count has enough for an even share of all of them, no cap is
    reached and a split does not depend on the size of the others.
    """
    caps = [ceil(questions * size / waiting) for questions in available]
    shares = [0] * len(caps)
    while left := size - sum(shares):
        open_steps = [step for step, cap in enumerate(caps) if shares[step] < cap]
        even, over = divmod(left, len(open_steps))
        for place, step in enumerate(open_steps):
            shares[step] = min(caps[step], shares[step] + even + (place < over))
    return shares


@dataclass(frozen=True, slots=True)
class Bounds:
    """Values stay within `lowest`..`highest`, operands within `lowest`..`largest_operand`."""

    lowest: int
    highest: int
    largest_operand: int


def bounds_of(config: ArithmeticConfig) -> Bounds:
    """The generator's limits."""
    return Bounds(config.lowest, config.highest, config.largest_operand)


@cache
def moves_to(value: int, bounds: Bounds) -> tuple[Move, ...]:
    """Every last step that ends in `value`; with `lowest` 0 the value itself, as + 0 and - 0."""
    moves: list[Move] = []
    for before in range(bounds.lowest, bounds.highest + 1):
        operand = abs(value - before)
        if bounds.lowest <= operand <= bounds.largest_operand:
            signs = ("+", "-") if operand == 0 else ("+",) if value > before else ("-",)
            moves += [Move(before, sign, operand) for sign in signs]
    return tuple(moves)


@cache
def count_ways(value: int, steps: int, bounds: Bounds) -> int:
    """How many chains of `steps` steps end in `value`."""
    if steps == 0:
        return 1
    return sum(count_ways(move.before, steps - 1, bounds) for move in moves_to(value, bounds))


def count_chains(steps: int, bounds: Bounds) -> int:
    """How many distinct questions of `steps` steps exist."""
    return sum(count_ways(answer, steps, bounds) for answer in ANSWERS)


def chain_number(number: int, steps: int, bounds: Bounds) -> tuple[list[Move], int]:
    """The moves, in order, and the answer of chain `number` (0 to count_chains - 1)."""
    for answer in ANSWERS:
        ways = count_ways(answer, steps, bounds)
        if number < ways:
            return _walk(number, answer, steps, bounds), answer
        number -= ways
    raise AssertionError("chain numbers end at count_chains")


def _walk(number: int, value: int, steps: int, bounds: Bounds) -> list[Move]:
    """The chain with this number among those of `steps` steps that end in `value`."""
    if steps == 0:
        return []
    for move in moves_to(value, bounds):
        ways = count_ways(move.before, steps - 1, bounds)
        if number < ways:
            return [*_walk(number, move.before, steps - 1, bounds), move]
        number -= ways
    raise AssertionError("chain numbers end at count_ways")


def write_question(moves: Sequence[Move], answer: int) -> Question:
    """A chain in words; the rationale is its solution, step by step, without an answer marker."""
    text = f"{moves[0].before}" + "".join(f" {move.sign} {move.operand}" for move in moves)
    after = [move.before for move in moves[1:]] + [answer]
    solution = " ".join(
        f"{move.before} {move.sign} {move.operand} = {value}."
        for move, value in zip(moves, after, strict=True)
    )
    return Question(
        id=text.replace(" ", ""),
        text=text,
        answer_set=tuple(str(digit) for digit in ANSWERS),
        gold_index=ANSWERS.index(answer),
        gold_text=str(answer),
        subject=f"{len(moves)} step{'s' * (len(moves) > 1)}",
        rationale=solution,
        origin=f"arithmetic: {text}",
    )


class _Deck:
    """All chains of one step count in an order fixed by the seed, dealt from the top."""

    def __init__(self, config: ArithmeticConfig, steps: int) -> None:
        self._bounds = bounds_of(config)
        self.size = count_chains(steps, self._bounds)
        self._steps = steps
        self._numbers = draw_distinct(_seeded(config.seed, f"{steps} steps"), self.size)

    def deal(self) -> Question:
        """The next question that was not dealt before."""
        return write_question(*chain_number(next(self._numbers), self._steps, self._bounds))


def draw_distinct(chance: random.Random, size: int) -> Iterator[int]:
    """0 .. size - 1 in a random order, lazily: a Fisher-Yates shuffle that stores only swaps."""
    swapped: dict[int, int] = {}
    for place in range(size):
        other = place + below(chance, size - place)
        yield swapped.get(other, other)
        swapped[other] = swapped.get(place, place)


def below(chance: random.Random, bound: int) -> int:
    """A random integer in 0 .. bound - 1.

    Made of random() alone, whose sequence Python promises to keep for a seed; randrange, shuffle
    and sample may change between versions. Two draws, since some bounds pass 2^53; all in
    integers, so that no platform rounds differently.
    """
    high, low = (int(chance.random() * 2**53) for _ in range(2))
    return ((high << 53 | low) * bound) >> 106


def _seeded(seed: int, purpose: str) -> random.Random:
    digest = hashlib.sha256(f"arithmetic {seed} {purpose}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def _deal(
    decks: Sequence[_Deck], shares: Sequence[int], split: str, config: ArithmeticConfig
) -> tuple[Question, ...]:
    dealt = [deck.deal() for deck, part in zip(decks, shares, strict=True) for _ in range(part)]
    order = draw_distinct(_seeded(config.seed, f"order of {split}"), len(dealt))
    return tuple(dealt[place] for place in order)


def _refuse_too_few(wanted: int, available: Sequence[int], config: ArithmeticConfig) -> None:
    if min(available) < 0 or wanted > sum(available):
        raise UserError(
            f"dataset.train, validation, test and prompt.shots ask for "
            f"{wanted + config.prompt.shots} questions; only {sum(available) + config.prompt.shots}"
            f" distinct ones of 1 to {config.most_steps} steps stay within {config.lowest} to "
            f"{config.highest} with operands up to {config.largest_operand}: ask for fewer, or "
            "raise dataset.largest_operand, dataset.highest or dataset.most_steps"
        )
