"""`Any` switches type checking off: the sources may use it only so often."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "src" / "caft"
MOST_ANY = 150
"""In all of src/; lower it when the count falls."""


def count_any(source: str) -> int:
    return sum(isinstance(n, ast.Name) and n.id == "Any" for n in ast.walk(ast.parse(source)))


def test_any_is_rare() -> None:
    counts = Counter(
        {
            path.relative_to(SOURCES).as_posix(): count_any(path.read_text(encoding="utf-8"))
            for path in SOURCES.rglob("*.py")
        }
    )
    assert counts.total() <= MOST_ANY, counts.most_common(20)


def test_uses_are_counted_and_imports_are_not() -> None:
    assert count_any("from typing import Any\nx: dict[str, Any] = {}\ny: Any = 'Any'") == 2
