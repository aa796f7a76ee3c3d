"""The groups and their options as the help prints them, from the headers of their files."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import yaml

from caft.hydra_bridge.groups import find_conf, list_groups

_WIDEST = 79
_NAMES = 27
_LONGEST = 105
_ASIDE = re.compile(r" \((?:paper|section|public)[^)]*\)")


def describe_options() -> str:
    """Every group with its options: what each is for, and a star before the default."""
    defaults = _read_defaults()
    return "\n\n".join(
        "\n".join([f"{group}=", *(_describe(group, each, defaults.get(group)) for each in options)])
        for group, options in list_groups().items()
    )


def read_purpose(file: Path) -> str:
    """The first sentence of a file's header; a sweep's is its question."""
    header: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("# ") or line.startswith("#   "):
            break
        header.append(line.removeprefix("# "))
    text = re.sub(r"^Question: (\w)", lambda found: found[1].upper(), " ".join(header))
    text = _ASIDE.sub("", text)
    sentence = re.split(r"(?<=[.?])\s", text, maxsplit=1)[0].rstrip(".")
    if len(sentence) > _LONGEST and (cut := re.search(r"(.{30,})[;:] ", sentence)):
        sentence = cut[1]
    return sentence


def _describe(group: str, option: str, default: str | None) -> str:
    folder = find_conf().parent if group == "multirun_sweeps" else find_conf()
    mark = "*" if option == default else " "
    return textwrap.fill(
        f"{f'  {mark} {option}':<{_NAMES}} {read_purpose(folder / group / f'{option}.yaml')}",
        _WIDEST,
        subsequent_indent=" " * (_NAMES + 1),
        break_on_hyphens=False,
    )


def _read_defaults() -> dict[str, str]:
    """The option of each group that is used if none is given."""
    composed = yaml.safe_load((find_conf() / "config.yaml").read_text(encoding="utf-8"))
    named = [each for each in composed["defaults"] if isinstance(each, dict)]
    return {group: option for each in named for group, option in each.items()}
