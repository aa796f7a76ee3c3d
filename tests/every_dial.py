"""Every setting, as the config classes have it: a new one is in tests as soon as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from caft.dials import read_hint
from caft.hydra_bridge import find_conf
from caft.run_config import KINDS, ONE_KIND, RunConfig


@dataclass(frozen=True)
class Dial:
    """A setting's place, its type and its rules; `words` choose an option that has it."""

    words: tuple[str, ...]
    path: str
    kind: Any
    rules: tuple[Any, ...]

    @property
    def name(self) -> str:
        return "+".join([*self.words, self.path])


def _options() -> Iterator[tuple[tuple[str, ...], str, type[Any]]]:
    yield (), "", RunConfig
    for group, schema in ONE_KIND.items():
        yield (), group, schema
    for group, kinds in KINDS.items():
        for kind, schema in kinds.items():
            files = sorted((find_conf() / group).glob("*.yaml"))
            named = f"/schema/{group}/{kind}@_here_"
            of_kind = (
                file for file in files if named in yaml.safe_load(file.read_text())["defaults"]
            )
            yield (f"{group}={next(of_kind).stem}",), group, schema


def _walk(words: tuple[str, ...], place: str, schema: type[Any]) -> Iterator[Dial]:
    hints = get_type_hints(schema, include_extras=True)
    for field in fields(schema):
        path = f"{place}.{field.name}" if place else field.name
        # Groups come as options, each of its kind.
        if path not in KINDS and path not in ONE_KIND:
            yield from _walk_hint(words, path, hints[field.name])


def _walk_hint(words: tuple[str, ...], path: str, hint: Any) -> Iterator[Dial]:
    kind, rules, _ = read_hint(hint)
    if is_dataclass(kind):
        yield from _walk(words, path, kind)  # type: ignore[arg-type]
        return
    yield Dial(words, path, kind, rules)
    if get_origin(kind) in (list, dict):
        inner = "0" if get_origin(kind) is list else "some"
        yield from _walk_hint(words, f"{path}.{inner}", get_args(kind)[-1])


ALL_DIALS = [dial for option in _options() for dial in _walk(*option)]
