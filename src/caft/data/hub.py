"""Files of a published dataset: from the hub at a pinned revision, or from a copy on this disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from caft.data.config import HubDatasetConfig
from caft.data.files import Table, read_table, refuse_missing_columns
from caft.errors import UserError

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
        paths = download_files(config, files, fetch=fetch)
    tables = {split: read_table(str(path), "dataset.path") for split, path in paths.items()}
    for table in tables.values():
        refuse_missing_columns(table, {f"{config.id}'s column {name}": name for name in columns})
    return tables


def locate_copy(given: str, files: Mapping[str, str]) -> dict[str, Path]:
    """The files of a copy: a folder with one file a split, or one file for the first split."""
    path, needed = Path(given).expanduser(), next(iter(files))
    if not path.is_dir():
        return {needed: path}
    homes = sorted({str(Path(file).parent) for file in files.values()})
    folders = [path, *(path / home for home in homes)]
    found = {split: file for split in files if (file := _find_split(folders, split))}
    if needed not in found:
        raise UserError(
            f"dataset.path={given} holds no {needed}-*.parquet, .jsonl or .csv, there or in "
            f"{' or '.join(homes)}/; give the folder of a copy, or one file of its rows"
        )
    return found


def _find_split(folders: list[Path], split: str) -> Path | None:
    for ending in ("parquet", "jsonl", "csv"):
        for folder in folders:
            if files := sorted(folder.glob(f"{split}*.{ending}")):
                return files[0]
    return None


def download_files(
    config: HubDatasetConfig, files: Mapping[str, str], *, fetch: bool = True
) -> dict[str, Path]:
    """The hub's files at the revision, from its cache or downloaded.

    Raises NotHereError if they are not cached and `fetch` is false, and UserError within seconds
    if the hub cannot be reached: it is first asked with a short timeout, because a download
    retries for minutes.
    """
    from huggingface_hub import HfApi, hf_hub_download

    # The class of the HTTP library that the hub client uses: timeouts, lost connections and
    # refusals are of this class or an OSError.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    cached = {split: _find_cached(config, file) for split, file in files.items()}
    here = {split: path for split, path in cached.items() if path is not None}
    if len(here) == len(files):
        return here
    if not fetch:
        raise NotHereError(f"download {config.id} at {config.revision}")
    revision, kind = config.revision, "dataset"
    try:
        HfApi().repo_info(config.id, repo_type=kind, revision=revision, timeout=SECONDS_TO_ANSWER)
        return {
            split: Path(hf_hub_download(config.id, file, repo_type=kind, revision=revision))
            for split, file in files.items()
        }
    except (OSError, HTTPError) as error:
        raise explain_unreachable(config.id, config.revision, error) from error


def explain_unreachable(name: str, revision: str, error: Exception) -> UserError:
    """What failed on the way to the hub, and what to do."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(
        f"dataset {name} at revision {revision} cannot be loaded from the hub "
        f"({reason.rstrip('.')}); get online, or give a copy: dataset.path=/folder/or/file"
    )


def _find_cached(config: HubDatasetConfig, file: str) -> Path | None:
    # hf_hub_download with local_files_only asks the hub for a list of files first; this does not.
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(config.id, file, repo_type="dataset", revision=config.revision)
    return Path(found) if isinstance(found, str) else None
