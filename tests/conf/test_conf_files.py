"""What every YAML file promises to its reader, and that conf/ and the dataclasses agree."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest
import yaml

from caft.hydra_bridge import compose, find_conf
from caft.run_config import KINDS, ONE_KIND, RunConfig
from caft.teachers.api_key import check_address
from caft.teachers.config import EndpointConfig
from caft.teachers.prices import find_price

CONF = find_conf()
SWEEPS = CONF.parent / "multirun_sweeps"
FILES = sorted([*CONF.rglob("*.yaml"), *SWEEPS.glob("*.yaml")])
GROUP_FILES = [file for file in FILES if file.parent.name in {*KINDS, *ONE_KIND}]


def label(file: Path) -> str:
    return str(file.relative_to(CONF.parent))


def comment_lines(file: Path) -> list[str]:
    lines = file.read_text().splitlines()
    end = next(index for index, line in enumerate(lines) if not line.startswith("#"))
    return lines[:end]


@pytest.mark.parametrize("file", FILES, ids=label)
def test_a_file_opens_with_its_purpose_and_a_command(file: Path) -> None:
    opening = [line for line in comment_lines(file) if "@package" not in line]
    assert len(opening[0]) > len("# a purpose")
    assert any(line.startswith("#   ") and "python train.py" in line for line in opening)


def test_a_command_that_names_a_teachers_model_says_what_a_call_needs() -> None:
    opening = "\n".join(line for file in FILES for line in comment_lines(file))
    commands = opening.replace("\\\n#", "").splitlines()
    named = [each for each in commands if "teacher.model=" in each and " -m " not in each]
    assert len(named) > 5
    for command in named:
        teacher = compose(shlex.split(command.partition("train.py")[2])).teacher
        assert isinstance(teacher, EndpointConfig)
        check_address(teacher)
        find_price(teacher)


@pytest.mark.parametrize("file", GROUP_FILES, ids=label)
def test_a_group_file_stays_in_its_group_and_names_its_schema_first(file: Path) -> None:
    group, text = file.parent.name, file.read_text()
    values = yaml.safe_load(text)
    kind = f"/{values['kind']}" if group in KINDS else ""
    assert "@package" not in text
    assert values["defaults"] == [f"/schema/{group}{kind}@_here_", "_self_"]


def test_groups_and_root_keys_are_the_fields_of_a_run() -> None:
    root = yaml.safe_load((CONF / "config.yaml").read_text())
    groups = {group for line in root["defaults"] if isinstance(line, dict) for group in line}
    groups = {group for group in groups if not group.startswith("override ")}
    assert groups - {"experiment", "multirun_sweeps"} | (set(root) - {"defaults", "hydra"}) == {
        field.name for field in dataclasses.fields(RunConfig)
    }


def test_a_name_is_its_files_name() -> None:
    named = [file for file in GROUP_FILES if "name" in yaml.safe_load(file.read_text())]
    assert len(named) > 15
    assert [yaml.safe_load(file.read_text())["name"] for file in named] == [
        file.stem for file in named
    ]
