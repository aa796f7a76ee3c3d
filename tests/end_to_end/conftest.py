"""The main job inside the test process: words of a command line in, a finished run folder out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from caft.estimators import ESTIMATORS
from caft.report.json_schema import describe
from front_door import ARITHMETIC, TINY, call

# Two stages of one epoch, as complexity_aware_paper has them but shorter.
TWO_STAGES = (
    "method.stages=[{targets:{easy:answer,middle:answer},epochs:1},"
    "{targets:{hard:rationale},epochs:1}]"
)
ONE_STAGE = "method.stages=[{targets:{easy:answer,middle:answer,hard:answer},epochs:1}]"


@dataclass(frozen=True)
class Finished:
    """A job that has ended: its exit status, its folder and what it printed."""

    status: int
    folder: Path
    out: str
    err: str

    @cached_property
    def summary(self) -> dict[str, Any]:
        found = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        jsonschema.validate(found, describe("sweep" if "kind" in found else "run"))
        return found

    @property
    def stages(self) -> list[str]:
        return [stage["name"] for stage in self.summary["stages"]]

    @property
    def cached(self) -> list[str]:
        return [stage["name"] for stage in self.summary["stages"] if stage["cached"]]

    def fingerprint(self, stage: str) -> str:
        return next(row["fingerprint"] for row in self.summary["stages"] if row["name"] == stage)

    def rows(self, table: str) -> list[dict[str, Any]]:
        import pyarrow.parquet as pq

        return pq.read_table(self.folder / f"{table}.parquet").to_pylist()

    def columns(self) -> dict[str, set[str]]:
        """What each table file has, but for the estimates."""
        import pyarrow.parquet as pq

        tables = self.folder.glob("*.parquet")
        return {path.name: {*pq.read_schema(path).names} - {*ESTIMATORS} for path in tables}


class Workshop:
    """A folder in which runs share a store; every run gets a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"
        self._runs = 0

    def run(self, *words: str) -> Finished:
        self._runs += 1
        folder = self.folder / f"run{self._runs}"
        sweep = "-m" in words
        where = f"hydra.{'sweep' if sweep else 'run'}.dir={folder}"
        status, out, err = call([*self._shared(words), where, *words])
        return Finished(status, folder, out, err)

    def _shared(self, words: Sequence[str]) -> list[str]:
        named = any(word.startswith("store.path=") for word in words)
        return [] if named else [f"store.path={self.store}"]

    def made(self) -> list[str]:
        """Everything that the store holds, as stage/fingerprint."""
        manifests = self.store.glob("*/*/manifest.json")
        return sorted(f"{path.parts[-3]}/{path.parts[-2]}" for path in manifests)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tiny models are made once a session, in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        yield


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """One store for the whole session: runs that start alike share their stages."""
    return Workshop(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


@pytest.fixture(scope="session")
def whole_run(shared: Workshop) -> Finished:
    """complexity_aware on arithmetic with the Llama class, from questions to report."""
    return shared.run(*ARITHMETIC, TWO_STAGES)


@pytest.fixture(scope="session")
def promised() -> dict[str, set[str]]:
    """The columns of every file that docs/explanation/report.md names, which promises.md keeps."""
    page = Path(__file__).parents[2] / "docs/explanation/report.md"
    lines = page.read_text("utf-8").splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("| `")]
    found = {
        name.strip("/"): {*re.findall(r"`(\w+)`", columns)}
        for names, _, columns in rows
        for name in re.findall("`(.*?)`", names)
    }
    found["forgetting.parquet"] |= found["predictions.parquet"]
    return found


@dataclass(frozen=True)
class Small:
    """Words for runs of a few seconds, and methods of one epoch a stage."""

    tiny: tuple[str, ...] = TINY
    words: tuple[str, ...] = ARITHMETIC
    two_stages: str = TWO_STAGES
    one_stage: str = ONE_STAGE


@pytest.fixture(scope="session")
def small() -> Small:
    return Small()
