"""Two kinds of generated questions: chains of operations, and lookups such as `7 red apples`.

The embedded model answers a lookup at once, because the digit stands in the question, and a chain
almost never without its steps. Which questions get rationales should therefore matter here, as it
hardly can on chains alone. The worked solutions of both kinds are equally long, because teachers
write at length about easy questions as well: a lookup's has as many sentences as a chain of its
split has steps, and a sentence has as many tokens as a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from caft.data.arithmetic import (
    ANSWERS,
    count_rows,
    deal_chains,
    draw_distinct,
    seeded,
    shuffle,
)
from caft.data.config import MixedConfig
from caft.data.splits import QuestionSplits
from caft.errors import UserError
from caft.records import Question

LOOKUP = "lookup"
"""The subject of lookups; that of a chain is its number of steps."""

_ADJECTIVES = ("red", "blue", "green", "white", "big", "small", "old", "new", "clean", "cheap")
_NOUNS = tuple(
    """
    apples pears plums lemons melons onions carrots beans nuts eggs
    cakes pies rolls cookies candies cups plates bowls forks spoons
    knives pots pans jars bottles boxes bags baskets buckets barrels
    books pens pencils papers maps letters cards stamps coins keys
    lamps chairs tables beds doors windows clocks mirrors carpets pillows
    shirts coats hats shoes boots socks gloves belts rings buttons
    balls dolls kites drums bells flags ropes nets sticks stones
    cars trucks buses trains boats ships planes bikes wagons wheels
    dogs cats birds ducks hens cows pigs goats horses rabbits
    trees flowers roses leaves seeds houses barns bridges towers tents
    """.split()  # noqa: SIM905 (a hundred lines as a list)
)


def load_mixed(config: MixedConfig) -> QuestionSplits:
    """All splits, from `config` alone. Raises UserError if too few distinct questions exist."""
    rows = count_rows(config)
    lookups = {split: int(size * config.lookup_share + 0.5) for split, size in rows.items()}
    _refuse_too_many(lookups, config)
    chains = deal_chains(config, {split: size - lookups[split] for split, size in rows.items()})
    deck = _shuffled_lookups(config.seed)
    mixed = {
        split: shuffle(
            [*chains[split], *_deal(deck, chains[split], count)],
            seeded(config.seed, f"mix of {split}"),
        )
        for split, count in lookups.items()
    }
    return QuestionSplits(**mixed, removed={}, sources={})


def spread_lengths(lengths: Sequence[int], count: int) -> list[int]:
    """`count` of these lengths at equal distances in their order: the same mix.

    Without any length, 1: so few questions have no mix.
    """
    ordered = sorted(lengths) or [1]
    return [ordered[(2 * place + 1) * len(ordered) // (2 * count)] for place in range(count)]


def write_lookup(number: int, sentences: int) -> Question:
    """Lookup `number`, from 0, solved in up to five sentences, then in the same ones again."""
    number, digit = divmod(number, len(ANSWERS))
    noun, adjective = divmod(number, len(_ADJECTIVES))
    gold, kind, thing = str(ANSWERS[digit]), _ADJECTIVES[adjective], _NOUNS[noun]
    text = f"{gold} {kind} {thing}"
    solution = (
        f"There are {gold} {kind} {thing} here.",
        f"The question is about {kind} {thing} and nothing else.",
        f"The number of the {kind} {thing} is {gold}.",
        "Nothing is added, and nothing is taken away.",
        f"So the count of the {kind} {thing} stays {gold}.",
    )
    return Question(
        id=text.replace(" ", "-"),
        text=text,
        answer_set=tuple(str(answer) for answer in ANSWERS),
        gold_index=digit,
        gold_text=gold,
        subject=LOOKUP,
        rationale=" ".join(solution[place % len(solution)] for place in range(sentences)),
        origin=f"mixed: {text}",
    )


def _shuffled_lookups(seed: int) -> Iterator[int]:
    return draw_distinct(seeded(seed, LOOKUP), _count_lookups())


def _count_lookups() -> int:
    return len(ANSWERS) * len(_ADJECTIVES) * len(_NOUNS)


def _deal(deck: Iterator[int], chains: Sequence[Question], count: int) -> list[Question]:
    """The next lookups, whose solutions are as long as those of the chains."""
    lengths = spread_lengths([_count_steps(chain) for chain in chains], count)
    # The deck is at random already; sorted lengths pair with it.
    return [write_lookup(next(deck), length) for length in lengths]


def _count_steps(chain: Question) -> int:
    return len(chain.text.split()) // 2


def _refuse_too_many(lookups: Mapping[str, int], config: MixedConfig) -> None:
    wanted = sum(lookups.values())
    if wanted > _count_lookups():
        raise UserError(
            f"dataset.lookup_share is {config.lookup_share:g}, which makes {wanted:,} lookups; "
            f"there are {_count_lookups():,}: ask for a smaller share, or for fewer questions"
        )
