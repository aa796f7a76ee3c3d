"""trainer.strategy=fsdp is refused where it cannot work, before a weight is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.distributed.fsdp import FSDPModule

from caft.errors import UserError
from caft.pipeline.sharded import check_strategy, refuse_undivided
from caft.pipeline.workspace import Workspace

Open = Callable[..., Workspace]

TWO = ("trainer.devices=2", "trainer.strategy=fsdp", "method=sft")


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or two devices are refused before anything here, where this process is kept to one core."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


def test_a_torch_that_only_averages_is_refused(
    open_small: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(FSDPModule, "set_force_sum_reduction_for_comms")
    with pytest.raises(UserError, match=r"needs torch 2\.8 or later, and this is 2"):
        open_small(*TWO)
    open_small("trainer.devices=2")


def test_one_device_is_told_that_nothing_is_divided(
    open_small: Open, caplog: pytest.LogCaptureFixture
) -> None:
    check_strategy(open_small("trainer.strategy=fsdp").config.trainer)
    assert "has no effect with one device; set trainer.devices=2 or more" in caplog.text


def test_an_architecture_without_layers_is_refused(open_small: Open, tmp_path: Path) -> None:
    from transformers import BertConfig, BertLMHeadModel

    # Its layers are deeper, in an encoder.
    small = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    model = BertLMHeadModel(BertConfig(num_hidden_layers=2, is_decoder=True, **small))
    model.save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "tokenizer.json").write_text("{}")
    path = f"model.path={tmp_path / 'bert'}"
    with pytest.raises(UserError, match=r"bert \(BertLMHeadModel\) has no list of them; leave"):
        refuse_undivided(open_small(*TWO, path))
    refuse_undivided(open_small(*TWO, path, "until=score"))


def test_a_model_that_no_device_has_whole_can_be_tuned_but_not_scored(
    open_small: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caft.trainers.devices.memory_of", lambda _device: 1000)
    with pytest.raises(UserError, match=r"a cpu device here 1 kB; .* tuning only, and score would"):
        refuse_undivided(open_small(*TWO, "until=tune"))
    larger = open_small("method=sft", "until=score")
    larger.store.obtain(larger.base_scoring)
    refuse_undivided(open_small(*TWO, "until=tune"))
    with pytest.raises(UserError, match="tuning only, and evaluate base rationale, evaluate tuned"):
        refuse_undivided(open_small(*TWO))
