"""Files of a published dataset: from the hub at a pinned revision, or from a copy on this disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from caft.data.config import HubDatasetConfig
from caft.errors import UserError

SECONDS_TO_ANSWER = 4.0


def obtain_files(config: HubDatasetConfig, files: Mapping[str, str]) -> dict[str, Path]:
    """The files by split; `files` maps splits to paths on the hub, the needed one first.

    Raises UserError where they cannot be had.
    """
    return locate_copy(config.path, files) if config.path else download_files(config, files)


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


def download_files(config: HubDatasetConfig, files: Mapping[str, str]) -> dict[str, Path]:
    """The hub's files at the revision: from its cache where they are there, else downloaded.

    Raises UserError within seconds where the hub cannot be reached. The question comes first,
    with a short timeout, because a download itself retries a dead line for minutes.
    """
    from huggingface_hub import HfApi, hf_hub_download

    # HTTPError is that of the HTTP library the hub client happens to use: dead lines, timeouts
    # and refusals of the hub are all of this class or an OSError.
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HTTPError,
        LocalEntryNotFoundError,
    )

    def fetch(file: str, *, cached: bool) -> Path:
        return Path(
            hf_hub_download(
                config.id,
                file,
                repo_type="dataset",
                revision=config.revision,
                local_files_only=cached,
            )
        )

    try:
        return {split: fetch(file, cached=True) for split, file in files.items()}
    except LocalEntryNotFoundError:
        pass  # not on this machine yet
    try:
        HfApi().repo_info(
            config.id,
            repo_type="dataset",
            revision=config.revision,
            timeout=SECONDS_TO_ANSWER,
        )
        return {split: fetch(file, cached=False) for split, file in files.items()}
    except (OSError, HTTPError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"dataset {config.id} at revision {config.revision} cannot be had from the hub "
            f"({reason.rstrip('.')}); get online, or give a copy: dataset.path=/folder/or/file"
        ) from error
