"""Shared beginnings: by hand, and what holds for any rows."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from caft.kernels.shared_prefixes import (
    PrefixGroup,
    _cut,
    common_prefix,
    find_prefix_groups,
    plan_grouped_packs,
)


def test_by_hand() -> None:
    rows = [(1, 2, 3, 4, 5), (9, 9, 9, 1), (1, 2, 3, 7), (5,), (9, 9, 9, 2, 2), (1, 2, 3, 8)]
    assert find_prefix_groups(rows, shortest=2) == [
        PrefixGroup(3, (2, 5, 0)),
        PrefixGroup(3, (1, 4)),
        PrefixGroup(0, (3,)),
    ]


def test_the_cut_that_spares_most_is_taken() -> None:
    # Two tokens for five rows spare 8; three tokens, for three and for two of them, spare 9.
    rows = [(1, 1, 2, 5), (1, 1, 2, 6), (1, 1, 2, 7), (1, 1, 3, 5), (1, 1, 3, 6)]
    assert [each.prefix for each in find_prefix_groups(rows, shortest=2)] == [3, 3]
    # Among six rows of which only two share a third token, two tokens for all spare more.
    rows = [(1, 1, end, 5) for end in range(5)] + [(1, 1, 0, 6)]
    assert [each.prefix for each in find_prefix_groups(rows, shortest=2)] == [2]


@pytest.mark.parametrize("seed", range(20))
def test_the_cut_is_the_best_of_all_tried_one_by_one(seed: int) -> None:
    random = Random(seed)
    starts = [[random.randrange(2) for _ in range(random.randrange(1, 20))] for _ in range(5)]
    rows = [
        (*random.choice(starts), *(random.randrange(2) for _ in range(random.randrange(1, 9))))
        for _ in range(60)
    ]
    order = sorted(range(len(rows)), key=rows.__getitem__)
    shared = [common_prefix((rows[one], rows[other])) for one, other in pairwise(order)]
    for shortest in (1, 3, 9):
        cuts = [_cut(order, shared, least) for least in sorted(set(shared)) if least >= shortest]
        # Of equals the first: the lowest length.
        best = max(cuts, key=lambda cut: sum(g.prefix * (len(g.members) - 1) for g in cut))
        found = find_prefix_groups(rows, shortest)
        assert [(g.prefix, set(g.members)) for g in found if g.prefix] == [
            (g.prefix, set(g.members)) for g in best
        ]


def test_short_prefixes_are_not_worth_it() -> None:
    assert find_prefix_groups([(1, 2, 3), (1, 2, 4)], shortest=3) == [PrefixGroup(0, (0, 1))]
    assert find_prefix_groups([], shortest=3) == []


def test_rows_that_are_equal_keep_a_token_of_their_own() -> None:
    assert find_prefix_groups([(1, 2, 3), (1, 2, 3)], shortest=2) == [PrefixGroup(2, (0, 1))]


def test_packs_by_hand() -> None:
    rows = [(1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 3, 6, 7), (8, 9)]
    groups = [PrefixGroup(3, (0, 1, 2)), PrefixGroup(0, (3,))]
    # 3 + 1 + 1 tokens, and the prefix once more for the row that has no room.
    assert plan_grouped_packs(rows, groups, most_tokens=6, most_rows=9) == [
        [PrefixGroup(3, (0, 1))],
        [PrefixGroup(3, (2,))],
        [PrefixGroup(0, (3,))],
    ]
    assert plan_grouped_packs(rows, groups, most_tokens=99, most_rows=3) == [
        [PrefixGroup(3, (0, 1, 2))],
        [PrefixGroup(0, (3,))],
    ]


@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_in_one_pack_within_the_budget(seed: int) -> None:
    random = Random(seed)
    starts = [[random.randrange(3) for _ in range(random.randrange(1, 30))] for _ in range(4)]
    rows = [
        (*random.choice(starts), *(random.randrange(3) for _ in range(random.randrange(1, 20))))
        for _ in range(80)
    ]
    groups = find_prefix_groups(rows, shortest=4)
    assert any(group.prefix >= 4 and len(group.members) > 5 for group in groups)
    packs = plan_grouped_packs(rows, groups, most_tokens=60, most_rows=7)
    assert sorted(row for pack in packs for b in pack for row in b.members) == list(range(80))
    for pack in packs:
        count = sum(len(group.members) for group in pack)
        tokens = 0
        for group in pack:
            members = [rows[row] for row in group.members]
            lengths = [len(row) for row in members]
            assert lengths == sorted(lengths)
            assert group.prefix < lengths[0]
            assert {tuple(row[: group.prefix]) for row in members} == {members[0][: group.prefix]}
            tokens += group.prefix + sum(length - group.prefix for length in lengths)
        assert count <= 7
        assert tokens <= 60 or count == 1
