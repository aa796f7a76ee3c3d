"""An artefact's own description of itself: what it depends on, what it took, what it consists of.

A manifest is checked like the files that it lists: its last line has the SHA-256 of the others.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from caft.store.durable import write_durably
from caft.store.fingerprint import digest
from caft.store.sums import FileSum, read_sums

MANIFEST = "manifest.json"


class DamagedError(Exception):
    """The message tells which file is wrong and what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`made` is in UTC, `seconds` are those of all attempts, `key` is all that it depends on."""

    stage: str
    fingerprint: str
    made: str
    seconds: float
    peak_memory_bytes: int
    key: Mapping[str, Any]
    files: Mapping[str, FileSum]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Into `folder`, whole or not at all."""
    write_durably(folder / MANIFEST, _render(asdict(manifest)))


def read_manifest(folder: Path, stage: str, fingerprint: str) -> Manifest:
    """`folder`'s manifest; DamagedError where it is none, or that of another artefact."""
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        table = json.loads(text)
        table.pop("sha256", None)
        manifest = Manifest(**{**table, "files": read_sums(table["files"])})
        _check_numbers(manifest)
    except PermissionError:
        raise
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else str(error.strerror)
        raise DamagedError(f"{MANIFEST} {reason}") from error
    except KeyError as error:
        raise DamagedError(f"{MANIFEST} lists no files: an earlier version wrote it") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{MANIFEST} cannot be read") from error
    if text != _render(table):
        raise DamagedError(f"{MANIFEST} has another SHA-256 than when it was written")
    if (manifest.stage, manifest.fingerprint) != (stage, fingerprint):
        raise DamagedError(f"{MANIFEST} is that of {manifest.stage}/{manifest.fingerprint}")
    if digest(manifest.key) != fingerprint:
        raise DamagedError(f"{MANIFEST} has another key than its folder's name says")
    return manifest


def _check_numbers(manifest: Manifest) -> None:
    """TypeError where they are none that can be added up and printed."""
    for number in (manifest.seconds, manifest.peak_memory_bytes):
        if not isinstance(number, int | float) or not math.isfinite(number):
            raise TypeError(f"{number!r} is no finite number")


def _render(table: Mapping[str, Any]) -> str:
    body = json.dumps(table, indent=1)
    summed = hashlib.sha256(body.encode()).hexdigest()
    return json.dumps({**table, "sha256": summed}, indent=1)
