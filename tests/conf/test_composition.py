"""Every option composes and becomes a typed config, alone and in every combination."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from caft.hydra_bridge import compose, find_conf
from caft.records import Mode, Target
from caft.run_config import KINDS, ONE_KIND, RunConfig, RunContext, Until
from caft.tune.config import Rescore, StageConfig, describe_targets

GROUPS = ("model", "dataset", "split", "method")
COMBINATIONS = 25704
"""27 models x 17 datasets x 4 splits x 14 methods. A new file changes this number by hand."""

NEEDED = {"dataset=local": ["dataset.train_path=questions.jsonl"]}
"""What must be given with an option, since no default would be honest."""


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (find_conf() / group).glob("*.yaml"))


def words(group: str, option: str) -> list[str]:
    word = f"{group}={option}"
    return [word, *NEEDED.get(word, [])]


ALL_GROUPS = [group for group in (*KINDS, *ONE_KIND) if group != "store"]


@cache
def compose_round(number: int) -> RunConfig:
    """Every group's option of that number at once; groups with fewer begin again."""
    chosen = {group: options(group) for group in ALL_GROUPS}
    return compose([
        word
        for group, names in chosen.items()
        for word in words(group, names[number % len(names)])
    ])  # fmt: skip


def compose_part(group: str, option: str) -> Any:
    return getattr(compose_round(options(group).index(option)), group)


def compose_parts(group: str) -> list[Any]:
    return [compose_part(group, option) for option in options(group)]


def test_the_default_is_typed_to_the_leaves() -> None:
    config = compose()
    assert isinstance(config, RunConfig)
    assert config.name == "smollm2-mixed-complexity_aware"
    assert config.method.stages == [
        StageConfig(
            targets={"easy": Target.answer, "middle": Target.answer},
            epochs=1,
            rescore=Rescore.never,
        ),
        StageConfig(
            targets={"easy": Target.answer, "middle": Target.answer, "hard": Target.rationale},
            epochs=2,
            rescore=Rescore.never,
        ),
    ]
    assert config.evaluation.modes == [Mode.answer, Mode.rationale, Mode.routed]
    assert config.until is Until.report


@pytest.mark.parametrize(
    ("group", "option"),
    [(group, option) for group in ALL_GROUPS for option in options(group)],
)
def test_each_option_has_the_class_of_its_group(group: str, option: str) -> None:
    classes = KINDS[group].values() if group in KINDS else [ONE_KIND[group]]
    assert type(compose_part(group, option)) in classes


def test_every_class_has_a_file() -> None:
    composed = {type(part) for group in KINDS for part in compose_parts(group)}
    assert composed == {schema for kinds in KINDS.values() for schema in kinds.values()}


def test_every_combination_is_a_valid_run() -> None:
    # A file writes into its own group only (test_conf_files proves it), so the parts that Hydra
    # composed in any run are the parts that it composes in every other.
    default = compose()
    parts = [compose_parts(group) for group in GROUPS]
    runs = [
        dataclasses.replace(default, **dict(zip(GROUPS, chosen, strict=True)))
        for chosen in itertools.product(*parts)
    ]
    assert len(runs) == COMBINATIONS


Option = tuple[str, str]
"""A group, and one of its options."""


def all_pairs(groups: dict[str, list[str]]) -> dict[frozenset[Option], None]:
    """Every two options of two groups, in order."""
    each = [[(group, option) for option in found] for group, found in groups.items()]
    return dict.fromkeys(
        frozenset(pair)
        for one, two in itertools.combinations(each, 2)
        for pair in itertools.product(one, two)
    )


def cover_pairs(groups: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    """Runs in which every two options occur together: each takes a pair that none had, and more."""
    missing = all_pairs(groups)
    while missing:
        run = dict(next(iter(missing)))
        for group in [name for name in groups if name not in run]:
            had = list(run.items())
            new = [
                sum(frozenset({(group, each), one}) in missing for one in had)
                for each in groups[group]
            ]
            run[group] = groups[group][new.index(max(new))]
        for pair in itertools.combinations(run.items(), 2):
            missing.pop(frozenset(pair), None)
        yield run


@pytest.mark.slow
def test_every_two_options_compose_through_hydra() -> None:
    # Hydra merges file into file: what goes wrong, goes wrong between two of them.
    groups = {group: options(group) for group in GROUPS}
    missing = all_pairs(groups)
    for run in cover_pairs(groups):
        config = compose([word for chosen in run.items() for word in words(*chosen)])
        names = {"model": config.model.name, "dataset": config.dataset.name}
        assert names | {"split": config.split.kind, "method": config.method.name} == run
        for pair in itertools.combinations(run.items(), 2):
            missing.pop(frozenset(pair), None)
    assert not missing


def test_the_missions_own_command_composes() -> None:
    config = compose(["model=phi3", "method=complexity_aware"])
    assert config.model.id == "microsoft/Phi-3-mini-4k-instruct"


def test_an_experiment_chooses_options_and_yields_to_the_command_line() -> None:
    asked = ["experiment=mmlu_pro_local", "dataset.train_path=a.jsonl", "dataset.train=7"]
    config = compose([*asked, "method=sft"])
    assert (config.dataset.kind, config.method.name) == ("local", "sft")
    assert config.dataset.columns.id == "question_id"
    assert (config.dataset.train, config.dataset.test) == (7, 100)


METHODS = {
    "base": [],
    "sft": [{"easy": "answer", "middle": "answer", "hard": "answer"}],
    "distill": [{"easy": "rationale", "middle": "rationale", "hard": "rationale"}],
    "complexity_aware": [
        {"easy": "answer", "middle": "answer"},
        {"easy": "answer", "middle": "answer", "hard": "rationale"},
    ],
    "complexity_aware_paper": [{"easy": "answer", "middle": "answer"}, {"hard": "rationale"}],
    "complexity_aware_joint": [{"easy": "answer", "middle": "answer", "hard": "rationale"}],
    "answer_and_rationale": [
        {"easy": "answer", "middle": "answer", "hard": "rationale 0.7 + answer 0.3"}
    ],
    "curriculum": [{"easy": "answer"}, {"middle": "answer"}, {"hard": "answer"}],
    "reversed": [{"hard": "answer", "middle": "answer"}, {"easy": "rationale"}],
    "hard_only": [{"hard": "rationale"}],
    "short_and_long": [{"easy": "answer", "middle": "short_rationale", "hard": "rationale"}],
    "self_taught": [{"easy": "answer", "middle": "own_rationale", "hard": "rationale"}],
    "redraw": [{"easy": "answer", "hard": "rationale"}],
    "mixed_rationales": [
        {"easy": "answer", "middle": "answer"},
        {"easy": "rationale", "middle": "rationale", "hard": "rationale"},
    ],
}
"""The paper's section 2, and what came after it, written down a second time."""


def test_methods_train_what_the_paper_says() -> None:
    assert options("method") == sorted(METHODS)
    for name, stages in METHODS.items():
        composed = compose_part("method", name).stages
        found = [{name: describe_targets(own) for name, own in s.shares.items()} for s in composed]
        assert found == stages, name


def test_a_folder_caft_here_has_options_of_ones_own(
    front_door: Callable[..., int], started: list[tuple[RunConfig, RunContext]], tmp_path: Path
) -> None:
    """`--config-dir` wins over it."""
    for folder, name in (("caft", "here"), ("given", "there")):
        (tmp_path / folder / "method").mkdir(parents=True)
        text = (find_conf() / "method/sft.yaml").read_text(encoding="utf-8")
        file = tmp_path / folder / "method/mine.yaml"
        file.write_text(text.replace("name: sft", f"name: {name}"), encoding="utf-8")
    assert front_door("method=mine") == 0
    assert front_door("--config-dir", "given", "method=mine") == 0
    assert [config.method.name for config, _ in started] == ["here", "there"]
