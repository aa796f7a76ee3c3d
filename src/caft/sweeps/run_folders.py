"""The folders of runs and sweeps: their names, and whether a run may write there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from caft.errors import UserError
from caft.run_config import RunConfig
from caft.store import digest, plain
from caft.sums import SUMS, UNFINISHED, is_finished, read_summary
from caft.teachers.config import PACE_AND_PRICE

_DIGITS_OF_DIGEST = 8
_LONGEST_TITLE = 80
_SUBFOLDER = re.compile(r"\w[^/\\'\"$\x00-\x1f]*")
_LONGEST_NAME = 255
"""Bytes, as file systems count them."""

_FILES = (
    "summary.json",
    "report.html",
    "scores.parquet",
    "predictions.parquet",
    "forgetting.parquet",
    "rationales.parquet",
    "own_rationales.parquet",
    "metrics.csv",
    "run.log",
    SUMS,
)
_FOLDERS = (".hydra", "adapter", "merged")
_LATER = (
    "evaluation.also",
    "dataset.rationale_prefix",
    "dataset.shots_split",
    "dataset.columns.second_answer",
)
"""Where they are not set, a job is the one that it was before there were these settings."""

_OTHER_FOLDER = "give another hydra.run.dir, or hydra.sweep.dir with -m"


def digest_config(config: RunConfig) -> str:
    """20 hexadecimal digits of everything that a run's result depends on."""
    return _digest_values(plain(config))


def _digest_values(values: Mapping[str, object]) -> str:
    """Without the values that change no result: the store's path, the progress bars."""
    kept = {name: value for name, value in values.items() if name != "store"}
    if isinstance(trainer := kept.get("trainer"), dict):
        kept["trainer"] = {key: v for key, v in trainer.items() if key != "progress"}
    for setting in _LATER:
        kept = _without_unset(kept, *setting.split("."))
    return digest(kept)


def _without_unset(values: Mapping[str, object], name: str, *within: str) -> dict[str, object]:
    """The values without the one at the end of this path, if it is null or empty."""
    kept, value = dict(values), values.get(name)
    if within and isinstance(value, dict):
        kept[name] = _without_unset(value, *within)
    elif not within and not value:
        kept.pop(name, None)
    return kept


def changes_nothing(override: str) -> bool:
    """Whether the override is of a value that changes no reply."""
    key, _, _ = override.lstrip("+~").partition("=")
    parts = key.split(".")
    if parts[0] in ("teacher", "score"):
        return parts[-1] in PACE_AND_PRICE
    return parts[0] in ("store", "logger", "report") or key == "trainer.progress"


def name_job(overrides: str, config: RunConfig) -> str:
    """Such as `method=sft,seed=1-0a1b2c3d`. Another config gets another folder."""
    return _name(overrides, digest_config(config))


def name_sweep(title: str, base: object) -> str:
    """The same command finds its folder again; `base` is the config that all its jobs share."""
    return _name(title, _digest_values(plain(base)))


def _name(title: str, digest_of: str) -> str:
    readable = re.sub(r"[^\w.=+,-]+", "_", title).strip("_,")[:_LONGEST_TITLE]
    short = digest_of[:_DIGITS_OF_DIGEST]
    return f"{readable}-{short}" if readable else short


def mark_unfinished(folder: Path) -> None:
    """Called before a run: summary.json alone does not show that a run is finished.

    A run whose page failed, or that was stopped while its logger wrote, has one too.
    """
    mark = folder / UNFINISHED
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def mark_finished(folder: Path) -> None:
    """Called last of all; a mark can be removed even on a full disk."""
    (folder / UNFINISHED).unlink(missing_ok=True)


def refuse_finished_folder(folder: Path) -> None:
    """UserError if a run would write over a finished one."""
    if is_finished(folder):
        raise UserError(f"{folder} holds a finished run; give another output folder, or none")


def refuse_finished_run_for_sweep(folder: Path) -> None:
    """UserError if a sweep's own report would write over a finished run."""
    if (read_summary(folder) or {}).get("kind") != "sweep":
        refuse_finished_folder(folder)


def refuse_bad_subfolder(name: str) -> None:
    """UserError if a job's folder would not be directly below its sweep's, or has a bad name."""
    if not _SUBFOLDER.fullmatch(name) or len(os.fsencode(name)) > _LONGEST_NAME:
        raise UserError(
            f"hydra.sweep.subdir is {name!r}; leave it out, or give the name of one folder that "
            "begins with a letter or a digit and has no slash, quote or dollar sign"
        )


def refuse_unwritable_folder(folder: Path) -> None:
    """UserError if a run cannot write, or would write through a broken link."""
    for path in _written_in(folder):
        if path.is_symlink() and not path.exists():
            raise UserError(
                f"{path} is a link to {os.readlink(path)}, which is not there; remove the link, or "
                f"{_OTHER_FOLDER}"
            )
    wrong = [name for name in _FILES if (folder / name).is_dir()]
    wrong += [name for name in _FOLDERS if (folder / name).is_file()]
    if wrong:
        wanted = "file" if wrong[0] in _FILES else "folder"
        raise UserError(
            f"{folder / wrong[0]} is not a {wanted}, and a run writes one of that name; move it "
            f"away, or {_OTHER_FOLDER}"
        )
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    reason = "" if os.access(nearest, os.W_OK | os.X_OK) else "is not writable"
    if not nearest.is_dir():
        reason = "is a file"
    if reason:
        raise UserError(
            f"the output folder {folder} cannot be made, since {nearest} {reason}; {_OTHER_FOLDER}"
        )


def _written_in(folder: Path) -> Iterator[Path]:
    """Where a run in `folder` will write: the folders on the way, and files of earlier runs."""
    yield from (folder, *folder.absolute().parents)
    yield from (folder / name for name in (*_FILES, *_FOLDERS))
    for name in _FOLDERS:
        if (folder / name).is_dir():
            yield from (folder / name).iterdir()


def job_lock(folder: Path) -> FileLock:
    """The lock of the one process that runs a job; the system frees it when the process ends."""
    return FileLock(folder / ".hydra" / "job.lock")


@contextmanager
def try_lock(folder: Path) -> Iterator[bool]:
    """Hold the job's lock; False where another process has it."""
    lock = job_lock(folder)
    with suppress(Timeout, OSError):
        lock.acquire(timeout=0)
    try:
        yield lock.is_locked
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether some process runs the job, or is just about to."""
    if not Path(job_lock(folder).lock_file).exists():
        return False
    with try_lock(folder) as free:
        return not free


def write_json(path: Path, table: object) -> None:
    """Write the whole file or none: another process may be reading it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(table, indent=1), encoding="utf-8")
    aside.replace(path)
