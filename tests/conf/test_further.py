"""evaluation.also: names and tables become data sets, and what cannot is refused at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from omegaconf import OmegaConf

from caft.data.config import ArithmeticConfig, HubConfig, LocalConfig
from caft.errors import UserError
from caft.hydra_bridge import build_run_config, compose
from caft.hydra_bridge.overrides import create_resolved
from caft.store import plain
from caft.sweeps.run_folders import digest_config

MINE = "{dataset:local,name:mine,test_path:mine.jsonl,columns:{answer:gold}}"


def test_names_and_tables_are_composed_as_the_dataset_is() -> None:
    config = compose(
        ["model=tiny", f"evaluation.also=[arithmetic,{{dataset:mmlu,test:500}},{MINE}]"]
    )
    generated, hub, mine = config.further
    assert generated == compose(["model=tiny", "dataset=arithmetic"]).dataset
    assert isinstance(hub, HubConfig)
    assert (hub.name, hub.test, hub.subset) == ("mmlu", 500, "all")
    assert isinstance(mine, LocalConfig)
    assert (mine.test_path, mine.columns.answer, mine.columns.question) == (
        "mine.jsonl", "gold", "question",
    )  # fmt: skip


def test_commas_make_a_list_without_brackets_too() -> None:
    config = compose(["model=tiny", "evaluation.also=arithmetic,arc"])
    assert [each.name for each in config.further] == ["arithmetic", "arc"]


def test_the_composed_config_stands_alone() -> None:
    """A sweep's job is run from it, in a process without Hydra, after the YAML may have changed."""
    config = compose(["model=tiny", "evaluation.also=[arithmetic]"])
    frozen: Any = create_resolved(plain(config))
    again = build_run_config(frozen)
    assert again.further == config.further
    assert isinstance(again.further[0], ArithmeticConfig)
    assert digest_config(again) == digest_config(config)


def test_without_later_settings_a_job_is_named_as_before_there_were_any() -> None:
    config = compose(["model=tiny", "dataset=hub", "dataset.id=a/b"])
    values = plain(config)
    assert values["evaluation"].pop("also") == []
    for name in ("rationale_prefix", "shots_split"):
        assert values["dataset"].pop(name) is None
    assert values["dataset"]["columns"].pop("second_answer") is None
    from caft.store import digest

    del values["store"], values["trainer"]["progress"]
    assert digest_config(config) == digest(values)
    also = [compose(["model=tiny", "dataset=arithmetic"]).dataset]
    other = replace(config, evaluation=replace(config.evaluation, also=also))
    assert digest_config(other) != digest_config(config)
    other = replace(config, dataset=replace(config.dataset, shots_split="dev"))  # type: ignore[call-arg]
    assert digest_config(other) != digest_config(config)


REFUSED = {
    "unknown name": (["[mmlux]"], "evaluation.also, mmlux: no such data set; there are arc, ",
                     "did you mean mmlu?"),
    "number": (["[3]"], "evaluation.also.0 is 3; give a name, or a table", "test_path: FILE"),
    "table without a name": (["[{test:3}]"], "evaluation.also.0 is {'test': 3}; give a name",),
    "unknown setting": (["[{dataset:arc,tets:3}]"], "evaluation.also, arc: there is no setting",
                        "did you mean test?"),
    "number out of range": (["[{dataset:arc,test:0}]"],
                            "evaluation.also, arc: dataset.test is 0; give 1 to"),
    "text for a number": (["[{dataset:arc,test:many}]"], "evaluation.also, arc: ", "whole number"),
    "a list for a kind": (["[{kind:[a],name:u}]"], "evaluation.also, u: kind is", "give one of "),
    "kind of another": (["[{dataset:arc,kind:local}]"], "evaluation.also.0 is"),
    "the run's own": (["[mixed]"], "names mixed, which is this run's dataset", "leave it out"),
    "the run's own by another name": (["[{dataset:mixed,name:x,seed:3}]"],
                                      "names x, which is this run's dataset"),
    "the run's own by another grader": (["[{dataset:mixed,name:x,grader:rules}]"],
                                        "names x, which is this run's dataset"),
    "setting of a named table": (["[{dataset:local,name:mine,tets:3}]"],
                                 "evaluation.also, mine: there is no setting"),
    "twice": (["[arc,arc]"], "names two sets arc; name it once"),
    "two files of one name": (["[{dataset:local,test_path:a},{dataset:local,test_path:b}]"],
                              "names two sets local", "{dataset: local, name: other, ...}"),
    "no file": (["[local]"], "evaluation.also, local: no file is named", "test_path: mine.jsonl"),
    "null": (["null"], "invalid value for evaluation.also: null; give a list"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_evaluated_is_one_line(case: tuple[Any, ...]) -> None:
    (words, *said) = case
    with pytest.raises(UserError) as error:
        compose(["model=tiny", f"evaluation.also={words[0]}"])
    for part in said:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_braces_in_a_path_are_no_reference() -> None:
    entry = OmegaConf.create({"kind": "local", "name": "x", "test_path": r"a\${b}.jsonl"})
    composed: Any = create_resolved(plain(compose(["model=tiny"])))
    composed.evaluation.also = [entry]
    (found,) = build_run_config(composed).further
    assert isinstance(found, LocalConfig)
    assert found.test_path == "a${b}.jsonl"
