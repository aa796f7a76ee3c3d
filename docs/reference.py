"""Writes the site's reference from the schemas, the YAML files and the code: `make docs`.

A key's type, allowed values and default come from its config class and the files in conf/, its
meaning from the comment above it there or else from the sentences of the class's docstring that
name it, and the files that read it from the annotations of the code. docs/meanings.yaml has
the keys that neither explains out of its context; it is asked first.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from inspect import get_annotations
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import yaml
from places import read_places

from caft.dials import Range, read_hint
from caft.hydra_bridge.groups import list_groups
from caft.hydra_bridge.help_text import read_purpose
from caft.run_config import KINDS, ONE_KIND, RunConfig

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "caft"
_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}

MEANINGS: dict[str, str] = yaml.safe_load((ROOT / "docs" / "meanings.yaml").read_text("utf-8"))
"""Of keys, by the end of their dotted name, where no comment and no docstring stands alone."""

ROOMS = {
    "dataset": ("data", "text"), "engine": ("engines",), "evaluation": ("evaluate",),
    "logger": ("trainers",), "method": ("tune",), "model": ("models",), "split": ("split",),
    "teacher": ("teachers", "distill"), "trainer": ("trainers",), "tuning": ("tune", "models"),
}  # fmt: skip
"""Where a key is looked for by its name alone if no annotation leads to it."""


class Key(NamedTuple):
    """One setting: its dotted name within the group, its class, and its field there."""

    name: str
    owner: type[Any]
    field: Field[Any]
    hint: object


def list_keys(schema: type[Any], prefix: str = "") -> Iterator[Key]:
    """Every setting of a class; those of a nested class follow with its name before theirs."""
    hints = get_type_hints(schema, include_extras=True)
    for field in fields(schema):
        kind, _, _ = read_hint(hints[field.name])
        if isinstance(kind, type) and is_dataclass(kind):
            if schema is not RunConfig:
                yield from list_keys(kind, f"{prefix}{field.name}.")
        elif field.name != "kind":
            owner = next(base for base in reversed(schema.__mro__) if _declares(base, field.name))
            yield Key(prefix + field.name, owner, field, hints[field.name])


def _declares(base: type[Any], name: str) -> bool:
    return name in get_annotations(base)


def describe_type(hint: object) -> str:
    """What can be given, such as "whole number, 1 to 10, or null"."""
    kind, rules, optional = read_hint(hint)
    ranges = [str(rule) for rule in rules if isinstance(rule, Range)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        text = ", ".join(f"`{choice.name}`" for choice in kind)
    elif get_origin(kind) is list:
        text = f"list of {describe_type(get_args(kind)[0])}"
    elif get_origin(kind) is dict:
        text = "table by name"
        if get_args(kind)[1] is not Any:
            text += f" of {describe_type(get_args(kind)[1])}"
    elif isinstance(kind, type) and is_dataclass(kind):
        text = f"tables with {', '.join(f'`{field.name}`' for field in fields(kind))}"
    else:
        text = ", ".join([_WORDS.get(kind, "any value"), *ranges])  # type: ignore[call-overload]
    return f"{text}, or null" if optional else text


@cache
def read_option(file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """A file's values and the comments above its keys, both by dotted name."""
    text = file.read_text(encoding="utf-8")
    values = dict(_flatten(yaml.safe_load(text) or {}))
    comments: dict[str, str] = {}
    path: list[str] = []
    said: list[str] = []
    for line in text.splitlines():
        found = re.match(r"( *)(\w+):", line)
        if line.lstrip().startswith("# "):
            said.append(line.strip().removeprefix("# "))
        elif found:
            path = [*path[: len(found[1]) // 2], found[2]]
            if said and path[0] != "defaults":
                comments[".".join(path)] = " ".join(said)
            said = []
        else:
            said = []
    return values, comments


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        yield prefix + name, value
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")


def option_files(group: str, kind: str | None) -> list[Path]:
    """The files in conf/ of a group, or of one of its kinds; `run` is conf/config.yaml."""
    if group == "run":
        return [ROOT / "conf" / "config.yaml"]
    files = sorted((ROOT / "conf" / group).glob("*.yaml"))
    return [file for file in files if kind is None or _kind_of(group, file) == kind]


def _kind_of(group: str, file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    found = re.search(rf"/schema/{group}/(\w+)@", text)
    if found:
        return found[1]
    base = re.search(r"^ +- (?!_self_)(\w+)$", text, re.MULTILINE)  # the option it builds on
    return _kind_of(group, file.with_name(f"{base[1]}.yaml")) if base else ""


def describe_default(group: str, key: Key, files: list[Path]) -> str:
    """What holds if nothing is given; where the options differ, each one's."""
    given: dict[str, list[str]] = {}
    for file in files:
        schema = KINDS[group][_kind_of(group, file)] if group in KINDS else _schema_of(group)
        own = next(each.field for each in list_keys(schema) if each.name == key.name)
        value = read_option(file)[0].get(key.name, default_of(own))
        given.setdefault("to be given" if value is MISSING else show(value), []).append(file.stem)
    if not files:
        given = {show(default_of(key.field)): []}
    if len(given) == 1:
        return f"default {next(iter(given))}"
    if len(given) > 4:
        return "default: as the option sets it"
    by_number = sorted(given.items(), key=lambda item: len(item[1]))
    shown = [f"{value} ({', '.join(of)})" for value, of in by_number]
    if len(by_number[-1][1]) > 5:
        shown[-1] = f"{by_number[-1][0]} (the others)"
    return f"default {', '.join(shown)}"


def _schema_of(group: str) -> type[Any]:
    return ONE_KIND.get(group, RunConfig)


def default_of(field: Field[Any]) -> object:
    """A field's default as YAML would write it; MISSING where there is none."""
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    if isinstance(value, list):
        return [each.name if isinstance(each, Enum) else each for each in value]
    return value.name if isinstance(value, Enum) else value


def show(value: object) -> str:
    """A value as it is typed; long texts are cut."""
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    text = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
    text = " ".join(text.split())
    return f"`{text if len(text) <= 70 else text[:67] + '...'}`" if text else "empty"


def explain(group: str, key: Key, files: list[Path]) -> str:
    """A key's meaning: ours, else the comment above it in conf/, else its class's sentences.

    Of datasets the class is asked first: a comment there is often about that one dataset.
    """
    comments = [read_option(file)[1].get(key.name, "") for file in files]
    comment = next((each for each in comments if each and not each.startswith("Must be")), "")
    said = _sentences_about(key.field.name, key.owner.__doc__ or "")
    kind, _, _ = read_hint(key.hint)
    if isinstance(kind, type) and issubclass(kind, Enum):
        said = f"{said} {' '.join((kind.__doc__ or '').split())}".strip()
    full = f".{group}.{key.name}"
    ours = next((text for end, text in MEANINGS.items() if full.endswith(f".{end}")), "")
    return ours or ((said or comment) if group == "dataset" else (comment or said))


def _sentences_about(name: str, docstring: str) -> str:
    text = " ".join(docstring.split())
    sentences = re.split(r"(?<=[.:;])\s+(?=[A-Z`*])", text)
    named = re.compile(rf"`(?:\w+\.)*{name}(?:=\w+)?`")
    return " ".join(each for each in sentences if named.search(each))


def describe_key(group: str, key: Key, schema: type[Any], files: list[Path]) -> str:
    """A definition: the key, and in one paragraph all that there is to know."""
    full = key.name if group == "run" else f"{group}.{key.name}"
    family = {each.__name__ for each in (key.owner, schema, *_below(key.owner))}
    places = {f for name in family for f in read_places().get((name, key.field.name), [])}
    if not places:
        named = read_places().get(("", key.field.name), [])
        places = {file for file in named if file.split("/")[0] in ROOMS.get(group, ())}
    used = ", ".join(f"`{place}`" for place in sorted(places)[:4])
    facts = f"{describe_type(key.hint)}; {describe_default(group, key, files)}."
    read = f" *Read in* {used}." if used else ""
    meaning = _end(explain(group, key, files)).replace("<", r"\<").replace("*", r"\*")
    body = " ".join(f"{_capital(facts)} {meaning}{read}".split())
    return f"`{full}`\n: {body}\n"


def _below(owner: type[Any]) -> list[type[Any]]:
    direct = owner.__subclasses__()
    return [*direct, *(each for one in direct for each in _below(one))]


def _end(text: str) -> str:
    text = text.rstrip(":; ")
    return text if not text or text.endswith((".", "?")) else f"{text}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def write_group(group: str) -> str:
    """The page of one group: its options, the keys of all kinds, and those that one kind adds."""
    files = option_files(group, None)
    parts = [f"# {group}"]
    if group in list_groups():
        default = read_option(ROOT / "conf" / "config.yaml")[0]["defaults"]
        star = next(each[group] for each in default if group in each)
        parts += [f"`{group}=` chooses one; the default is `{star}`.", _list_options(files)]
    schemas = KINDS.get(group) or {"": ONE_KIND[group]}
    common = set.intersection(*({*each.__mro__} for each in schemas.values()))
    first = next(iter(schemas.values()))
    shared = [key for key in list_keys(first) if _root(first, key) in common]
    parts += [describe_key(group, key, first, files) for key in shared]
    for kind, schema in schemas.items() if group in KINDS else ():
        own = option_files(group, kind)
        parts += [f"## Kind {kind}", _purpose(schema), _list_options(own, "Of this kind: ")]
        known = {key.name for key in shared}
        keys = [key for key in list_keys(schema) if key.name not in known]
        parts += [describe_key(group, key, schema, own) for key in keys]
    return "\n\n".join(part for part in parts if part) + "\n"


def _root(schema: type[Any], key: Key) -> type[Any]:
    """The class that declares the first part of a key's name."""
    name = key.name.split(".")[0]
    return next(base for base in reversed(schema.__mro__) if _declares(base, name))


def _list_options(files: list[Path], before: str = "") -> str:
    if before:
        return f"{before}{', '.join(f'`{file.stem}`' for file in files)}." if files else ""
    return "\n".join(f"- `{file.stem}`: {_end(read_purpose(file))}" for file in files)


def _purpose(schema: type[Any]) -> str:
    return " ".join((schema.__doc__ or "").split("\n\n")[0].split())


def write_run() -> str:
    """The page of the run's own keys, which are in no group."""
    files = option_files("run", None)
    keys = [describe_key("run", key, RunConfig, files) for key in list_keys(RunConfig)]
    return "\n\n".join(["# The run itself", *keys]) + "\n"


def write_files(title: str, folder: Path) -> str:
    """A page of YAML files: what each header says, and what follows it."""
    parts = [f"# {title}"]
    for file in sorted(folder.glob("*.yaml")):
        lines = file.read_text(encoding="utf-8").splitlines()
        header = [line for line in lines if line.startswith("#") and "@package" not in line]
        rest = [line for line in lines if not line.startswith("#")]
        parts += [f"## {file.stem}", *_read_header(header)]
        parts.append("```yaml\n" + "\n".join(rest) + "\n```")
    return "\n\n".join(parts) + "\n"


def _read_header(lines: list[str]) -> Iterator[str]:
    """Prose as paragraphs, and indented commands as blocks."""
    text = "\n".join(line[1:].removeprefix(" ") for line in lines)
    text = re.sub(r"\n(?=Axes:|Expected cost:|- )", "\n\n", text)
    text = re.sub(r"((?:^  .*\n?)+)", "\n\n\\1\n\n", text, flags=re.MULTILINE)
    for block in re.split(r"\n\n+", text):
        if block.startswith("  "):
            yield f"```\n{textwrap.dedent(block).rstrip()}\n```"
        elif block.strip():
            yield block.strip().replace("*", r"\*")


def write_pages(folder: Path) -> None:
    """All pages of the reference; a page whose text is as it was is left alone."""
    groups = [name for name in [*KINDS, *ONE_KIND] if name in list_groups() or name == "store"]
    pages = {"run.md": write_run(), **{f"{name}.md": write_group(name) for name in groups}}
    pages["methods.md"] = write_files("Methods", ROOT / "conf" / "method")
    pages["experiments.md"] = write_files("Experiments", ROOT / "conf" / "experiment")
    pages["sweeps.md"] = write_files("Sweeps", ROOT / "multirun_sweeps")
    listed = "\n".join(name.removesuffix(".md") for name in pages)
    toc = "\n".join(["```{toctree}", ":maxdepth: 1", "", listed, "```"])
    intro = (
        "Every setting, written from the schemas, the files in `conf/` and the code each time the "
        "site is built. A key is given as `tuning.batch_size=32`. *Read in* names files of "
        "`src/caft/` where annotations or names lead to the key; there may be more."
    )
    pages["index.md"] = f"# Reference\n\n{intro}\n\n{toc}\n"
    folder.mkdir(exist_ok=True)
    for gone in {file.name for file in folder.glob("*.md")} - {*pages}:
        (folder / gone).unlink()
    for name, text in pages.items():
        file = folder / name
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(__file__).parent / "reference")
