"""The JSON Schemas of summary.json, for other programs: files of this package.

    python -m caft.report.json_schema    writes them from the typed schemas (`make schema`)

A reader finds them with `importlib.resources.files("caft.report") / "schemas"`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from caft.report.schema import Summary
from caft.report.sweep.schema import SweepSummary

FOLDER = Path(__file__).parent / "schemas"
SCHEMAS: dict[str, Any] = {"run": Summary, "sweep": SweepSummary}
"""What is described, by the kind of summary; the file is `summary.KIND.json`."""


def describe(kind: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of one kind; more keys than it names are allowed."""
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    made = TypeAdapter(SCHEMAS[kind]).json_schema()
    version = made["properties"]["schema"]["const"]
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": f"urn:caft:summary:{kind}:{version}",
        "title": f"summary.json of a {kind}, schema {version}",
        **{key: value for key, value in made.items() if key != "title"},
    }


def write_schemas(folder: Path = FOLDER) -> None:
    """Write a file a kind."""
    folder.mkdir(exist_ok=True)
    for kind in SCHEMAS:
        text = json.dumps(describe(kind), indent=1, sort_keys=True)
        (folder / f"summary.{kind}.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    write_schemas()
