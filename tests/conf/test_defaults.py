"""A setting has one default: that of its config class is that of the YAML file of its kind."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from caft.hydra_bridge.composing import compose
from caft.hydra_bridge.groups import list_options_of
from caft.run_config import KINDS, ONE_KIND

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

KINDS_WITH_A_FILE = [
    (group, kind) for group, kinds in KINDS.items() for kind in kinds
    if kind in list_options_of(group)
]  # fmt: skip
"""Kinds whose file has their own name: another file of a kind, such as a model's, sets values."""
OF_A_FILE = re.compile(r"dataset\.prompt\..*|.*\.max_new_tokens")
"""A dataset's wordings, and the length of its replies, to which other files refer."""


def list_differences(
    composed: DataclassInstance, place: str, default: DataclassInstance | None = None
) -> Iterator[str]:
    """Settings whose class has a default of its own that is not what was composed."""
    if default is None:
        required = {
            field.name: getattr(composed, field.name)
            for field in dataclasses.fields(composed)
            if field.default is field.default_factory is dataclasses.MISSING
        }
        default = type(composed)(**required)
    for field in dataclasses.fields(composed):
        key, ours = f"{place}.{field.name}", getattr(default, field.name)
        value = getattr(composed, field.name)
        if dataclasses.is_dataclass(ours) and type(ours) is type(value):
            yield from list_differences(value, key, ours)
        elif value != ours and not OF_A_FILE.fullmatch(key):
            yield f"{key}: {value!r} in YAML, {ours!r} in its class"


@pytest.mark.parametrize(("group", "kind"), KINDS_WITH_A_FILE)
def test_a_kind_has_the_defaults_of_its_file(group: str, kind: str) -> None:
    composed = getattr(compose([f"{group}={kind}"]), group)
    assert list(list_differences(composed, group)) == []


def test_the_other_groups_have_the_defaults_of_theirs() -> None:
    config = compose()
    found = [
        difference
        for group in ONE_KIND
        if group != "method"  # every file is another table
        for difference in list_differences(getattr(config, group), group)
    ]
    assert found == []
