"""What an unfinished stage has finished so far: it survives a kill and is read by the next try."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

_SECONDS_BETWEEN_SYNCS = 1.0


class Journal:
    """Rows of one kind, appended chunk by chunk, one JSON line a chunk.

    Every writer has a file of its own, so that several processes can write at once and nothing
    is ever appended to the torn last line of a process that was killed. A chunk is with the
    system when `append` returns, and on the disk at most a second's work later.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._file: TextIO | None = None
        self._synced = 0.0

    def __getstate__(self) -> dict[str, Any]:
        # Handed to another process, it opens a file of its own there.
        return {"folder": self.folder, "name": self.name, "_file": None, "_synced": 0.0}

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep one chunk of rows; numbers come back exactly as they are."""
        if self._file is None:
            self._file = self._open()
        self._file.write(json.dumps(list(rows)) + "\n")
        self._file.flush()
        if time.monotonic() - self._synced > _SECONDS_BETWEEN_SYNCS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def read(self) -> list[dict[str, Any]]:
        """Every row of every whole chunk."""
        rows: list[dict[str, Any]] = []
        for file in self._files():
            for line in file.read_text(encoding="utf-8").split("\n")[:-1]:
                rows += json.loads(line)
        return rows

    def remove(self) -> None:
        """Forget it all: the stage is finished."""
        if self._file is not None:
            self._file.close()
            self._file = None
        for file in self._files():
            file.unlink()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.name}-*.jsonl"))

    def _open(self) -> TextIO:
        number = len(self._files())
        while True:
            path = self.folder / f"{self.name}-{number:04}-{os.getpid()}.jsonl"
            try:
                return path.open("x", encoding="utf-8")
            except FileExistsError:
                number += 1
