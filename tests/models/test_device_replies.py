"""Replies on a device are those of a CPU: the same prompts, the same tokens, whatever is in flight.

The device is played by a CPU: its kernels are written out, a graph is a computation that is run
again into the same memory, and a step is asked for before the one before it is read. What runs on a
device itself is compared in tests/kernels.
"""

from __future__ import annotations

import logging
import random
import sys
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch.distributed.fsdp import FSDPModule
from transformers import AutoConfig, AutoModelForCausalLM

from caft.errors import UserError
from caft.kernels.kv_cache import ReplyCache
from caft.kernels.packed_attention import packed_attention
from caft.kernels.row_cache import RowCache
from caft.kernels.token_steps import TokenSteps
from caft.models import generation
from caft.models import sampling as sampling_file
from caft.models.reply_cache import _row_cache_does, make_cache
from caft.models.reply_rules import ReplyRules
from caft.models.sampling import Draw, Sampling, draw_tokens
from numerics import Words
from replies import generate_replies

pytestmark = pytest.mark.numerics
ENDS = tuple(range(5, 13))
GREEDY = ReplyRules(max_new_tokens=9, end_ids=ENDS, stop_after_marker=False)
RULES = {
    "greedy": GREEDY,
    "drawn": replace(GREEDY, sampling=Sampling(temperature=1.0, seed=3)),
    "with_spread": replace(GREEDY, with_spread=True),
}


@pytest.fixture(scope="module")
def model() -> Any:
    config = AutoConfig.for_model(
        "llama",
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        tie_word_embeddings=False,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def attend_plainly(
    cache: RowCache,
    layer: int,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scaling: float,
    **_: Any,
) -> torch.Tensor:
    """What the kernels do, row by row."""
    outputs = []
    starts, lengths = cache._starts.tolist(), cache._lengths.tolist()
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        seen = []
        for tensors, new, prefix in (
            (cache.keys, key, cache.prefix.keys),
            (cache.values, value, cache.prefix.values),
        ):
            tensors[layer][:, start + length] = new[0, :, row]
            own = tensors[layer][:, start : start + length + 1]
            seen.append(torch.cat([prefix[layer][0], own], dim=1) if prefix else own)
        heads = len(seen[0])
        asked = query[0, :, row].view(heads, -1, query.shape[-1])
        weights = (asked @ seen[0].mT * scaling).softmax(-1)
        outputs.append((weights @ seen[1]).flatten(0, 1))
    return torch.stack(outputs)[None]


def replay(steps: TokenSteps) -> torch.Tensor:
    """A graph's result stands where its first one stood, and is gone with the next step."""
    logits = steps._compute(steps._tokens)
    steps._logits = logits if len(steps._logits) != len(logits) else steps._logits.copy_(logits)
    return steps._logits


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr("caft.models.reply_cache.compiles_kernels", lambda _: True)
    monkeypatch.setattr("caft.models.reply_cache._row_cache_does", lambda _: True)
    monkeypatch.setattr("caft.models.reply_cache.free_device_memory", lambda _: 2**30)
    monkeypatch.setattr("caft.kernels.token_steps._waits_are_errors", nullcontext)
    monkeypatch.setattr(TokenSteps, "_repeat", replay)
    monkeypatch.setattr(RowCache, "attend", attend_plainly)
    return monkeypatch


def draw_prompts(shared: int) -> list[list[int]]:
    draw = random.Random(1)
    before = [draw.randrange(1, 97) for _ in range(shared)]
    own = [[draw.randrange(1, 97) for _ in range(draw.randrange(1, 12))] for _ in range(11)]
    return [before + each for each in [*own, [1, 2, 3], [1, 2, 3], [1, 2, 3]]]


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize("room", [512, 2])  # with two tokens of room, parts grow
@pytest.mark.parametrize("shared", [0, 20])
def test_replies_are_those_of_a_cpu(
    model: Any, shared: int, room: int, rules: ReplyRules, request: pytest.FixtureRequest
) -> None:
    prompts = draw_prompts(shared)
    usual = generate_replies(model, Words(), prompts, rules, rows=5)
    device = request.getfixturevalue("device")
    device.setattr("caft.models.reply_cache._FIRST_ROOM", room)
    written = generate_replies(model, Words(), prompts, rules, rows=5)
    assert [reply.ids for reply in written] == [reply.ids for reply in usual]
    assert len({len(reply.ids) for reply in usual}) > 1
    for ours, theirs in zip(written, usual, strict=True):
        entropies = [[each.entropy for each in reply.spread] for reply in (ours, theirs)]
        assert entropies[0] == pytest.approx(entropies[1], abs=1e-4)


@pytest.mark.parametrize("lengths", [(5, 20, 31), (5, 31, 34, 40, 41, 60), (41, 45, 90)])
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_angles_that_switch_are_those_of_a_cpu(
    lengths: tuple[int, ...], rules: ReplyRules, request: pytest.FixtureRequest
) -> None:
    """Below the switch, where steps may be ahead by one; beside those that cross it; beyond it."""
    factors = {"short_factor": [1.0] * 4, "long_factor": [1.0, 4.0, 16.0, 32.0]}
    config = AutoConfig.for_model(
        "phi3", vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        original_max_position_embeddings=40, initializer_range=0.3, pad_token_id=0,
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 40,
            **factors,
        },
    )  # fmt: skip
    torch.manual_seed(0)
    model, draw = AutoModelForCausalLM.from_config(config).eval(), random.Random(1)
    prompts = [[draw.randrange(1, 97) for _ in range(length)] for length in lengths]
    rules = replace(rules, end_ids=())
    alone = [
        generate_replies(model, Words(), [prompt], rules, names=[str(place)])[0]
        for place, prompt in enumerate(prompts)
    ]
    request.getfixturevalue("device")
    written = generate_replies(model, Words(), prompts, rules, rows=4)
    assert [reply.ids for reply in written] == [reply.ids for reply in alone]


def test_a_step_is_asked_for_before_the_one_before_it_is_read(
    model: Any, device: pytest.MonkeyPatch
) -> None:
    happened = []
    run, read = TokenSteps.run, generation.Asked.read
    device.setattr(TokenSteps, "run", lambda *args: happened.append("run") or run(*args))
    device.setattr(generation.Asked, "read", lambda asked: happened.append("read") or read(asked))
    rules = replace(GREEDY, end_ids=(), max_new_tokens=4)
    generate_replies(model, Words(), [[1, 2], [3, 4]], rules, rows=2)
    # The prompts' own tokens, then three steps; a fourth is under way when the third is read.
    assert happened == ["read", "run", "run", "read", "run", "read", "run", "read"]


def test_memory_says_how_many_are_written_at_once(model: Any, device: pytest.MonkeyPatch) -> None:
    rows = []
    make = RowCache.__init__
    device.setattr(
        RowCache, "__init__", lambda cache, *args: rows.append(len(args[1])) or make(cache, *args)
    )
    # 2 layers of 2 heads of 8 numbers, keys and values, 4 bytes each: 256 bytes a token. Half of
    # what is free holds 3 rows of 2 + 9 tokens, and not 4.
    device.setattr("caft.models.reply_cache.free_device_memory", lambda _: 2 * 256 * 43)
    generate_replies(model, Words(), [[1, 2]] * 2 + [[3, 4]] * 4, GREEDY, rows=5)
    device.setattr("caft.models.reply_cache.free_device_memory", lambda _: 0)
    generate_replies(model, Words(), [[1, 2], [3, 4]], GREEDY, rows=5)
    assert rows == [3, 1]


def test_logits_that_are_no_numbers_name_the_question(
    model: Any, device: pytest.MonkeyPatch
) -> None:
    run, steps = TokenSteps.run, []

    def spoil(own: TokenSteps, tokens: torch.Tensor) -> torch.Tensor:
        assert int(tokens.min()) >= 0  # an embedding has no row for another
        steps.append(run(own, tokens))
        return steps[-1] * torch.nan if len(steps) == 3 else steps[-1]

    device.setattr(TokenSteps, "run", spoil)
    rules = replace(GREEDY, end_ids=())
    with pytest.raises(UserError, match="question q1: the model's logits are not finite"):
        generate_replies(model, Words(), [[1, 2]], rules, rows=2, names=["q1"])


@pytest.mark.parametrize("fault", [None, "no C compiler", "others"])
def test_kernels_that_fail_or_err_are_not_used(
    fault: str | None,
    device: pytest.MonkeyPatch,
    model: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = deepcopy(model)  # the first one may have been tried
    usual = generate_replies(own, Words(), draw_prompts(20), GREEDY, rows=5)
    device.setattr("caft.models.reply_cache._row_cache_does", _row_cache_does)
    made = []
    make = generation.make_cache
    device.setattr(generation, "make_cache", lambda *args: made.append(make(*args)) or made[-1])

    def attend(*args: Any, **others: Any) -> torch.Tensor:
        if fault == "no C compiler":
            raise RuntimeError(f"{fault}\nmore lines")
        return attend_plainly(*args, **others) * (1.1 if fault else 1)

    device.setattr(RowCache, "attend", attend)
    with caplog.at_level(logging.INFO, logger="caft"):
        for _ in range(2):
            written = generate_replies(own, Words(), draw_prompts(20), GREEDY, rows=5)
            assert [reply.ids for reply in written] == [reply.ids for reply in usual]
    assert [isinstance(each, RowCache) for each in made] == [fault is None] * 2
    lines = [each.message for each in caplog.records if "more slowly" in each.message]
    assert len(lines) == (fault is not None)
    assert all(line.endswith(str(fault)) for line in lines)


@pytest.mark.usefixtures("device")
def test_a_divided_model_keeps_blocks(model: Any) -> None:
    divided = deepcopy(model)
    divided.__class__ = type("Divided", (FSDPModule, type(model)), {})
    with packed_attention(model), torch.inference_mode():
        kinds = [type(make_cache(each, None, [3], 5, lambda _: None)) for each in (divided, model)]
    assert kinds == [ReplyCache, RowCache]


def test_a_race_that_cannot_be_compiled_is_run_plainly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    drawing = ModuleType("caft.kernels.drawing")
    drawing.run_race = Mock(side_effect=RuntimeError("no C compiler"))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, drawing.__name__, drawing)
    logits, draws = torch.randn(3, 97), [Draw("q", number, 0) for number in range(3)]
    sampling_file._compiles_race.cache_clear()
    expected = draw_tokens(logits, RULES["drawn"].sampling, draws)
    monkeypatch.setattr(sampling_file, "compiles_kernels", lambda _: True)
    sampling_file._compiles_race.cache_clear()
    with caplog.at_level(logging.INFO, logger="caft"):
        for _ in range(2):
            assert draw_tokens(logits, RULES["drawn"].sampling, draws).equal(expected)
    sampling_file._compiles_race.cache_clear()
    assert drawing.run_race.call_count == 1
    assert "no C compiler" in caplog.text
