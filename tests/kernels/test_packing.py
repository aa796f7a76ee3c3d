"""Packed rows give what each row gives alone: logits and gradients, for three architectures.

Who sees whom is asked in float64, where nothing is rounding; how exact packs are, against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from random import Random
from typing import Any

import pytest
import torch
import torch.nn.attention.varlen
from transformers import AutoConfig, AutoModelForCausalLM

from caft.kernels import packed_attention as attention
from caft.kernels import varlen
from caft.kernels.packed_attention import Run, packed_attention, runs_alone
from caft.kernels.packing import (
    compute_prefix,
    pack_groups,
    pack_rows,
    packed_logits,
    plan_packs,
)
from caft.kernels.settling import settle_packing
from caft.kernels.shared_prefixes import common_prefix
from caft.models.adapters import prepare_checkpointing
from numerics import DTYPES, assert_as_exact, chain_of, in_float64

pytestmark = pytest.mark.numerics

VOCABULARY = 97
CPU = torch.device("cpu")
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama_shared_heads": {"model_type": "llama", "num_key_value_heads": 1},
    "qwen2": {"model_type": "qwen2", "num_key_value_heads": 2},
    "qwen2_window": {
        "model_type": "qwen2",
        "num_key_value_heads": 2,
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 1,
    },
    "phi3": {"model_type": "phi3", "sliding_window": None},
    "phi3_window": {"model_type": "phi3", "sliding_window": 5},
}


def make_model(shape: str) -> Any:
    settings = {"num_key_value_heads": 4, **SHAPES[shape]}
    config = AutoConfig.for_model(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.3,
        pad_token_id=0,
        **settings,
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module", params=product(SHAPES, DTYPES), ids=str)
def model(request: pytest.FixtureRequest) -> Any:
    shape, dtype = request.param
    return make_model(shape).to(dtype)


@pytest.fixture(scope="module")
def exact(model: Any) -> Any:
    return in_float64(model)


@pytest.fixture(scope="module", params=SHAPES)
def exact_of_shape(request: pytest.FixtureRequest) -> Any:
    return in_float64(make_model(request.param))


@pytest.fixture(autouse=True, params=["run by run", "at once"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Attention as on this device, and as on one with a kernel for rows of any lengths."""
    if request.param == "at once":
        monkeypatch.setattr(attention, "can_attend_at_once", lambda _: True)
        monkeypatch.setattr(torch.nn.attention.varlen, "varlen_attn", attend_row_by_row)
        monkeypatch.setattr(varlen, "_MOST_COPIED", 30)  # several calls
    return str(request.param)


def attend_row_by_row(  # noqa: PLR0917
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    asked: torch.Tensor,
    read: torch.Tensor,
    most_asked: int,
    most_read: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool | None = None,
) -> torch.Tensor:
    """What torch says its `varlen_attn` does; that one runs on CUDA only."""
    assert asked.dtype == read.dtype == torch.int32
    assert (most_asked, most_read) == (int(asked.diff().max()), int(read.diff().max()))
    assert enable_gqa in {None, query.shape[1] != key.shape[1]}  # not asked for in 2.11
    said = []
    for first, behind, first_key, behind_key in zip(
        asked[:-1], asked[1:], read[:-1], read[1:], strict=True
    ):
        own = query[first:behind].transpose(0, 1)
        keys, values = (part[first_key:behind_key].transpose(0, 1) for part in (key, value))
        distance = torch.arange(keys.shape[1])[-own.shape[1] :, None] - torch.arange(keys.shape[1])
        seen = (distance >= 0) & (distance <= (window_size[0] if window_size[0] >= 0 else 999))
        said.append(
            torch.nn.functional.scaled_dot_product_attention(
                own[None], keys[None], values[None], seen, scale=scale, enable_gqa=True
            )[0].transpose(0, 1)
        )
    return torch.cat(said)


def make_rows(lengths: Sequence[int], start: Sequence[int] = ()) -> list[tuple[int, ...]]:
    random = Random(5)
    return [(*start, *(random.randrange(1, VOCABULARY) for _ in range(n))) for n in lengths]


def logits_alone(model: Any, row: Sequence[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([list(row)])).logits[0]


def logits_of_rows(
    model: Any, rows: Sequence[Sequence[int]], *, first: Sequence[int] = ()
) -> torch.Tensor:
    """Of all rows, each run alone, end to end; `first` of a row's own tokens are left out."""
    starts = first or [0] * len(rows)
    return torch.cat([logits_alone(model, row)[at:] for row, at in zip(rows, starts, strict=True)])


def logits_packed(model: Any, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    pack = pack_rows(rows)
    with packed_attention(model):
        logits = packed_logits(model, pack, torch.arange(pack.input_ids.shape[1]))
    return list(logits.split([len(row) for row in rows]))


LENGTHS = [1, 3, 3, 3, 7, 12, 12]


@torch.no_grad()
def test_packed_logits_are_those_of_each_row_alone(model: Any, exact: Any) -> None:
    rows = make_rows(LENGTHS)
    packed = torch.cat(logits_packed(model, rows))
    alone, truth = (logits_of_rows(each, rows) for each in (model, exact))
    assert_as_exact(packed, alone, truth, chain_of(model))


@torch.no_grad()
@pytest.mark.parametrize("shared", [3, 20])
def test_a_shared_prefix_changes_nothing(model: Any, exact: Any, shared: int) -> None:
    rows = make_rows(LENGTHS, start=make_rows([shared])[0])
    pack = pack_rows([row[shared:] for row in rows], first_position=shared)
    with packed_attention(model):
        prefix = compute_prefix(model, rows[0][:shared], CPU)
        behind = replace(pack, layout=replace(pack.layout, prefix=prefix))
        logits = packed_logits(model, behind, torch.arange(pack.input_ids.shape[1]))
    alone, truth = (
        logits_of_rows(each, rows, first=[shared] * len(rows)) for each in (model, exact)
    )
    assert_as_exact(logits, alone, truth, chain_of(model))


@torch.no_grad()
@pytest.mark.parametrize("prefix", [0, 4])
def test_prefixes_of_groups_change_nothing(model: Any, exact: Any, prefix: int) -> None:
    shared, one, other = make_rows([prefix, 3, 9])
    groups = [(one, make_rows([2, 5, 5])), ((), make_rows([6])), (other, make_rows([1, 20]))]
    pack = pack_groups(groups, first_position=prefix)
    positions = torch.tensor(
        [
            start + index
            for start, row in zip(pack.starts, [r for _, own in groups for r in own], strict=True)
            for index in range(len(row))
        ]
    )
    with packed_attention(model):
        if prefix:
            behind = replace(pack.layout, prefix=compute_prefix(model, shared, CPU))
            pack = replace(pack, layout=behind)
        logits = packed_logits(model, pack, positions)
    rows = [(*shared, *start, *row) for start, own in groups for row in own]
    before = [prefix + len(start) for start, own in groups for _ in own]
    alone, truth = (logits_of_rows(each, rows, first=before) for each in (model, exact))
    assert_as_exact(logits, alone, truth, chain_of(model))


def test_a_pack_of_groups_by_hand() -> None:
    pack = pack_groups([((7, 8), [(1,), (2,)]), ((), [(3, 4)])], first_position=5)
    assert pack.input_ids.tolist() == [[7, 8, 1, 2, 3, 4]]
    assert pack.position_ids.tolist() == [[5, 6, 7, 7, 5, 6]]
    assert pack.starts == (2, 3, 4)
    prefix = Run(0, 1, 2)
    assert pack.layout.runs == (prefix, Run(2, 2, 1, prefix), Run(4, 1, 2))


@torch.no_grad()
def test_the_last_mlp_runs_where_it_is_read_only(model: Any) -> None:
    pack = pack_rows(make_rows([4, 9]))
    seen: list[list[int]] = [[] for _ in model.model.layers]
    hooks = [
        layer.mlp.down_proj.register_forward_hook(
            lambda _, inputs, __, tokens=tokens: tokens.append(inputs[0].shape[1])
        )
        for layer, tokens in zip(model.model.layers, seen, strict=True)
    ]
    with packed_attention(model):
        packed_logits(model, pack, torch.tensor([3, 12]))
        logits = packed_logits(model, pack, torch.arange(13))
    for hook in hooks:
        hook.remove()
    assert seen == [[13, 13], [2, 13]]
    assert logits.shape == (13, VOCABULARY)


@torch.no_grad()
def test_bfloat16_rows_of_many_tokens_are_as_exact_as_alone() -> None:
    """On a CPU they take attention written out as products, several blocks of queries."""
    model = make_model("qwen2").bfloat16()
    rows = make_rows([40] * 3 + [90] * 2 + [128])
    alone, truth = (logits_of_rows(each, rows) for each in (model, in_float64(model)))
    assert_as_exact(torch.cat(logits_packed(model, rows)), alone, truth, chain_of(model))


@torch.no_grad()
def test_rows_do_not_see_each_other(exact_of_shape: Any) -> None:
    rows = make_rows(LENGTHS)
    before = logits_packed(exact_of_shape, rows)
    for changed in range(len(rows)):
        others = list(rows)
        others[changed] = tuple(token % (VOCABULARY - 1) + 1 for token in rows[changed])
        after = logits_packed(exact_of_shape, others)
        moved = [float((one - other).abs().max()) for one, other in zip(before, after, strict=True)]
        assert moved.pop(changed) > 1e-2
        assert max(moved) < 1e-10


@torch.no_grad()
def test_only_the_positions_asked_for_come_back(model: Any, exact: Any) -> None:
    rows = make_rows(LENGTHS)
    pack = pack_rows(rows)
    ends = torch.tensor(
        [start + len(row) - 1 for start, row in zip(pack.starts, rows, strict=True)]
    )
    with packed_attention(model):
        logits = packed_logits(model, pack, ends)
    assert logits.shape == (len(rows), VOCABULARY)
    alone, truth = (
        torch.stack([logits_alone(each, row)[-1] for row in rows]) for each in (model, exact)
    )
    assert_as_exact(logits, alone, truth, chain_of(model))


def gradients(
    model: Any, rows: Sequence[Sequence[int]], first: Sequence[int], logits: Sequence[torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Of every row's summed loss from token `first` on, whose logits are given row by row."""
    model.zero_grad()
    losses = [
        torch.nn.functional.cross_entropy(part, torch.tensor(row[at + 1 :]), reduction="sum")
        for part, row, at in zip(logits, rows, first, strict=True)
    ]
    torch.stack(losses).sum().backward()
    return {name: value.grad.clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize("trained", ["all tokens", "the last two", "the last two, checkpointed"])
def test_gradients_are_those_of_each_row_alone(model: Any, exact: Any, trained: str) -> None:
    rows = make_rows([4, 4, 9])
    first = [0 if trained == "all tokens" else len(row) - 3 for row in rows]
    pairs = list(zip(rows, first, strict=True))
    alone, truth = (
        gradients(each, rows, first, [logits_alone(each, row)[at:-1] for row, at in pairs])
        for each in (model, exact)
    )
    pack = pack_rows(rows)
    positions = [
        torch.arange(start + at, start + len(row) - 1)
        for start, (row, at) in zip(pack.starts, pairs, strict=True)
    ]
    if trained.endswith("checkpointed"):
        model.train()
        prepare_checkpointing(model)
    try:
        with packed_attention(model):
            logits = packed_logits(model, pack, torch.cat(positions))
            packed = gradients(model, rows, first, logits.split([len(each) for each in positions]))
    finally:
        model.gradient_checkpointing_disable()
        model.disable_input_require_grads()
        model.eval()
    assert len(alone) > 10
    assert_as_exact(packed, alone, truth, chain_of(model).there_and_back())


def test_every_shape_here_is_packed(model: Any) -> None:
    assert settle_packing(model) is None
    assert not runs_alone(model)


@torch.no_grad()
def test_the_window_is_narrow_enough_to_matter() -> None:
    # Else the tests above would pass on a model that ignores its window.
    row = make_rows([12])[0]
    for name in ("qwen2", "phi3"):
        narrow, wide = (
            logits_alone(in_float64(make_model(shape)), row) for shape in (f"{name}_window", name)
        )
        assert float((narrow - wide)[:5].abs().max()) < 1e-10
        assert float((narrow - wide)[-1].abs().max()) > 1e-2


def test_the_model_gets_its_own_attention_back_even_after_a_fault() -> None:
    model = make_model("llama")
    with pytest.raises(ZeroDivisionError), packed_attention(model):
        raise ZeroDivisionError
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_in_one_pack_within_the_budget(seed: int) -> None:
    random = Random(seed)
    lengths = [random.randrange(1, 60) for _ in range(80)]
    packs = plan_packs(lengths, most_tokens=50, most_rows=6)
    assert sorted(row for pack in packs for row in pack) == list(range(80))
    for pack in packs:
        assert len(pack) <= 6
        assert sum(lengths[row] for row in pack) <= 50 or len(pack) == 1
    laid_out = [lengths[row] for pack in packs for row in pack]
    assert laid_out == sorted(lengths)


def test_packs_by_hand() -> None:
    assert plan_packs([5, 2, 9, 2, 3], most_tokens=7) == [[1, 3, 4], [0], [2]]
    assert plan_packs([1, 1, 1], most_tokens=9, most_rows=2) == [[0, 1], [2]]
    assert plan_packs([], most_tokens=9) == []


@pytest.mark.parametrize(
    ("rows", "shared"),
    [
        ([], 0),
        ([(1, 2, 3)], 0),
        ([(1, 2, 3), (1, 2, 4)], 2),
        ([(1, 2, 3), (1, 2, 3)], 2),  # one token of every row is left over
        ([(1, 2), (1, 2, 3, 4)], 1),
        ([(1, 2, 3), (9, 2, 3), (1, 2, 3)], 0),
        ([[1, 2, 3], (1, 2, 4)], 2),
    ],
)
def test_common_prefix(rows: list[Sequence[int]], shared: int) -> None:
    assert common_prefix(rows) == shared
