"""Groups the rows of a pack by the prefix that they share. Pure.

Prompts of one subject often start alike: instruction, solved examples, a system turn that names
the subject. Such a prefix is run once a pack, and all rows after it read its keys and values. Packs
stay independent of each other, so that processes can share them or leave some out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

Row = Sequence[int]

# Reading a shorter prefix costs about what running it again does.
SHORTEST_PREFIX = 16


@dataclass(frozen=True, slots=True)
class PrefixGroup:
    """Row numbers, in order of length, that share their first `prefix` tokens; 0: none."""

    prefix: int
    members: tuple[int, ...]


def common_prefix(rows: Sequence[Row]) -> int:
    """How many tokens all rows start with; at least one token of every row is left over."""
    if len(rows) < 2:
        return 0
    # All rows agree as far as the first and the last of them in dictionary order do.
    first, last = min(map(tuple, rows)), max(map(tuple, rows))
    limit = min(map(len, rows)) - 1
    return next((at for at in range(limit) if first[at] != last[at]), limit)


def find_prefix_groups(rows: Sequence[Row], shortest: int = SHORTEST_PREFIX) -> list[PrefixGroup]:
    """Every row in one group. At least one token of every row comes after its prefix.

    In dictionary order, rows that start alike are neighbours. The order is cut wherever two
    neighbours share less than a least length; of all least lengths, the one is chosen that saves
    the most tokens.
    """
    order = sorted(range(len(rows)), key=lambda row: tuple(rows[row]))
    shared = [common_prefix((rows[one], rows[other])) for one, other in pairwise(order)]
    groups = _cut(order, shared, _best_cut(shared, shortest))
    grouped = {row for group in groups for row in group.members}
    alone = [row for row in range(len(rows)) if row not in grouped]
    if alone:
        groups.append(PrefixGroup(0, tuple(alone)))
    return [
        replace(group, members=tuple(sorted(group.members, key=lambda row: len(rows[row]))))
        for group in groups
    ]


def plan_grouped_packs(
    rows: Sequence[Row], groups: Sequence[PrefixGroup], most_tokens: int, most_rows: int
) -> list[list[PrefixGroup]]:
    """Packs of groups, within the budget of tokens; a group may continue in the next pack.

    A row that is longer than the budget gets a pack of its own.
    """
    packs: list[list[tuple[int, list[int]]]] = []
    tokens, count = 0, 0
    for group in groups:
        opened = False
        for row in group.members:
            cost = len(rows[row]) - (group.prefix if opened else 0)
            if not packs or tokens + cost > most_tokens or count == most_rows:
                packs.append([])
                tokens, count, opened, cost = 0, 0, False, len(rows[row])
            if not opened:
                packs[-1].append((group.prefix, []))
                opened = True
            packs[-1][-1][1].append(row)
            tokens, count = tokens + cost, count + 1
    return [[PrefixGroup(prefix, tuple(members)) for prefix, members in pack] for pack in packs]


def _best_cut(shared: Sequence[int], shortest: int) -> int:
    """The least length, `shortest` or more, that saves most tokens; of equal ones the smallest.

    Neighbours are joined from the longest shared length down: then every join costs the same,
    whatever the number of lengths.
    """
    best, best_spared, spared = shortest, 0, 0
    # By each end of a stretch of joined neighbours: its other end, and the tokens it saves.
    stretches: dict[int, tuple[int, int]] = {}
    places = sorted(range(len(shared)), key=shared.__getitem__, reverse=True)
    for least, joined in groupby(places, key=shared.__getitem__):
        if least < shortest:
            break
        for place in joined:
            before, after = stretches.pop(place, None), stretches.pop(place + 1, None)
            first = place if before is None else before[0]
            last = place + 1 if after is None else after[0]
            # All rows of a stretch but one save its shortest shared length.
            now = least * (last - first)
            spared += now - sum(each[1] for each in (before, after) if each is not None)
            stretches[first], stretches[last] = (last, now), (first, now)
        if spared >= best_spared:
            best, best_spared = least, spared
    return best


def _cut(order: Sequence[int], shared: Sequence[int], least: int) -> list[PrefixGroup]:
    """Neighbours that share at least `least` tokens, in groups of two rows or more."""
    groups = []
    for joined, links in groupby(enumerate(shared), key=lambda link: link[1] >= least):
        if joined:
            places, lengths = zip(*links, strict=True)
            members = order[places[0] : places[-1] + 2]
            groups.append(PrefixGroup(min(lengths), tuple(members)))
    return groups
