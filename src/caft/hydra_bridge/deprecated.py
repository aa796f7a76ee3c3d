"""Settings with another name, or without an effect, since an earlier version: old words still work.

They work on the command line, in the axes of a sweep and in YAML files, and one line says what to
write instead, and which version will refuse them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf, open_dict

from caft.errors import UserError
from caft.signals import say


@dataclass(frozen=True, slots=True, kw_only=True)
class Deprecated:
    """What to write `instead` of an old word; empty: it is left out. `gone` is the version."""

    instead: str = ""
    why: str = ""
    gone: str


DEPRECATED: dict[str, Deprecated] = {
    "trainer.strategy=auto": Deprecated(instead="trainer.strategy=ddp", gone="0.2.0"),
    "evaluation.routed_by=tuned": Deprecated(
        instead="evaluation.routed_by=validation", gone="0.2.0"
    ),
    "split.invalid=by_estimate": Deprecated(
        why="rows without an allowed answer are always placed by their estimate", gone="0.2.0"
    ),
}
"""By the old word: a key (`group.old`, with all settings inside of it), or a value of a key that
stays (`group.key=old`). What is written instead is of the same form and in the same group, since a
file of one group cannot set another's."""

FORMER_KINDS = {"dataset": ("gsm8k", "medmcqa", "mmlu_pro")}
"""By group: kinds that are options of another kind. A config of then lacks settings of that one."""

_told: set[str] = set()


def rename_overrides(overrides: Iterable[str]) -> list[str]:
    """The command line's words in today's names; words without an effect are left out."""
    return [renamed for word in overrides if (renamed := _rename(word))]


def _rename(word: str) -> str:
    head, equals, value = word.partition("=")
    key = head.lstrip("+~")
    found = find_deprecated(key, value.strip())
    if found is None:
        return word
    old, change = found
    _warn(old, change, "")
    name, _, renamed = change.instead.partition("=")
    if not name:
        return ""
    sign = head[: len(head) - len(key)]
    return f"{sign}{name}{key.removeprefix(old.partition('=')[0])}{equals}{renamed or value}"


def find_deprecated(key: str, value: str) -> tuple[str, Deprecated] | None:
    """The old word that sets `key` to `value`, and what is to be known of it."""
    if exact := DEPRECATED.get(f"{key}={value}"):
        return f"{key}={value}", exact
    parts = key.split(".")
    prefixes = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next(((each, DEPRECATED[each]) for each in prefixes if each in DEPRECATED), None)


def rename_settings(config: DictConfig, package: str, path: str) -> None:
    """Put today's names into what the file `path`.yaml has, whose keys are below `package`.

    UserError for a kind of an earlier version.
    """
    for group in FORMER_KINDS:
        if place := _within(f"{group}.kind", package):
            refuse_former_kind(group, OmegaConf.select(config, place))
    for old, change in DEPRECATED.items():
        key, _, value = old.partition("=")
        place = _within(key, package)
        given = _take(config, place, value) if place else None
        if given is None:
            continue
        _warn(old, change, f" (in {path}.yaml)")
        name, _, renamed = change.instead.partition("=")
        if name:
            OmegaConf.update(config, _within(name, package), renamed or given[0], force_add=True)


def refuse_former_kind(group: str, kind: object) -> None:
    """UserError for a kind of an earlier version, which cannot be renamed alone."""
    if kind in FORMER_KINDS.get(group, ()):
        raise UserError(
            f"{group}.kind={kind} is of an earlier version, whose configs lack some settings; "
            f"compose {group}={kind} anew"
        )


def _within(key: str, package: str) -> str:
    """`key` as a file of `package` has it; empty if it belongs to another one."""
    if not package:
        return key
    return key.removeprefix(f"{package}.") if key.startswith(f"{package}.") else ""


def _take(config: DictConfig, place: str, value: str) -> tuple[object] | None:
    """What the file has at `place`, which is removed; None if it has nothing, or another value."""
    owner, _, name = place.rpartition(".")
    table = OmegaConf.select(config, owner) if owner else config
    if not isinstance(table, DictConfig) or name not in table:
        return None
    given: Mapping[str, object] = OmegaConf.to_container(table, resolve=False)  # type: ignore[assignment]
    if value and str(given[name]) != value:
        return None
    with open_dict(table):
        del table[name]
    return (given[name],)


def _warn(old: str, change: Deprecated, where: str) -> None:
    if old in _told:
        return
    _told.add(old)
    reason = f"has no effect: {change.why}; leave it out" if change.why else "has no effect"
    advice = f"is now {change.instead}" if change.instead else reason
    say(f"deprecated: {old} {advice}{where}; CAFT {change.gone} will refuse it")
