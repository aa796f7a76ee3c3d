"""What every YAML file promises to its reader, and that conf/ and the dataclasses agree."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from caft.hydra_bridge import compose, find_conf
from caft.run_config import KINDS, ONE_KIND, RunConfig
from caft.teachers.config import OpenAITeacherConfig
from caft.teachers.prices import check_paid

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


def teacher_commands() -> Iterator[str]:
    """What headers and pages print about a teacher, or of an experiment that has one."""
    pages = [CONF.parent / "README.md", *(CONF.parent / "docs").rglob("*.md")]
    for file in [*FILES, *(page for page in pages if "reference" not in page.parts)]:
        header = "\n".join(comment_lines(file)) if file.suffix == ".yaml" else ""
        text = header.replace("\n#  ", "\n") if header else file.read_text("utf-8")
        lines = text.replace("\\\n", " ").splitlines()
        yield from (
            line.strip()
            for line in lines
            if re.match(r"\s*([A-Z_]+=\S+ )*python train\.py ", line)
            and re.search(r"\b(teacher=|experiment=(?!small|mmlu_pro_local|sampled))", line)
        )


def first_words(command: str) -> list[str]:
    """Of a sweep those of a job: with the first of each list of values."""
    _, _, given = command.partition("python train.py ")
    words = shlex.split(given, comments=True)
    if "-m" not in words:
        return words
    kept = [
        word for word in words if word != "-m" and not word.startswith(("hydra", "multirun_sweeps"))
    ]
    return [word if "[" in word else word.partition(",")[0] for word in kept]


PRINTED = {tuple(first_words(command)): command for command in sorted({*teacher_commands()})}
"""One of each of them that are the same but for their first words and comments."""


@pytest.mark.parametrize("command", PRINTED.values())
def test_a_command_that_is_printed_has_all_that_its_teacher_needs(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = first_words(command)
    config = compose([*words, "dataset.train_path=x.csv"] if "dataset=local" in words else words)
    if not isinstance(config.teacher, OpenAITeacherConfig) or "..." in words:
        return
    monkeypatch.setenv(config.teacher.api_key_env, "a-key-of-a-test")
    check_paid(config.teacher, pays=not config.dry_run)


@pytest.mark.parametrize("file", GROUP_FILES, ids=label)
def test_a_group_file_stays_in_its_group_and_names_its_schema_first(file: Path) -> None:
    group, text = file.parent.name, file.read_text()
    values = yaml.safe_load(text)
    named, own = values["defaults"]
    assert "@package" not in text
    assert own == "_self_"
    kinds = [f"{group}/{kind}" for kind in KINDS[group]] if group in KINDS else [group]
    assert named in [f"/schema/{kind}@_here_" for kind in kinds]


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
