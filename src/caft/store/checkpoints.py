"""Checkpoints of unfinished work: each whole or not there, and a damaged one is recognised.

A checkpoint is a folder with the state and its SHA-256, written under another name, made durable
and renamed. The newest two are kept: where one is damaged, work resumes from the one before.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from caft.errors import UserError
from caft.store.checksums import sum_file
from caft.store.disk import is_there, make_all_durable, make_durable, make_folder, remove

log = logging.getLogger(__name__)
_STATE = "state"
_SUM = "sha256"
_NAME = re.compile(r"step-([0-9]{9,})")
_KEPT = 2


class Checkpoints:
    """The checkpoints of one piece of work, by the number of steps that it had done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, write: Callable[[BinaryIO], None]) -> None:
        """Keep what `write` puts into a stream as the checkpoint of `step`.

        UserError if it cannot be written (disk full); the ones before stay as they were.
        """
        fresh = self.folder / f".writing-{step:09d}"
        try:
            remove(fresh)
            make_folder(fresh)
            _write_state(fresh, write)
            make_all_durable(fresh)
            fresh.rename(self._folder_of(step))
            make_durable(self.folder)
        except OSError as error:
            with suppress(OSError):
                remove(fresh)
            raise UserError(self._explain(step, error)) from error
        for old in self.steps()[:-_KEPT]:
            remove(self._folder_of(old))

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order, damaged ones too; no other names."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob("step-*"))
        return sorted(int(name[1]) for name in names if name)

    def newest(self) -> Path | None:
        """The state of the newest sound checkpoint; damaged ones are named and removed."""
        for step in reversed(self.steps()):
            folder = self._folder_of(step)
            if _is_sound(folder):
                return folder / _STATE
            log.warning(
                "the checkpoint %s is damaged (its SHA-256 is another one): it is skipped, and "
                "work resumes from the one before",
                folder,
            )
            remove(folder)
        if is_there(self.folder) and not self.folder.is_dir():
            log.warning("%s is damaged: it is not a folder; work begins again", self.folder)
            remove(self.folder)
        return None

    def _folder_of(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}"

    def _explain(self, step: int, error: OSError) -> str:
        steps = self.steps()
        last = f"the last good checkpoint is that of step {steps[-1]}" if steps else ""
        return (
            f"the checkpoint of step {step} cannot be written to {self.folder}: "
            f"{error.strerror or error}; {last or 'there is no checkpoint yet'}: make room there, "
            "or move the store and set store.path, and run the same command again"
        )


def _write_state(folder: Path, write: Callable[[BinaryIO], None]) -> None:
    with (folder / _STATE).open("wb") as stream:
        guarded = _Guarded(stream)
        try:
            write(guarded)  # type: ignore[arg-type]
        except Exception as error:
            # Writers raise exceptions of their own in place of the disk's.
            raise (guarded.problem or error) from error
    (folder / _SUM).write_text(sum_file(folder / _STATE).sha256, encoding="utf-8")


class _Guarded:
    """A stream that keeps the error of the disk."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.problem: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.stream.write(data)
        except OSError as error:
            self.problem = error
            raise

    def flush(self) -> None:
        self.stream.flush()


def _is_sound(folder: Path) -> bool:
    try:
        expected = (folder / _SUM).read_text(encoding="utf-8")
        return expected == sum_file(folder / _STATE).sha256
    except (OSError, UnicodeDecodeError):
        return False
