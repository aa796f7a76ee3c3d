"""Arithmetic made by our own code: `7 + 2 - 4`, with a one-digit answer and its solution.

A chain is a walk: from one value to the next by adding or subtracting an operand. Read backwards
from the answer, every value can be reached in the same number of ways, so all chains of n steps
are numbered 0, 1, 2, ... by the digits of a number, and drawing distinct numbers draws distinct
questions, every one equally likely. Nothing is generated and thrown away, and how many
questions exist is known beforehand: 9 x 19^n with values within 1 to 20.

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
    return QuestionSplits(**splits)


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


def moves_to(value: int, lowest: int, highest: int) -> list[Move]:
    """Every last step that ends in `value` with value and operand in bounds.

    As many for one value as for any other: each other value once, and with `lowest` 0 the value
    itself twice, as + 0 and - 0.
    """
    moves = []
    for before in range(lowest, highest + 1):
        operand = abs(value - before)
        if operand < lowest:
            continue
        signs = ("+", "-") if operand == 0 else ("+",) if value > before else ("-",)
        moves += [Move(before, sign, operand) for sign in signs]
    return moves


def count_chains(steps: int, lowest: int, highest: int) -> int:
    """How many distinct questions of `steps` steps exist."""
    return len(ANSWERS) * len(moves_to(ANSWERS[0], lowest, highest)) ** steps


def chain_number(number: int, steps: int, lowest: int, highest: int) -> tuple[list[Move], int]:
    """The moves, in order, and the answer of chain `number` (0 to count_chains - 1)."""
    number, digit = divmod(number, len(ANSWERS))
    answer = value = ANSWERS[digit]
    moves: list[Move] = []
    for _ in range(steps):
        choices = moves_to(value, lowest, highest)
        number, digit = divmod(number, len(choices))
        moves.insert(0, choices[digit])
        value = choices[digit].before
    assert number == 0, "chain numbers end at count_chains"
    return moves, answer


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
        subject=f"{len(moves)} step{'s' * (len(moves) > 1)}",
        rationale=solution,
        origin=f"arithmetic: {text}",
    )


class _Deck:
    """All chains of one step count in an order fixed by the seed, dealt from the top."""

    def __init__(self, config: ArithmeticConfig, steps: int) -> None:
        self.size = count_chains(steps, config.lowest, config.highest)
        self._bounds = (config.lowest, config.highest)
        self._steps = steps
        self._numbers = draw_distinct(_seeded(config.seed, f"{steps} steps"), self.size)

    def deal(self) -> Question:
        """The next question that was not dealt before."""
        return write_question(*chain_number(next(self._numbers), self._steps, *self._bounds))


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
            f"{config.highest}: ask for fewer, or raise dataset.highest or dataset.most_steps"
        )
