"""Names of other tools lead to settings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra._internal.utils import get_args_parser

from caft.hydra_bridge.groups import find_conf, list_groups
from caft.hydra_bridge.help_text import describe_options, read_purpose
from caft.hydra_bridge.overrides import dial_types
from caft.hydra_bridge.suggestions import (
    OTHER_NAMES,
    name_by_id,
    refuse_dashes,
    suggest_begun,
    suggest_option,
    suggest_setting,
)


def test_every_other_name_leads_to_a_setting() -> None:
    known = {*dial_types(), "hydra.run.dir"}
    assert OTHER_NAMES.keys() <= known
    # What is a setting of its own at the top needs no other name.
    others = {name for names in OTHER_NAMES.values() for name in names.split()}
    assert not others & {key for key in known if "." not in key}


@pytest.mark.parametrize(
    ("owner", "key", "hint"),
    [
        ("tuning", "lr", "tuning.learning_rate"),
        ("", "lr", "tuning.learning_rate"),
        ("evaluation", "batch", "evaluation.batch_size"),
        ("score", "batch", "score.chain.batch_size"),
        ("tuning", "epochs", "method.epochs"),
        ("", "shots", "dataset.prompt.shots"),
        ("", "learning_rat", "tuning.learning_rate"),
    ],
)
def test_a_name_is_taken_where_it_is_used(owner: str, key: str, hint: str) -> None:
    assert suggest_setting(owner, key, ()) == f"; did you mean {hint}?"


def test_a_name_of_the_chosen_option_goes_before_those_of_others() -> None:
    hint = suggest_setting("dataset", "path", ("name", "train_path", "test_path"))
    assert hint.startswith("; did you mean dataset.train_path? dataset of kind hub has it")
    assert suggest_setting("dataset", "path", ("name",)).startswith("; dataset of kind hub")
    named = suggest_option("model", "mine/tiny")
    assert "a folder, as model.path=mine/tiny model.name=tiny, or" in named


def test_a_setting_of_another_kind_is_named_with_an_option_that_has_it() -> None:
    worked = ("kind", "name", "keep")
    for key, meant in (("budget", "budget_usd"), ("api_key", "api_key_env"), ("modl", "model")):
        hint = suggest_setting("teacher", key, worked)
        assert hint.startswith(f"; did you mean teacher.{meant}? teacher of kind openai")
        assert re.search(r", such as teacher=\w+$", hint)
        # Where the chosen option has it, no other is named.
        assert "of kind" not in suggest_setting("teacher", key, (*worked, meant))


def test_a_hub_id_is_named_by_the_option_that_has_it_unless_it_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert name_by_id("model", "qwen/qwen2.5-3b-instruct") == "qwen2_5_3b"
    assert name_by_id("model", "HuggingFaceTB/SmolLM2-135M-Instruct") == "smollm2"
    assert name_by_id("dataset", "cais/mmlu") == "mmlu"
    assert name_by_id("model", "mine/tiny") == name_by_id("model", "tiny") == ""
    (tmp_path / "cais/mmlu").mkdir(parents=True)
    assert name_by_id("dataset", "cais/mmlu") == ""


def test_a_short_flag_may_have_its_value_attached() -> None:
    refuse_dashes(["-cjob", "-pmodel", "-ptuning"], get_args_parser()._option_string_actions)


def test_all_options_that_begin_with_a_word_are_named() -> None:
    options = ("qwen2_5_3b", "qwen3_4b", "qwen3_8b", "tiny")
    assert suggest_begun("Qwen3", options) == "; did you mean qwen3_4b or qwen3_8b?"
    assert suggest_begun("qwen", options) == "; did you mean qwen2_5_3b, qwen3_4b or qwen3_8b?"
    assert suggest_begun("qwen2.5", options) == "; did you mean qwen2_5_3b?"
    assert suggest_begun("phi", options) == ""


def test_nothing_is_suggested_for_a_name_like_no_other() -> None:
    assert suggest_setting("", "foo", ()) == ""
    assert suggest_option("split", "foo") == ""
    assert suggest_option("model", "two words") == ""


def test_the_help_marks_one_default_in_each_group_and_tells_every_purpose() -> None:
    shown = describe_options()
    for group, options in list_groups().items():
        part = shown.partition(f"{group}=\n")[2].partition("\n\n")[0]
        stars = [line for line in part.splitlines() if line.startswith("  * ")]
        assert len(stars) == (group not in ("experiment", "multirun_sweeps"))
        folder = find_conf().parent if group == "multirun_sweeps" else find_conf()
        for option in options:
            purpose = read_purpose(folder / group / f"{option}.yaml")
            assert len(purpose) > 12
            assert purpose.count("(") == purpose.count(")"), purpose
    assert max(map(len, shown.splitlines())) < 80
