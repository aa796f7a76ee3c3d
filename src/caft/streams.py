"""Standard output and error that cannot end a run: closed pipe, full disk, ASCII terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO


class LenientStream:
    """A text stream that discards everything after its first failing write.

    A closed pipe (`| head`) is not reported; any other cause is reported once on the stream
    `other`. Letters that the stream's encoding lacks are written as question marks.
    """

    def __init__(
        self, stream: TextIO, name: str, other: TextIO | LenientStream | None = None
    ) -> None:
        self._stream, self._name, self._other = stream, name, other
        self._lost = False
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As the stream's own, but it raises no OSError."""
        try:
            return 0 if self._lost else int(self._stream.write(text))
        except OSError as error:
            self._lose(error)
            return 0

    def writelines(self, lines: Iterable[str]) -> None:
        """As the stream's own, but it raises no OSError."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """As the stream's own, but it raises no OSError."""
        try:
            if not self._lost:
                self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self._lost = True
        # What is still in the buffer would fail once more when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, self._stream.fileno())
        finally:
            os.close(nowhere)
        if self._other is not None and not isinstance(error, BrokenPipeError):
            print(f"{self._name} is lost from here on: {error.strerror}", file=self._other)


@contextmanager
def lenient_streams() -> Iterator[None]:
    """Inside, nothing that is printed can end the work; at the end all of it has been written."""
    before = sys.stdout, sys.stderr
    # A process may have been started without them.
    if sys.stderr is not None:
        sys.stderr = LenientStream(sys.stderr, "standard error")
    if sys.stdout is not None:
        sys.stdout = LenientStream(sys.stdout, "standard output", sys.stderr)
    lenient = sys.stdout, sys.stderr
    try:
        yield
    finally:
        for stream in lenient:
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before
