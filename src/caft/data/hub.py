"""Datasets of the hub: downloaded, in its cache, or a copy of their files on this disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from caft.data.config import HubConfig
from caft.data.files import READERS, Table, read_table
from caft.data.hub_files import are_complete, choose_files, said_counts
from caft.data.local import read_mapped
from caft.data.splits import QuestionSplits
from caft.errors import UserError
from caft.hub_refusals import Repository, explain_refusal, refusal_types
from caft.packed import join

if TYPE_CHECKING:
    from huggingface_hub.hf_api import DatasetInfo

SECONDS_TO_ANSWER = 4.0
_CONVERTED = "refs/convert/parquet"
"""The branch on which the hub keeps a dataset as parquet files, whatever its own format is."""


class NotHereError(UserError):
    """The files are not on this machine, and nothing may be downloaded."""


def load_hub(config: HubConfig, *, fetch: bool = True) -> QuestionSplits:
    """All splits; those without a name of their own are drawn from the training split.

    Raises UserError if the files cannot be read or found, and NotHereError if they would have to
    be downloaded and `fetch` is false.
    """
    if config.id is None:
        raise UserError(
            "dataset.id is not set; dataset=hub needs a dataset of the hub, such as "
            "dataset.id=cais/mmlu dataset.subset=all"
        )
    files = _copied(config, config.path) if config.path else _published(config, fetch=fetch)
    return read_mapped({split: _read_parts(paths) for split, paths in files.items()}, config)


def _read_parts(paths: Sequence[Path]) -> Table:
    """The parts of a split as one table."""
    tables = [read_table(str(path), "dataset.path") for path in paths]
    columns = dict.fromkeys(name for table in tables for name in table.columns)
    rows = join(*(table.rows for table in tables))
    return replace(tables[0], columns=tuple(columns), rows=rows)


def _splits(config: HubConfig) -> dict[str, str]:
    """The names that the dataset gives to our splits."""
    names = {
        "train": config.train_split,
        "validation": config.validation_split,
        "test": config.test_split,
        "shots": config.shots_split,
    }
    return {split: name for split, name in names.items() if name is not None}


def _copied(config: HubConfig, given: str) -> dict[str, list[Path]]:
    path = Path(given).expanduser()
    if not path.is_dir():
        _refuse_other_splits(config, path)
        return {"train": [path]}
    names = _list_files(path)
    files = _choose(config, names)
    if path.name == config.subset and not any(files.values()):
        config = replace(config, subset=None)
        files = _choose(config, names)
    if not files.get("shots"):
        files.pop("shots", None)
    _refuse_missing(config, files, f"dataset.path={given}")
    paths = {split: [path / name for name in names] for split, names in files.items()}
    for split, own in paths.items():
        _refuse_missing_parts(own, split, given)
    return paths


def _refuse_missing_parts(paths: Sequence[Path], split: str, given: str) -> None:
    """UserError where the names of a copy's files say that there are more of them, or fewer."""
    names = [path.name for path in paths]
    if are_complete(names):
        return
    shown = ", ".join(names[:8])
    if len(names) > max(said_counts(names), default=0):
        raise UserError(
            f"dataset.path={given} holds several copies of {split}: {shown}; remove one"
        )
    raise UserError(
        f"dataset.path={given} does not hold all parts of {split}, only {shown}; "
        "copy the others there, too"
    )


def _refuse_other_splits(config: HubConfig, path: Path) -> None:
    named = [split for split in _splits(config) if split not in ("train", "shots")]
    others = [f"dataset.{split}_split" for split in named]
    if path.is_file() and others:
        raise UserError(
            f"dataset.path={config.path} is one file, and {others[0]} names another; give a folder "
            f"with both, or {' '.join(f'{name}=null' for name in others)}"
        )


def _published(config: HubConfig, *, fetch: bool) -> dict[str, list[Path]]:
    for revision in _revisions(config):
        if (files := _find_cached(config, revision)) is not None:
            return files
    if not fetch:
        raise NotHereError(f"download {config.id} at {config.revision}")
    return _download(config)


def _find_cached(config: HubConfig, revision: str) -> dict[str, list[Path]] | None:
    """The files of each split, if the hub's cache has all of them.

    Which they are says the listing that we or the hub's own tool kept of the download; without one,
    the names of those that are there.
    """
    folder = _find_snapshot(config, revision)
    if folder is None:
        return None
    listed = _read_listing(folder)
    files = _choose(config, _list_files(folder) if listed is None else listed)
    paths = {split: [folder / name for name in names] for split, names in files.items()}
    if listed is None:
        whole = all(map(are_complete, files.values()))
    else:
        whole = all(own and all(path.is_file() for path in own) for own in paths.values())
    return paths if whole else None


def _revisions(config: HubConfig) -> tuple[str, ...]:
    return (config.revision, _CONVERTED) if config.revision == "main" else (config.revision,)


def _list_files(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def _choose(config: HubConfig, names: Sequence[str]) -> dict[str, list[str]]:
    return {
        split: choose_files(names, name, config.subset) for split, name in _splits(config).items()
    }


def _refuse_missing(config: HubConfig, files: Mapping[str, Sequence[str]], where: str) -> None:
    for split, names in files.items():
        if not names:
            subset = f" of the subset {config.subset!r}" if config.subset else ""
            alone = " (null if the copy is of that one alone)" if config.path and subset else ""
            drawn = f", or set dataset.{split}_split=null: they are drawn then"
            raise UserError(
                f"dataset.{split}_split is {_splits(config)[split]!r}, but {where} has no such "
                f"file{subset} ({', '.join(sorted(READERS))}); correct it or dataset.subset"
                f"{alone}{'' if split == 'train' else drawn}"
            )


def _find_snapshot(config: HubConfig, revision: str) -> Path | None:
    """The folder in the hub's cache, which may be half of it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    assert config.id is not None
    try:
        return Path(
            snapshot_download(
                config.id,
                repo_type="dataset",
                revision=revision,
                local_files_only=True,
                allow_patterns=[],
            )
        )
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None


def _keep_listing(config: HubConfig, commit: str, names: Sequence[str]) -> None:
    """Before the first file: a download that ends early is then known to be unfinished."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    assert config.id is not None
    home = repo_folder_name(repo_id=config.id, repo_type="dataset")
    path = _listing_path(Path(constants.HF_HUB_CACHE) / home, commit)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(sorted(names)), encoding="utf-8")
    part.replace(path)


def _read_listing(snapshot: Path) -> list[str] | None:
    own = _listing_path(snapshot.parent.parent, snapshot.name)
    for path in (own, own.parent.parent / "trees" / own.name):  # where the hub's tool keeps it
        with suppress(OSError, ValueError, KeyError):
            kept = json.loads(path.read_text(encoding="utf-8"))
            return [str(name) for name in (kept["files"] if isinstance(kept, dict) else kept)]
    return None


def _listing_path(home: Path, commit: str) -> Path:
    return home / "caft" / f"{commit}.json"


def _download(config: HubConfig) -> dict[str, list[Path]]:
    from huggingface_hub import hf_hub_download

    assert config.id is not None
    files: dict[str, list[str]] = {}
    for revision in _revisions(config):
        with _explained(config.id, revision):
            info = _ask_hub(config, revision)
        if info is None:
            break
        listed = [each.rfilename for each in info.siblings or ()]
        files = _choose(config, listed)
        if all(files.values()):
            get = partial(hf_hub_download, config.id, repo_type="dataset", revision=revision)
            with _explained(config.id, revision):
                _keep_listing(config, str(info.sha), listed)
                return {
                    split: [Path(get(name)) for name in names] for split, names in files.items()
                }
    _refuse_missing(config, files, config.id)
    raise AssertionError("some split has no file")


@contextmanager
def _explained(name: str, revision: str) -> Iterator[None]:
    """A refusal of the hub becomes a UserError that says what to do."""
    try:
        yield
    except refusal_types() as error:
        asked = Repository("dataset", name, revision, like="cais/mmlu")
        raise explain_refusal(asked, error) from error


def _ask_hub(config: HubConfig, revision: str) -> DatasetInfo | None:
    """The hub's entry; None where it has no `revision` and the config does not name that one."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    assert config.id is not None
    try:
        return HfApi().dataset_info(config.id, revision=revision, timeout=SECONDS_TO_ANSWER)
    except RevisionNotFoundError:
        if revision == config.revision:
            raise
        return None
