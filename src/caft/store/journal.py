"""Journals of unfinished stages: rows survive a kill and are read by the next attempt."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from caft.store.checksums import read_line, sign_line
from caft.store.disk import make_durable

log = logging.getLogger(__name__)
_SECONDS_BETWEEN_SYNCS = 1.0


class Journal:
    """Rows of one kind, appended chunk by chunk, one line a chunk: a checksum, and JSON.

    Every writer has a file of its own, so that several processes can write at once and nothing
    is ever appended to the torn last line of a process that was killed. A chunk is with the
    system when `append` returns, and on the disk at most a second's work later.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._file: TextIO | None = None
        self._synced = 0.0
        self._warned: set[str] = set()

    def __getstate__(self) -> dict[str, object]:
        # In another process it opens a file of its own.
        return {**vars(self), "_file": None, "_synced": 0.0}

    def append(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Keep one chunk of rows; numbers come back exactly as they are."""
        if self._file is None:
            self._file = self._open()
        self._file.write(sign_line(json.dumps(list(rows))) + "\n")
        self._file.flush()
        if time.monotonic() - self._synced > _SECONDS_BETWEEN_SYNCS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def read(self) -> list[dict[str, Any]]:
        """Every row of every whole chunk; what is damaged is named and left out."""
        contents: list[str] = []
        for file in self._files():
            try:
                lines = file.read_bytes().split(b"\n")[:-1]
            except OSError as error:
                self._warn(f"{file} cannot be read ({error.strerror})")
                continue
            for number, line in enumerate(lines, start=1):
                if (content := read_line(line)) is None:
                    self._warn(f"line {number} of {file} has another checksum")
                else:
                    contents.append(content)
        return [row for content in contents for row in json.loads(content)]

    def close(self) -> None:
        """Nothing more is appended by this process."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _warn(self, problem: str) -> None:
        # A stage reads its journal before its work and after it.
        if problem not in self._warned:
            log.warning("%s: its rows are made again", problem)
        self._warned.add(problem)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.name}-*.jsonl"))

    def _open(self) -> TextIO:
        number = len(self._files())
        while True:
            path = self.folder / f"{self.name}-{number:04}-{os.getpid()}.jsonl"
            try:
                opened = path.open("x", encoding="utf-8")
            except FileExistsError:
                number += 1
            else:
                make_durable(self.folder)  # or the file's name could be lost, and its lines with it
                return opened
