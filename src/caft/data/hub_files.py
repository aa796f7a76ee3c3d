"""Which files of a dataset repository hold a split of a subset. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from caft.errors import UserError

_ENDINGS = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
_SPLITS = {"train", "training", "dev", "val", "valid", "validation", "eval", "test", "testing"}
# train-00000-of-00003.parquet, train-00000-of-00003-0123456789abcdef.parquet, train_0.jsonl
_SHARD = re.compile(r"[-_.]?\d+(?:-of-(?P<count>\d+))?(?:-[0-9a-f]{8,})?$")


def choose_files(names: Sequence[str], split: str, subset: str | None) -> list[str]:
    """The files of a split, in order; none if the repository has no such split.

    A split is named by its files or by their folder, a subset by a folder or by the one file that
    it is, once for all splits or in the folder of each. Raises UserError if files of several
    subsets fit and none is named, or several files of one subset.
    """
    data = [name for name in names if name.lower().endswith(_ENDINGS)]
    if subset is not None:
        alone = [name for name in data if PurePosixPath(name).stem == subset]
        data = [
            name
            for name in data
            if subset in (_subset_of(name, split), *PurePosixPath(name).parts[:-1])
        ]
        if not data:
            return _one_file(alone, split)
    found = [name for name in data if _is_split(name, split)]
    folders = sorted({_subset_of(name, split) for name in found})
    if len(folders) > 1:
        shown = ", ".join(folders[:8]) + (f" and {len(folders) - 8} more" if folders[8:] else "")
        raise UserError(
            f"dataset.subset is not set, and there are several: {shown}; give one of them"
        )
    return _one_format(found)


def _one_file(names: Sequence[str], split: str) -> list[str]:
    """The file of a split among those that are named after a subset."""
    folders = {name: set(PurePosixPath(name).parts[:-1]) for name in names}
    own = [name for name in names if split in folders[name]]
    found = _one_format(own or [name for name in names if not folders[name] & _SPLITS])
    if len(found) > 1:
        raise UserError(
            f"dataset.subset={PurePosixPath(found[0]).stem} fits several files of {split!r}: "
            f"{', '.join(found[:8])}; download one of them and give it as dataset.path"
        )
    return found


def _one_format(names: Sequence[str]) -> list[str]:
    """Repositories may have the same rows in several formats."""
    for ending in _ENDINGS:
        if found := sorted(name for name in names if name.lower().endswith(ending)):
            return found
    return []


def _is_split(name: str, split: str) -> bool:
    path = PurePosixPath(name)
    return path.parent.name == split or is_part(path.stem, split)


def _subset_of(name: str, split: str) -> str:
    parent = PurePosixPath(name).parent
    return str(parent.parent if parent.name == split else parent)


def is_part(stem: str, split: str) -> bool:
    """Whether a file's name is that of a split or of one of its parts."""
    return _SHARD.sub("", stem) == split


def are_complete(names: Sequence[str]) -> bool:
    """Whether all parts are there, as far as their names say how many there are."""
    counts = said_counts(names)
    return bool(names) and (not counts or counts == {len(names)})


def said_counts(names: Sequence[str]) -> set[int]:
    """How many parts there are, as the names of parts say."""
    found = (_SHARD.search(PurePosixPath(name).stem) for name in names)
    return {int(part["count"]) for part in found if part and part["count"]}
