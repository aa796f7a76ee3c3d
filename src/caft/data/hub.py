"""Files of a published dataset: from the hub at a pinned revision, or from a copy on this disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from caft.data.config import HubDatasetConfig
from caft.errors import UserError

SECONDS_TO_ANSWER = 4.0


class NotHereError(UserError):
    """The files are not on this machine, and nothing may be fetched."""


def obtain_files(
    config: HubDatasetConfig, files: Mapping[str, str], *, fetch: bool
) -> dict[str, Path]:
    """The files by split; `files` maps splits to paths on the hub, the needed one first.

    Raises UserError where they cannot be had, and NotHereError where only the hub, which is not
    asked unless `fetch`, could give them.
    """
    if config.path:
        return locate_copy(config.path, files)
    return download_files(config, files, fetches=fetch)


def locate_copy(given: str, files: Mapping[str, str]) -> dict[str, Path]:
    """The files of a copy: a folder with a file a split, or one file of the first split's rows."""
    path, needed = Path(given).expanduser(), next(iter(files))
    if not path.is_dir():
        return {needed: path}
    homes = {str(Path(file).parent) for file in files.values()}
    folders = [path, *(path / home for home in sorted(homes))]
    found = {split: file for split in files if (file := _find_split(folders, split))}
    if needed not in found:
        raise UserError(
            f"dataset.path={given} holds no {needed}-*.parquet, .jsonl or .csv, there or in "
            f"{' or '.join(sorted(homes))}/; give the folder of a copy, or one file of its rows"
        )
    return found


def _find_split(folders: list[Path], split: str) -> Path | None:
    files = [
        file
        for ending in ("parquet", "jsonl", "csv")
        for folder in folders
        for file in sorted(folder.glob(f"{split}*.{ending}"))
    ]
    return files[0] if files else None


def download_files(
    config: HubDatasetConfig, files: Mapping[str, str], *, fetches: bool = True
) -> dict[str, Path]:
    """The hub's files at the revision: from its cache where they are there, else downloaded.

    Raises NotHereError where that is not to be, and UserError within seconds where the hub cannot
    be reached. The question comes first, with a short timeout, because a download itself retries
    a dead line for minutes.
    """
    from huggingface_hub import HfApi, hf_hub_download

    # HTTPError is that of the HTTP library the hub client happens to use: dead lines, timeouts
    # and refusals of the hub are all of this class or an OSError.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    cached = {split: _find_cached(config, file) for split, file in files.items()}
    here = {split: path for split, path in cached.items() if path is not None}
    if len(here) == len(files):
        return here
    if not fetches:
        raise NotHereError(f"download {config.id} at {config.revision}")

    def fetch(file: str) -> Path:
        path = hf_hub_download(config.id, file, repo_type="dataset", revision=config.revision)
        return Path(path)

    try:
        HfApi().repo_info(
            config.id,
            repo_type="dataset",
            revision=config.revision,
            timeout=SECONDS_TO_ANSWER,
        )
        return {split: fetch(file) for split, file in files.items()}
    except (OSError, HTTPError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"dataset {config.id} at revision {config.revision} cannot be had from the hub "
            f"({reason.rstrip('.')}); get online, or give a copy: dataset.path=/folder/or/file"
        ) from error


def _find_cached(config: HubDatasetConfig, file: str) -> Path | None:
    # Only this looks at nothing but the disk: a download that is told to stay local asks the hub
    # for a list of its own before it looks.
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(config.id, file, repo_type="dataset", revision=config.revision)
    return Path(found) if isinstance(found, str) else None
