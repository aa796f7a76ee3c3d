"""Work for a store: a stage that is a key and a function, for tests that need no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caft.store import StageKind


def do_nothing(folder: Path) -> None:
    """For a stage that is only looked for."""


@dataclass(frozen=True)
class SmallStage:
    """A stage in the store's folder `name`."""

    name: str
    key: Mapping[str, Any]
    produce: Callable[[Path], None] = do_nothing
    resumable: bool = False
    scratch: Sequence[str] = ()

    @property
    def kind(self) -> StageKind:
        return StageKind(self.name)

    def read(self, folder: Path) -> dict[str, str]:
        """Every file's text by its name."""
        return {path.name: path.read_text() for path in folder.iterdir()}
