"""Shared beginnings: by hand, and what holds for any rows."""

from __future__ import annotations

from random import Random

import pytest

from caft.kernels.shared_prefixes import PrefixGroup, find_prefix_groups, plan_grouped_packs


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
    assert [each.stem for each in find_prefix_groups(rows, shortest=2)] == [3, 3]
    # Among six rows of which only two share a third token, two tokens for all spare more.
    rows = [(1, 1, end, 5) for end in range(5)] + [(1, 1, 0, 6)]
    assert [each.stem for each in find_prefix_groups(rows, shortest=2)] == [2]


def test_short_stems_are_not_worth_it() -> None:
    assert find_prefix_groups([(1, 2, 3), (1, 2, 4)], shortest=3) == [PrefixGroup(0, (0, 1))]
    assert find_prefix_groups([], shortest=3) == []


def test_rows_that_are_equal_keep_a_token_of_their_own() -> None:
    assert find_prefix_groups([(1, 2, 3), (1, 2, 3)], shortest=2) == [PrefixGroup(2, (0, 1))]


def test_packs_by_hand() -> None:
    rows = [(1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 3, 6, 7), (8, 9)]
    bundles = [PrefixGroup(3, (0, 1, 2)), PrefixGroup(0, (3,))]
    # 3 + 1 + 1 tokens, and the stem once more for the row that has no room.
    assert plan_grouped_packs(rows, bundles, most_tokens=6, most_rows=9) == [
        [PrefixGroup(3, (0, 1))],
        [PrefixGroup(3, (2,))],
        [PrefixGroup(0, (3,))],
    ]
    assert plan_grouped_packs(rows, bundles, most_tokens=99, most_rows=3) == [
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
    bundles = find_prefix_groups(rows, shortest=4)
    assert any(bundle.stem >= 4 and len(bundle.members) > 5 for bundle in bundles)
    packs = plan_grouped_packs(rows, bundles, most_tokens=60, most_rows=7)
    assert sorted(row for pack in packs for b in pack for row in b.members) == list(range(80))
    for pack in packs:
        count = sum(len(bundle.members) for bundle in pack)
        tokens = 0
        for bundle in pack:
            members = [rows[row] for row in bundle.members]
            lengths = [len(row) for row in members]
            assert lengths == sorted(lengths)
            assert bundle.stem < lengths[0]
            assert {tuple(row[: bundle.stem]) for row in members} == {members[0][: bundle.stem]}
            tokens += bundle.stem + sum(length - bundle.stem for length in lengths)
        assert count <= 7
        assert tokens <= 60 or count == 1
