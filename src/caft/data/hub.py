"""Files of a published dataset: from the hub at a pinned revision, or from a copy on this disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from operator import eq
from pathlib import Path

from caft.data.config import HubDatasetConfig
from caft.data.files import Table, read_table, refuse_missing_columns
from caft.data.hub_files import are_complete, is_part, said_counts
from caft.errors import UserError
from caft.hub_refusals import Repository, explain_refusal, refusal_types
from caft.packed import join

SECONDS_TO_ANSWER = 4.0


class NotHereError(UserError):
    """The files are not on this machine, and nothing may be downloaded."""


def read_published(
    config: HubDatasetConfig, files: Mapping[str, str], columns: Sequence[str], *, fetch: bool
) -> dict[str, Table]:
    """The rows of each split; `files` maps splits to paths on the hub, the needed one first.

    Raises UserError if the files cannot be read or lack one of `columns`, and NotHereError if they
    would have to be downloaded and `fetch` is false.
    """
    if config.path:
        paths = locate_copy(config.path, files)
    else:
        downloaded = download_files(config, files, fetch=fetch)
        paths = {split: [path] for split, path in downloaded.items()}
    tables = {split: read_parts(own) for split, own in paths.items()}
    for table in tables.values():
        refuse_missing_columns(table, {f"{config.id}'s column {name}": name for name in columns})
    return tables


def read_parts(paths: Sequence[Path]) -> Table:
    """The parts of a split as one table."""
    tables = [read_table(str(path), "dataset.path") for path in paths]
    columns = dict.fromkeys(name for table in tables for name in table.columns)
    rows = join(*(table.rows for table in tables))
    return replace(tables[0], columns=tuple(columns), rows=rows)


def locate_copy(given: str, files: Mapping[str, str]) -> dict[str, list[Path]]:
    """The files of a copy: a folder with the parts of each split, or one file for the first split.

    UserError where parts are missing, or where it is open which file is the split's.
    """
    path, needed = Path(given).expanduser(), next(iter(files))
    if not path.is_dir():
        return {needed: [path]}
    homes = sorted({str(Path(file).parent) for file in files.values()})
    folders = [path, *(path / home for home in homes)]
    found = {split: own for split in files if (own := _find_split(folders, split))}
    if needed not in found:
        raise UserError(
            f"dataset.path={given} holds no {needed}-*.parquet, .jsonl or .csv, there or in "
            f"{' or '.join(homes)}/; give the folder of a copy, or one file of its rows"
        )
    for split, own in found.items():
        refuse_missing_parts(own, split, given)
    return found


def refuse_missing_parts(paths: Sequence[Path], split: str, given: str) -> None:
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


def _find_split(folders: Sequence[Path], split: str) -> list[Path]:
    """The file that is named after the split, else its parts, else the one file named like it."""
    groups = [
        sorted(folder.glob(f"{split}*.{ending}"))
        for ending in ("parquet", "jsonl", "csv")
        for folder in folders
    ]
    for fits in (eq, is_part):
        for group in groups:
            if found := [path for path in group if fits(path.stem, split)]:
                return found
    likely = next(filter(None, groups), [])
    if len(likely) > 1:
        raise UserError(
            f"dataset.path={likely[0].parent} holds several files like {split!r}: "
            f"{', '.join(path.name for path in likely[:8])}; name one {split}{likely[0].suffix}"
        )
    return likely


def download_files(
    config: HubDatasetConfig, files: Mapping[str, str], *, fetch: bool = True
) -> dict[str, Path]:
    """The hub's files at the revision, from its cache or downloaded.

    Raises NotHereError if they are not cached and `fetch` is false, and UserError within seconds
    if the hub cannot be reached: it is first asked with a short timeout, because a download
    retries for minutes.
    """
    from huggingface_hub import HfApi, hf_hub_download

    cached = {split: _find_cached(config, file) for split, file in files.items()}
    here = {split: path for split, path in cached.items() if path is not None}
    if len(here) == len(files):
        return here
    if not fetch:
        raise NotHereError(f"download {config.id} at {config.revision}")
    revision, kind = config.revision, "dataset"
    with explained(config.id, revision):
        HfApi().repo_info(config.id, repo_type=kind, revision=revision, timeout=SECONDS_TO_ANSWER)
        return {
            split: Path(hf_hub_download(config.id, file, repo_type=kind, revision=revision))
            for split, file in files.items()
        }


@contextmanager
def explained(name: str, revision: str) -> Iterator[None]:
    """A refusal of the hub becomes a UserError that says what to do."""
    try:
        yield
    except refusal_types() as error:
        asked = Repository("dataset", name, revision, like="cais/mmlu")
        raise explain_refusal(asked, error) from error


def _find_cached(config: HubDatasetConfig, file: str) -> Path | None:
    # hf_hub_download with local_files_only asks the hub for a list of files first; this does not.
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(config.id, file, repo_type="dataset", revision=config.revision)
    return Path(found) if isinstance(found, str) else None
