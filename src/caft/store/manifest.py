"""The manifest of an artefact: what it depends on, its effort, and its files.

A manifest is checked like the files that it lists: its last line has the SHA-256 of the others.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from caft.store.checksums import FileSum
from caft.store.disk import write_durably
from caft.store.fingerprint import digest
from caft.store.measure import NO_TOKENS, Tokens

MANIFEST = "manifest.json"
UNFINISHED = ".unfinished-"
"""Before the name of an artefact that is still being made."""


class DamagedError(Exception):
    """The message says which file is wrong and what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`made` is in UTC, `seconds` are those of all attempts, `key` is all that it depends on."""

    stage: str
    fingerprint: str
    made: str
    seconds: float
    peak_memory_bytes: int
    key: Mapping[str, object]
    files: Mapping[str, FileSum]
    # Earlier versions counted none.
    tokens: Tokens = NO_TOKENS

    def __post_init__(self) -> None:
        """TypeError if a file's sums or the numbers are of another kind."""
        for number in (self.seconds, self.peak_memory_bytes, *astuple(self.tokens)):
            if not isinstance(number, int | float) or not math.isfinite(number):
                raise TypeError(f"{number!r} is not a finite number")
        for name, file_sum in self.files.items():
            if not isinstance(file_sum.bytes, int) or not isinstance(file_sum.sha256, str):
                raise TypeError(f"{name} has no sum")
            # A name must not lead out of the target folder when files are copied.
            if ".." in Path(name).parts or Path(name).is_absolute():
                raise TypeError(f"{name} is not a file of this folder")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Into `folder`, whole or not at all."""
    write_durably(folder / MANIFEST, _render(asdict(manifest)))


def read_manifest(folder: Path) -> Manifest:
    """`folder`'s manifest; DamagedError if it is invalid, or that of another artefact.

    OSError if there is none that can be read.
    """
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        table = json.loads(text)
        table.pop("sha256", None)
        files = {name: FileSum(row["bytes"], row["sha256"]) for name, row in table["files"].items()}
        tokens = Tokens(**table.get("tokens", {}))
        manifest = Manifest(**{**table, "files": files, "tokens": tokens})
    except KeyError as error:
        raise DamagedError(f"{MANIFEST} lists no files: an earlier version wrote it") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{MANIFEST} cannot be read") from error
    if text != _render(table):
        raise DamagedError(f"{MANIFEST} has another SHA-256 than when it was written")
    stage, fingerprint = folder.parent.name, folder.name.removeprefix(UNFINISHED)
    if (manifest.stage, manifest.fingerprint) != (stage, fingerprint):
        raise DamagedError(f"{MANIFEST} is that of {manifest.stage}/{manifest.fingerprint}")
    if digest(manifest.key) != fingerprint:
        raise DamagedError(f"{MANIFEST} has another key than its folder's name says")
    return manifest


def _render(table: Mapping[str, object]) -> str:
    body = json.dumps(table, indent=1)
    summed = hashlib.sha256(body.encode()).hexdigest()
    return json.dumps({**table, "sha256": summed}, indent=1)
