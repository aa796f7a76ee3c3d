"""What each epoch draws: known from the seed, uniform, and the same after a kill."""

from __future__ import annotations

from collections import Counter
from math import log
from typing import Any

import pytest
import torch

from caft.errors import UserError
from caft.records import Example, Target
from caft.tune.batches import EpochLoader, make_step
from caft.tune.config import MethodConfig, StageConfig, TuningConfig
from caft.tune.draws import Draws
from caft.tune.examples import weigh_rows
from caft.tune.module import TuningModule

IDS = [f"q{number}" for number in range(20)]


def row(
    name: str,
    complexity: str,
    completion: tuple[int, ...] = (8, 9),
    target: Target = Target.answer,
    weight: float = 1.0,
) -> Example:
    return Example(
        question_id=name,
        target=target,
        complexity=complexity,
        prompt_ids=(7,),
        completion_ids=completion,
        weight=weight,
    )


def test_a_draw_depends_on_seed_stage_epoch_and_class_and_on_nothing_else() -> None:
    picked = {
        (seed, stage, epoch, name): frozenset(
            Draws({"easy": 5, "hard": 5}, seed, stage).pick(IDS, name, epoch)
        )
        for seed in range(2)
        for stage in range(2)
        for epoch in range(2)
        for name in ("easy", "hard")
    }
    assert len(set(picked.values())) == 16
    assert {len(ids) for ids in picked.values()} == {5}
    # The next release of Python or another platform must draw the same: a resume relies on it.
    assert picked[0, 0, 0, "hard"] == {"q14", "q19", "q6", "q7", "q8"}
    assert Draws({"hard": 5}, 0, 0).pick(reversed(IDS), "hard", 0) == picked[0, 0, 0, "hard"]


def test_every_question_and_every_pair_is_drawn_as_often_as_by_chance() -> None:
    draws, epochs = Draws({"hard": 5}, 3, 0), 2000
    picked = [draws.pick(IDS, "hard", epoch) for epoch in range(epochs)]
    alone = Counter(name for ids in picked for name in ids)
    # Binomial with p = 1/4: mean 500, standard deviation 19.4; five of them, for 20 questions.
    assert all(abs(alone[name] - 500) < 97 for name in IDS)
    both = sum({"q3", "q4"} <= ids for ids in picked)
    # p = 5/20 x 4/19 = .0526: mean 105, standard deviation 10.
    assert abs(both - 105) < 50


def test_where_a_rationale_is_missing_the_next_in_the_order_takes_its_place() -> None:
    draws = Draws({"hard": 5}, 0, 0)
    whole = draws.pick(IDS, "hard", 0)
    refused = next(iter(sorted(whole)))
    left = draws.pick([name for name in IDS if name != refused], "hard", 0)
    assert len(left) == 5
    assert whole - left == {refused}
    assert draws.pick(IDS[:3], "hard", 0) == set(IDS[:3])


def test_what_some_epoch_draws_is_the_union_and_other_classes_are_whole() -> None:
    draws = Draws({"hard": 3}, 1, 0)
    union = draws.pick_any(IDS, "hard", 4)
    assert union == set.union(*(draws.pick(IDS, "hard", epoch) for epoch in range(4)))
    assert 3 < len(union) <= 12
    assert draws.pick_any(IDS, "easy", 4) == set(IDS)
    # What no epoch draws can be left out without changing any draw.
    assert all(
        draws.pick(union, "hard", epoch) == draws.pick(IDS, "hard", epoch) for epoch in range(4)
    )


def test_every_epoch_has_its_draw_and_as_many_steps_and_resumes_in_the_middle() -> None:
    rows = [row(name, "hard") for name in IDS] + [row(f"e{n}", "easy") for n in range(3)]
    draws = Draws({"hard": 6}, 5, 1)

    def names(loader: EpochLoader, epoch: int) -> list[tuple[str, ...]]:
        loader.set_epoch(epoch)
        return [step.question_ids for step in loader]

    loader = EpochLoader(rows, 4, 100, seed=5, draws=draws)
    epochs = [names(loader, epoch) for epoch in range(3)]
    assert len(loader) == 3
    for epoch, steps in enumerate(epochs):
        assert [len(step) for step in steps] == [4, 4, 1]
        drawn = draws.pick(IDS, "hard", epoch)
        assert {name for step in steps for name in step} == drawn | {"e0", "e1", "e2"}
    resumed = EpochLoader(rows, 4, 100, seed=5, done=4, draws=draws)
    assert [names(resumed, epoch) for epoch in range(2)] == [epochs[1][1:], epochs[2]]


def test_a_question_is_drawn_with_all_of_its_rows() -> None:
    both = (Target.rationale, Target.answer)
    rows = [row(name, "hard", target=target) for name in IDS for target in both]
    draws = Draws({"hard": 6}, 5, 1)
    for epoch in range(3):
        drawn = draws.rows_of(rows, epoch)
        assert len(drawn) == 12
        # As many questions as with one row each, and the same ones.
        assert {each.question_id for each in drawn} == draws.pick(IDS, "hard", epoch)


def test_the_targets_of_a_class_have_their_shares_of_its_loss_whatever_their_lengths() -> None:
    # Hard: rationales of 3 and 5 tokens, answers of 1 and 1; easy: an answer of 2.
    rows = [
        row("a", "hard", (1, 2, 3), Target.rationale),
        row("a", "hard", (1,)),
        row("b", "hard", (1, 2, 3, 4, 5), Target.rationale),
        row("b", "hard", (2,)),
        row("c", "easy", (1, 2)),
    ]
    shares = {"hard": {Target.rationale: 0.7, Target.answer: 0.3}, "easy": {Target.answer: 1.0}}
    weighed = weigh_rows(rows, {"hard": 2.0}, shares)
    # Ten tokens of the class: 0.7 x 10 / 8 and 0.3 x 10 / 2, times the weight of the class.
    assert [each.weight for each in weighed] == pytest.approx([1.75, 3.0, 1.75, 3.0, 1.0])
    parts = Counter[tuple[str, Target]]()
    for each in weighed:
        parts[each.complexity, each.target] += each.weight * len(each.completion_ids)  # type: ignore[assignment]
    assert parts["hard", Target.rationale] == pytest.approx(0.7 * 20)
    assert parts["hard", Target.answer] == pytest.approx(0.3 * 20)
    # Rows of one target keep the weight of their class.
    assert [each.weight for each in weigh_rows(rows[4:], {}, shares)] == [1.0]


class _Fixed(torch.nn.Module):
    """Every next token has the probabilities 1/2, 1/4, 1/8, 1/8, as a trained weight says."""

    def __init__(self) -> None:
        super().__init__()
        logits = torch.tensor([0.5, 0.25, 0.125, 0.125], dtype=torch.float64).log()
        self.logits = torch.nn.Parameter(logits)

    def get_output_embeddings(self) -> None:
        """It has no head."""


@pytest.mark.parametrize("most_tokens", [100, 1])
def test_the_weighted_loss_and_its_gradient_by_hand(
    monkeypatch: pytest.MonkeyPatch, most_tokens: int
) -> None:
    model: Any = _Fixed()
    module = TuningModule(model, TuningConfig(), steps=1, record=lambda _: None)

    def summed(item: Any) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(
            model.logits.expand(len(item.labels), -1), item.labels, reduction="sum"
        )

    monkeypatch.setattr(module, "_summed_loss", summed)
    monkeypatch.setattr(module, "manual_backward", lambda loss: loss.backward())
    for name, value in {"_has_fused_lora": True}.items():
        vars(module)[name] = value
    monkeypatch.setattr("caft.tune.module.packed_attention", lambda _: torch.enable_grad())
    # Easy trains tokens 0 and 1 (ln 2, ln 4), hard the tokens 2, 3 and 0 (ln 8, ln 8, ln 2).
    rows = [row("a", "easy", (0, 1)), row("b", "hard", (2, 3, 0), weight=2.5)]
    step = make_step(rows, most_tokens)
    assert step.weight == 2 + 3 * 2.5
    loss = module._accumulate(step)
    assert loss == pytest.approx((3 * log(2) + 2.5 * 7 * log(2)) / 9.5, rel=1e-14)
    # d loss / d logit k = p_k - (weight of the tokens k) / (weight of all).
    shares = torch.tensor([1 + 2.5, 1, 2.5, 2.5], dtype=torch.float64) / 9.5
    expected = model.logits.detach().softmax(0) - shares
    torch.testing.assert_close(model.logits.grad, expected, rtol=1e-13, atol=1e-15)


def test_weights_that_are_equal_change_neither_passes_nor_loss() -> None:
    rows = [row(name, "hard" if number % 2 else "easy") for number, name in enumerate(IDS)]
    plain = make_step(rows, 6)
    weighed = make_step(weigh_rows(rows, {"hard": 4.0, "easy": 4.0}, {}), 6)
    assert weighed.weight == 4 * plain.weight
    assert [item.pack.input_ids.tolist() for item in weighed.packs] == [
        item.pack.input_ids.tolist() for item in plain.packs
    ]


@pytest.mark.parametrize("key", ["draw", "weights"])
def test_a_class_that_the_stage_does_not_train_is_refused(key: str) -> None:
    stage = StageConfig(targets={"hard": Target.rationale}, **{key: {"easy": 2}})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf"^method\.stages\.0\.{key} names the class 'easy'.*hard"):
        MethodConfig(name="mine", stages=[stage])
