"""Which token of a pack is trained on which successor, and which rows meet in a step."""

from __future__ import annotations

from collections import Counter

import torch

from caft.records import Example, Target
from caft.tune.batches import EpochLoader, epoch_order, idle_pack, make_step
from caft.tune.config import Part


def row(name: str, prompt: tuple[int, ...], completion: tuple[int, ...]) -> Example:
    return Example(
        question_id=name,
        target=Target.answer,
        complexity="easy",
        prompt_ids=prompt,
        completion_ids=completion,
    )


def rows(count: int) -> list[Example]:
    return [row(f"q{number}", (7,) * (1 + number % 3), (8, 9)) for number in range(count)]


LONG = row("long", (10, 11, 12), (13, 14))
SHORT = row("short", (20,), (21, 22, 23))


def test_two_rows_in_one_pack_by_hand():
    step = make_step([LONG, SHORT], most_tokens=100)
    # Without its last token, which predicts nothing, SHORT is the shorter row and comes first.
    (pack,) = step.packs
    assert pack.pack.input_ids.tolist() == [[20, 21, 22, 10, 11, 12, 13]]
    assert pack.pack.position_ids.tolist() == [[0, 1, 2, 0, 1, 2, 3]]
    # 20 -> 21, 21 -> 22, 22 -> 23; then 12 -> 13, 13 -> 14. No prompt token is a label.
    assert pack.positions.tolist() == [0, 1, 2, 5, 6]
    assert pack.labels.tolist() == [21, 22, 23, 13, 14]
    assert step.weight == 5
    assert step.question_ids == ("long", "short")


def test_two_rows_in_two_packs_by_hand():
    step = make_step([LONG, SHORT], most_tokens=5)
    assert [item.pack.input_ids.tolist() for item in step.packs] == [
        [[20, 21, 22]],
        [[10, 11, 12, 13]],
    ]
    assert [item.positions.tolist() for item in step.packs] == [[0, 1, 2], [2, 3]]
    assert [item.labels.tolist() for item in step.packs] == [[21, 22, 23], [13, 14]]
    assert step.weight == 5


def test_a_row_longer_than_the_budget_is_run_alone_and_whole():
    step = make_step([LONG], most_tokens=1)
    assert step.packs[0].pack.input_ids.tolist() == [[10, 11, 12, 13]]


def test_every_row_comes_once_an_epoch_and_the_last_small_step_is_there():
    steps = list(EpochLoader(rows(11), batch_size=4, most_tokens=6, seed=1))
    assert [len(step.question_ids) for step in steps] == [4, 4, 3]
    seen = Counter(name for step in steps for name in step.question_ids)
    assert seen == Counter({f"q{number}": 1 for number in range(11)})
    assert sum(item.labels.numel() for step in steps for item in step.packs) == 2 * 11


def test_order_depends_on_seed_and_epoch_and_on_nothing_else():
    orders = {(s, e): tuple(epoch_order(20, s, e)) for s in range(4) for e in range(4)}
    assert len(set(orders.values())) == 16
    assert all(tuple(epoch_order(20, s, e)) == order for (s, e), order in orders.items())
    # An order that the next release of Python or another platform changed would break a resume.
    assert epoch_order(6, seed=1, epoch=0) == [1, 0, 3, 5, 2, 4]


def test_loader_gives_the_epoch_that_was_set_however_often_it_is_opened():
    loader = EpochLoader(rows(5), batch_size=2, most_tokens=100, seed=3)
    assert len(loader) == 3
    for epoch in range(3):
        names = [f"q{number}" for number in epoch_order(5, seed=3, epoch=epoch)]
        loader.set_epoch(epoch)
        for _ in range(2):
            given = [step.question_ids for step in loader]
            assert given == [tuple(names[:2]), tuple(names[2:4]), tuple(names[4:])]


def test_a_stage_for_one_epoch_has_the_order_of_that_epoch():
    whole = EpochLoader(rows(7), batch_size=2, most_tokens=100, seed=3)
    whole.set_epoch(2)
    part = EpochLoader(rows(7), batch_size=2, most_tokens=100, seed=3, part=Part(1, 2, 4))
    assert [step.question_ids for step in part] == [step.question_ids for step in whole]


def test_the_last_token_of_a_row_takes_no_room_in_a_pass():
    # LONG and SHORT are 4 and 3 tokens that are run.
    assert len(make_step([LONG, SHORT], most_tokens=7).packs) == 1
    assert len(make_step([LONG, SHORT], most_tokens=6).packs) == 2


def test_each_device_runs_its_share_of_a_step_and_knows_the_whole():
    shares = [
        next(iter(EpochLoader(rows(4), 4, 100, seed=1, share=slice(n, None, 2)))) for n in range(2)
    ]
    assert shares[0].question_ids == shares[1].question_ids
    assert [step.weight for step in shares] == [8, 8]
    assert [sum(item.labels.numel() for item in step.packs) for step in shares] == [4, 4]


def test_a_step_is_moved_with_all_of_its_tensors():
    step = make_step([LONG], 100)
    moved = step.to(torch.device("meta"))
    (pack,) = moved.packs
    kinds = {each.device.type for each in (pack.pack.input_ids, pack.positions, pack.labels)}
    assert kinds == {"meta"}
    assert (moved.question_ids, moved.weight, pack.weight) == (("long",), 2, 1.0)


def test_a_device_without_rows_runs_one_token_that_counts_for_nothing() -> None:
    idle = idle_pack()
    assert idle.weight == 0.0
    assert (idle.positions.tolist(), idle.labels.tolist()) == ([0], [0])
    assert idle.pack.input_ids.tolist() == [[0]]
