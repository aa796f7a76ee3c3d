"""Which rows of a pack share how much of their beginning. Pure.

Prompts of one subject often start alike: instruction, solved examples, a system turn that names
the subject. Such a stem is run once a pack, and all rows behind it read its keys and values.
Packs stay independent of each other, so that they can be dealt out to processes or left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, takewhile

Row = Sequence[int]

# Reading a shorter stem costs about what running it again does.
SHORTEST_STEM = 16


@dataclass(frozen=True, slots=True)
class PrefixGroup:
    """Row numbers, in order of length, that share their first `stem` tokens; 0: nothing shared."""

    stem: int
    members: tuple[int, ...]


def find_prefix_groups(rows: Sequence[Row], shortest: int = SHORTEST_STEM) -> list[PrefixGroup]:
    """Every row in one bundle. At least one token of every row lies behind its stem.

    In dictionary order, rows that start alike are neighbours. The order is cut wherever two
    neighbours share less than a least length; of all least lengths, the one is taken that spares
    the most tokens.
    """
    order = sorted(range(len(rows)), key=lambda row: tuple(rows[row]))
    shared = [_shared_tokens(rows[one], rows[other]) for one, other in pairwise(order)]
    lengths = {length for length in shared if length >= shortest}
    cuts = [_cut(order, shared, least) for least in sorted(lengths)]
    best = max(cuts, key=lambda bundles: sum(map(_spared, bundles)), default=[])
    bundled = {row for bundle in best for row in bundle.members}
    alone = [row for row in range(len(rows)) if row not in bundled]
    if alone:
        best = [*best, PrefixGroup(0, tuple(alone))]
    return [PrefixGroup(bundle.stem, _by_length(bundle.members, rows)) for bundle in best]


def plan_grouped_packs(
    rows: Sequence[Row], bundles: Sequence[PrefixGroup], most_tokens: int, most_rows: int
) -> list[list[PrefixGroup]]:
    """Packs of bundles, within the budget of tokens; a bundle may go on in the next pack.

    A row that is longer than the budget gets a pack of its own.
    """
    packs: list[list[tuple[int, list[int]]]] = []
    tokens, count = 0, 0
    for bundle in bundles:
        opened = False
        for row in bundle.members:
            cost = len(rows[row]) - (bundle.stem if opened else 0)
            if not packs or tokens + cost > most_tokens or count == most_rows:
                packs.append([])
                tokens, count, opened, cost = 0, 0, False, len(rows[row])
            if not opened:
                packs[-1].append((bundle.stem, []))
                opened = True
            packs[-1][-1][1].append(row)
            tokens, count = tokens + cost, count + 1
    return [[PrefixGroup(stem, tuple(members)) for stem, members in pack] for pack in packs]


def _cut(order: Sequence[int], shared: Sequence[int], least: int) -> list[PrefixGroup]:
    """Neighbours that share at least `least` tokens, in bundles of two rows or more."""
    bundles = []
    places = enumerate(shared)
    for joined, group in groupby(places, key=lambda place: place[1] >= least):
        if joined:
            links = list(group)
            first, last = links[0][0], links[-1][0] + 1
            bundles.append(PrefixGroup(min(n for _, n in links), tuple(order[first : last + 1])))
    return bundles


def _spared(bundle: PrefixGroup) -> int:
    return bundle.stem * (len(bundle.members) - 1)


def _shared_tokens(one: Row, other: Row) -> int:
    limit = min(len(one), len(other)) - 1
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return min(limit, sum(1 for _ in same))


def _by_length(members: Sequence[int], rows: Sequence[Row]) -> tuple[int, ...]:
    return tuple(sorted(members, key=lambda row: len(rows[row])))
