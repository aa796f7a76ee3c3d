"""Any stage goes through the store the same way: found, made once, read as what it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from caft.store import Stage, StageKind, Store
from small_stage import SmallStage


@dataclass(frozen=True)
class Sum:
    """A stage with a result of its own type, and a field that is not in its key."""

    numbers: tuple[int, ...]
    title: str = ""

    kind: ClassVar[StageKind] = StageKind.judge
    resumable: ClassVar[bool] = False
    scratch: ClassVar[tuple[str, ...]] = ()

    @property
    def key(self) -> dict[str, object]:
        return {"numbers": self.numbers}

    def produce(self, folder: Path) -> None:
        (folder / "sum").write_text(str(sum(self.numbers)))

    @staticmethod
    def read(folder: Path) -> int:
        return int((folder / "sum").read_text())


def take(store: Store, stage: Stage[int]) -> int:
    return stage.read(store.obtain(stage).folder)


def test_a_stage_is_found_once_it_was_made(tmp_path: Path) -> None:
    store, stage = Store(tmp_path), Sum((1, 2, 3))
    assert store.find(stage) is None
    assert take(store, stage) == 6
    found = store.find(Sum((1, 2, 3), title="another title"))
    assert found is not None
    assert found.cached
    assert store.find(Sum((3, 2, 1))) is None


@pytest.mark.parametrize("kind", StageKind)
def test_every_kind_has_a_folder_of_its_own(tmp_path: Path, kind: StageKind) -> None:
    made = Store(tmp_path).obtain(SmallStage(kind.value, {"a": 1}))
    assert made.stage == made.folder.parent.name == kind.value
    assert len(list(StageKind)) == len({each.value for each in StageKind})


@pytest.mark.parametrize(("resumable", "left"), [(True, {"half"}), (False, set())])
def test_only_a_resumable_stage_goes_on_from_an_interrupted_attempt(
    tmp_path: Path, resumable: bool, left: set[str]
) -> None:
    store = Store(tmp_path)
    seen: list[set[str]] = []

    def stop(folder: Path) -> None:
        (folder / "half").write_text("half")
        (folder / "other").write_text("other")
        raise KeyboardInterrupt

    def look(folder: Path) -> None:
        seen.append({path.name for path in folder.glob("[!.]*")})

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        store.obtain(SmallStage("tune", {}, stop, resumable=resumable, scratch=("half",)))
    store.obtain(SmallStage("tune", {}, look, resumable=resumable, scratch=("half",)))
    assert seen == [left]
