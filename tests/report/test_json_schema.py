"""The JSON Schemas in the wheel are those of the code, and what is written has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from caft.report.json_schema import FOLDER, SCHEMAS, describe
from caft.report.sweep.summary import analyse_sweep

ROOT = Path(__file__).parents[2]


def read(kind: str) -> Any:
    return json.loads((FOLDER / f"summary.{kind}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_files_are_current(kind: str) -> None:
    assert read(kind) == describe(kind), "run make schema"
    jsonschema.Draft202012Validator.check_schema(read(kind))
    assert read(kind)["$id"].endswith(f":{kind}:1")


def test_summaries_have_their_schema_and_readers_may_find_more_keys(
    sample: Any, finished_sweep: Any
) -> None:
    written = json.loads((ROOT / "notebooks/sample/run/summary.json").read_text(encoding="utf-8"))
    for summary in (written, json.loads(json.dumps(sample.summary))):
        jsonschema.validate(summary, read("run"))
        jsonschema.validate({**summary, "more": 1}, read("run"))
    found = analyse_sweep(finished_sweep, "2026-11-27T00:00:00+00:00").summary
    jsonschema.validate(json.loads(json.dumps(found)), read("sweep"))


@pytest.mark.parametrize(
    ("place", "value"),
    [("schema", 2), ("run", None), ("cost", {}), ("stages", [{"name": "score"}])],
)
def test_a_wrong_summary_has_not(sample: Any, place: str, value: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**sample.summary, place: value}, read("run"))
