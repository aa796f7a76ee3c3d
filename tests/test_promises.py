"""What the pages for other people promise, where no other test has it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from caft import signals
from caft.__main__ import _COMMANDS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_citation_is_that_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert {"message", "title", "authors"} <= citation.keys()
    assert all("family-names" in each for each in citation["preferred-citation"]["authors"])


def test_the_changelog_has_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall("^## (.*)", text, re.MULTILINE)[0] == "[Unreleased]"
    parts = re.findall("^### (.*)", text, re.MULTILINE)
    assert set(parts) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_public_commands_and_exit_statuses_are_told() -> None:
    page = (ROOT / "docs/explanation/promises.md").read_text(encoding="utf-8")
    assert all(f"`caft {name}`" in page for name in _COMMANDS)
    statuses = (signals.DONE, signals.USER_MUST_ACT, signals.OUR_FAULT)
    assert "{} done, {} the user must act, {} a bug".format(*statuses) in page
