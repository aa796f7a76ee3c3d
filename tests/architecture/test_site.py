"""The site: every key is explained, every message is the code's own, nothing asks the network."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import places
import pytest
import reference

from caft.run_config import KINDS, ONE_KIND, RunConfig

ROOT = Path(__file__).parents[2]
MESSAGES = re.findall(r"^```text\n(.*?)\n```", (ROOT / "docs/errors.md").read_text("utf-8"), re.M)


@cache
def written_messages() -> str:
    """Every text of the code, a line each, with … for what is filled in."""
    lines = []
    for file in (ROOT / "src" / "caft").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(part, "value", "") for part in node.values)
                lines.append("".join(part if isinstance(part, str) else "…" for part in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                lines.append(node.value)
    return "\n".join(lines)


def test_there_are_enough_messages() -> None:
    assert len(MESSAGES) >= 15


@pytest.mark.parametrize("message", MESSAGES, ids=lambda text: text[:50])
def test_a_message_of_the_page_is_the_codes_own(message: str) -> None:
    # What one part fills in may end the page's message.
    assert message.removesuffix("…") in written_messages()


def test_every_key_has_a_meaning_and_a_default() -> None:
    schemas = [(group, kind, schema) for group, kinds in KINDS.items()
               for kind, schema in kinds.items()]  # fmt: skip
    schemas += [(group, None, schema) for group, schema in ONE_KIND.items()]
    schemas.append(("run", None, RunConfig))
    found = 0
    for group, kind, schema in schemas:
        files = reference.option_files(group, kind)
        for key in reference.list_keys(schema):
            assert reference.explain(group, key, files), (
                f"{group}.{key.name}: see docs/meanings.yaml"
            )
            found += 1
    assert found > 300


def test_a_description_has_type_default_meaning_and_place() -> None:
    tuning = ONE_KIND["tuning"]
    files = reference.option_files("tuning", None)
    keys = {key.name: key for key in reference.list_keys(tuning)}
    assert reference.describe_key("tuning", keys["learning_rate"], tuning, files) == (
        "`tuning.learning_rate`\n: Number, more than 0, and finite; default `1e-5` (full), `5e-4` "
        "(lora), `2e-4` (qlora). AdamW's learning rate after the warm-up. *Read in* "
        "`pipeline/delivery.py`.\n"
    )


def test_places_are_found_through_annotations() -> None:
    assert "pipeline/run.py" in places.read_places()["RunConfig", "until"]


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_asks_the_network_for_nothing(
    tmp_path: Path,
) -> None:
    words = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(ROOT / "docs")]
    built = subprocess.run([*words, str(tmp_path)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"(?:https?:)?//[^\"]*",
            page.read_text(),
        )
        assert not loaded, page
    assert not [css for css in tmp_path.rglob("*.css") if "url(http" in css.read_text()]
