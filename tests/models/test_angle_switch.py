"""Models with two sets of rotary angles (longrope: Phi-3.5-mini, Phi-4-mini), by a row's length.

A row has the set of its own length, whatever is beside it, as if it were alone in transformers.
"""

from __future__ import annotations

from functools import cache
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import Phi3Config, Phi3ForCausalLM

from caft.kernels.packed_attention import packed_attention, run_alone
from caft.kernels.rotary import find_switch, switch_of
from caft.models.reply_rules import ReplyRules
from caft.models.sampling import Sampling
from caft.records import Example, Target
from caft.score.module import ScoringModule, plan_scoring
from caft.score.prepare import ScoringRow
from caft.tune.batches import make_step
from caft.tune.config import TuningConfig
from caft.tune.module import TuningModule
from caft.tune.validation import _grade_at_once
from replies import generate_replies

SWITCH = 64
LENGTHS = (20, 25, 50, 60, 63, 64, 65, 66, 80, 100)
"""Of prompts: replies of 30 tokens stay below the switch, come to it, or begin beyond it."""
TOKENIZER = SimpleNamespace(decode=lambda ids, **_: "")


@cache
def make_model() -> Any:
    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=200, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        original_max_position_embeddings=SWITCH, initializer_range=0.2,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 10_000.0, "short_factor": [1.0] * 4,
            "long_factor": [1.0, 4.0, 16.0, 32.0], "original_max_position_embeddings": SWITCH,
        },
    )  # fmt: skip
    model = Phi3ForCausalLM(config).float().eval()
    model.generation_config.eos_token_id = None
    return model


def draw_rows(lengths: tuple[int, ...] = LENGTHS, shared: int = 18) -> list[tuple[int, ...]]:
    """Rows that start alike."""
    random = Random(5)
    start = [random.randrange(3, 200) for _ in range(shared)]
    return [
        (*start, *(random.randrange(3, 200) for _ in range(length - shared))) for length in lengths
    ]


def logits_alone(row: tuple[int, ...]) -> torch.Tensor:
    with torch.inference_mode():
        return make_model()(input_ids=torch.tensor([row]), use_cache=False).logits[0]


def write(prompts: list[tuple[int, ...]], most: int = 30, **rules: Any) -> list[tuple[int, ...]]:
    limits = ReplyRules(max_new_tokens=most, end_ids=(), stop_after_marker=False, **rules)
    replies = generate_replies(make_model(), TOKENIZER, prompts, limits, rows=4)
    return [reply.ids for reply in replies]


def test_the_switch_is_read_off_old_and_new_configs() -> None:
    rope = {"type": "su", "long_factor": [1.0], "short_factor": [1.0]}
    key = "original_max_position_embeddings"
    assert switch_of(make_model()) == SWITCH
    assert find_switch({"rope_scaling": rope, key: 4096}) == 4096
    assert find_switch({"rope_parameters": {"full": {**rope, key: 9}, "sliding": {}}}) == 9
    assert find_switch({"text_config": {"rope_scaling": rope, key: 7}}) == 7
    plain = {"rope_scaling": {"rope_type": "yarn", key: 4096}}
    assert [find_switch(each) for each in ({}, {"rope_scaling": None}, plain)] == [None] * 3


@pytest.mark.parametrize("shared", [0, 18])
def test_replies_are_those_of_transformers_whatever_is_beside_them(shared: int) -> None:
    prompts = draw_rows(shared=shared)
    expected = [
        make_model().generate(
            torch.tensor([prompt]), max_new_tokens=30, do_sample=False, pad_token_id=0
        )[0, len(prompt) :].tolist()
        for prompt in prompts
    ]  # fmt: skip
    assert [list(reply) for reply in write(prompts)] == expected
    assert [list(write([prompt])[0]) for prompt in prompts] == expected


def test_a_prefix_beyond_the_switch_is_shared_and_a_shorter_one_is_not() -> None:
    prompts = [*draw_rows((70, 75), shared=68), *draw_rows((66, 90), shared=40)]
    for group in (prompts[:2], prompts[2:], prompts):
        expected = [write([prompt], 5)[0] for prompt in group]
        assert write(group, 5) == expected


def test_drawn_replies_and_their_spread_do_not_depend_on_neighbours() -> None:
    prompts, model = draw_rows(), make_model()
    rules = ReplyRules(
        max_new_tokens=30, end_ids=(), stop_after_marker=False, with_spread=True,
        sampling=Sampling(temperature=1.0, seed=3),
    )  # fmt: skip
    names = [f"q{place}" for place in range(len(prompts))]
    together = generate_replies(model, TOKENIZER, prompts, rules, rows=4, names=names)
    for prompt, name, reply in zip(prompts, names, together, strict=True):
        (alone,) = generate_replies(model, TOKENIZER, [prompt], rules, names=[name])
        assert reply.ids == alone.ids
        assert len(reply.spread) == len(reply.ids)
        entropies = [each.entropy for each in reply.spread]
        assert entropies == pytest.approx([each.entropy for each in alone.spread], abs=1e-4)


def test_a_model_that_runs_rows_alone_needs_no_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, model = draw_rows(), make_model()
    packed = write(prompts)
    monkeypatch.setattr(model, "caft_runs_alone", False, raising=False)
    run_alone(model)
    assert write(prompts) == packed


@pytest.mark.parametrize("lengths", [LENGTHS, (20, 30, 40), (70, 80, 90)])
@pytest.mark.parametrize("shared", [0, 18])
def test_scores_are_those_of_each_row_alone(lengths: tuple[int, ...], shared: int) -> None:
    rows = [
        ScoringRow(f"q{place}", ids, ("A", "B", "C"), (3, 4, 5), "A")
        for place, ids in enumerate(draw_rows(lengths, shared))
    ]
    prefix, packs = plan_scoring(rows, 200, SWITCH)
    assert len(prefix) == (0 if min(lengths) > SWITCH else shared)
    module = ScoringModule(make_model(), prefix)
    with torch.inference_mode():
        found = {each.question_id: each for pack in packs for each in module.predict_step(pack, 0)}
    for row in rows:
        log_p = logits_alone(row.prompt_ids)[-1].log_softmax(-1)
        assert found[row.question_id].token == int(log_p.argmax())
        assert found[row.question_id].label_log_p == pytest.approx(
            log_p[[3, 4, 5]].tolist(), abs=1e-4
        )


def test_the_loss_of_a_step_is_that_of_its_rows_alone() -> None:
    tokens = draw_rows(shared=0)
    rows = [
        Example(
            question_id=f"q{place}", target=Target.rationale, complexity="hard",
            prompt_ids=ids[:-7], completion_ids=ids[-7:],
        )
        for place, ids in enumerate(tokens)
    ]  # fmt: skip
    module = TuningModule(make_model(), TuningConfig(), steps=1, record=lambda _row: None)
    step = make_step(rows, 10_000, switch=SWITCH)
    with torch.no_grad(), packed_attention(module.model):
        found = sum(float(module._summed_loss(item)) for item in step.packs)
    expected = sum(
        float(cross_entropy(logits_alone(ids[:-1])[-7:], torch.tensor(ids[-7:]), reduction="sum"))
        for ids in tokens
    )
    assert [len(item.pack.starts) for item in step.packs] == [7, 3]
    assert found == pytest.approx(expected, rel=1e-5)


def test_validation_reads_each_row_by_itself() -> None:
    rows = draw_rows()
    right = [int(logits_alone(row)[-1].argmax()) for row in rows]
    asked: Any = [
        SimpleNamespace(prompt_ids=row, gold_token=token)
        for row, token in zip(rows, right, strict=True)
    ]
    with torch.inference_mode():
        graded = list(_grade_at_once(make_model(), asked, 10_000))
    assert [len(some) for some in graded] == [6, 4]
    assert all(map(all, graded))
