"""Generated arithmetic: `7 + 2 - 4`, with a one-digit answer and its solution.

A chain goes from one value to the next by adding or subtracting an operand. The number of chains
that end in each value is counted, so that all chains of n steps can be numbered 0, 1, 2, ...
Drawing distinct numbers then draws distinct questions with equal chance, and it is known
beforehand how many there are.

Shots get their step counts first. Test, validation and train each divide theirs evenly over
1..most_steps. If there are too few short chains, every split takes some in proportion to its size
and divides the rest evenly over the longer ones, so that all splits have the same mix.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from math import ceil

from caft.data.config import ArithmeticConfig
from caft.data.splits import QuestionSplits
from caft.errors import UserError, count_of
from caft.records import Question

ANSWERS = range(1, 10)


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a chain: `before` + or - `operand` gives the next value."""

    before: int
    sign: str
    operand: int


def load_arithmetic(config: ArithmeticConfig) -> QuestionSplits:
    """All splits, from `config` alone. Raises UserError if too few distinct questions exist."""
    return QuestionSplits(**deal_chains(config, count_rows(config)), removed={}, sources={})


def count_rows(config: ArithmeticConfig) -> dict[str, int]:
    """How many questions each split has, in the order in which they are dealt."""
    sizes = {"test": config.test, "validation": config.validation, "train": config.train}
    given = {split: size for split, size in sizes.items() if size is not None}
    assert len(given) == len(sizes), "the config refuses null"
    return {"shots": config.prompt.shots, **given}


def deal_chains(
    config: ArithmeticConfig, sizes: Mapping[str, int]
) -> dict[str, tuple[Question, ...]]:
    """The chains of every split; UserError if too few distinct ones exist.

    `sizes` is by split, `shots` first: a split does not depend on those after it, as long as there
    are enough short chains.
    """
    bounds = Bounds(config.lowest, config.highest, config.largest_operand)
    steps = range(1, config.most_steps + 1)
    decks = [_shuffled_chains(count, bounds, config.seed) for count in steps]
    available = [count_chains(count, bounds) for count in steps]
    waiting = sum(sizes.values()) - sizes["shots"]
    shares = spread_shots(sizes["shots"], config.most_steps)
    left = [count - taken for count, taken in zip(available, shares, strict=True)]
    _refuse_too_few(sizes, left, config)
    dealt: dict[str, tuple[Question, ...]] = {}
    for split, size in sizes.items():
        if split != "shots":
            shares = share(size, left, waiting)
            left = [count - taken for count, taken in zip(left, shares, strict=True)]
            waiting -= size
        dealt[split] = _deal(decks, shares, split, config.seed)
    return dealt


def spread_shots(shots: int, most_steps: int) -> list[int]:
    """How many shots each step count gets: evenly spread from short to long."""
    counts = [0] * most_steps
    for shot in range(shots):
        counts[(2 * shot + 1) * most_steps // (2 * shots)] += 1
    return counts


def share(size: int, available: Sequence[int], waiting: int) -> list[int]:
    """Divides `size` rows over step counts, evenly up to a cap each; the rest goes to the shortest.

    A cap is this split's part of what is `available`; `waiting` counts the rows of this split and
    of those to come. If every step count has enough for an even share of all of them, no cap is
    reached and a split does not depend on the sizes of the others.
    """
    caps = [ceil(questions * size / max(1, waiting)) for questions in available]
    shares = [0] * len(caps)
    while left := size - sum(shares):
        open_steps = [step for step, cap in enumerate(caps) if shares[step] < cap]
        even, over = divmod(left, len(open_steps))
        for place, step in enumerate(open_steps):
            shares[step] = min(caps[step], shares[step] + even + (place < over))
    return shares


@dataclass(frozen=True, slots=True)
class Bounds:
    """Values are within `lowest`..`highest`, operands within `lowest`..`largest_operand`."""

    lowest: int
    highest: int
    largest_operand: int


@cache
def moves_to(value: int, bounds: Bounds) -> tuple[Move, ...]:
    """Every last step that ends in `value`; with `lowest` 0 also + 0 and - 0."""
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
    if steps == 0:
        return []
    for move in moves_to(value, bounds):
        ways = count_ways(move.before, steps - 1, bounds)
        if number < ways:
            return [*_walk(number, move.before, steps - 1, bounds), move]
        number -= ways
    raise AssertionError("chain numbers end at count_ways")


def write_question(moves: Sequence[Move], answer: int) -> Question:
    """A chain as a question; the rationale has every step and no answer marker."""
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
        subject=count_of(len(moves), "step"),
        rationale=solution,
        origin=f"arithmetic: {text}",
    )


def _shuffled_chains(steps: int, bounds: Bounds, seed: int) -> Iterator[Question]:
    """All questions of one step count, in an order drawn by the seed."""
    chance = seeded(seed, f"{steps} steps")
    for number in draw_distinct(chance, count_chains(steps, bounds)):
        yield write_question(*chain_number(number, steps, bounds))


def draw_distinct(chance: random.Random, size: int) -> Iterator[int]:
    """0 .. size - 1 in random order, one by one: a Fisher-Yates shuffle that stores only swaps."""
    swapped: dict[int, int] = {}
    for place in range(size):
        other = place + below(chance, size - place)
        yield swapped.get(other, other)
        swapped[other] = swapped.get(place, place)


def below(chance: random.Random, bound: int) -> int:
    """A random integer in 0 .. bound - 1.

    It uses random() alone, whose sequence for a seed Python promises to keep; randrange, shuffle
    and sample may change. Two draws, since some bounds exceed 2^53; integers only, so that every
    platform rounds alike.
    """
    high, low = (int(chance.random() * 2**53) for _ in range(2))
    return ((high << 53 | low) * bound) >> 106


def seeded(seed: int, purpose: str) -> random.Random:
    """Random numbers of their own for each purpose, so that no draw moves another."""
    digest = hashlib.sha256(f"arithmetic {seed} {purpose}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def _deal(
    decks: Sequence[Iterator[Question]], shares: Sequence[int], split: str, seed: int
) -> tuple[Question, ...]:
    dealt = [
        question
        for deck, part in zip(decks, shares, strict=True)
        for question in islice(deck, part)
    ]
    return shuffle(dealt, seeded(seed, f"order of {split}"))


def shuffle(questions: Sequence[Question], chance: random.Random) -> tuple[Question, ...]:
    """The same questions in random order."""
    return tuple(questions[place] for place in draw_distinct(chance, len(questions)))


def _refuse_too_few(
    sizes: Mapping[str, int], left: Sequence[int], config: ArithmeticConfig
) -> None:
    """`left` is by number of steps, after the shots."""
    room = (
        f"within {config.lowest} to {config.highest} with operands up to {config.largest_operand}"
    )
    if min(left) < 0:
        steps = left.index(min(left))
        shots = spread_shots(sizes["shots"], config.most_steps)[steps]
        raise UserError(
            f"dataset.prompt.shots is {config.prompt.shots}, {shots} of them of "
            f"{count_of(steps + 1, 'step')}; only {shots + left[steps]} such chains stay {room}: "
            "lower it, or raise dataset.largest_operand or dataset.highest"
        )
    wanted, available = sum(sizes.values()), sum(left) + sizes["shots"]
    if wanted > available:
        raise UserError(
            f"dataset.train, validation, test and prompt.shots ask for {wanted} chains; only "
            f"{available} distinct ones of 1 to {config.most_steps} steps stay {room}: "
            "ask for fewer, or raise dataset.largest_operand, dataset.highest or dataset.most_steps"
        )
