"""What the parts of the torture count, and where they say what went wrong."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

GOALS = ("lost", "different", "bought_twice_after_arrival", "silently_used")
"""What must be 0."""
COUNTED = ("kills", *GOALS[:3], "bad_inputs", "well_refused", "damaged", "silently_used")


@dataclass
class Tally:
    """Counts of every part, by its name, and one line for each thing that went wrong."""

    parts: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, part: str, what: str, number: int = 1) -> None:
        """Count `number` times `what` in `part`."""
        self.parts.setdefault(part, Counter())[what] += number

    def fail(self, part: str, what: str, line: str) -> None:
        """Count one `what`, which should be 0, and say it at once."""
        self.add(part, what)
        self.wrong.append(f"{part}: {what}: {line}")
        print(self.wrong[-1], file=sys.stderr, flush=True)

    def figures(self, mutation: Path) -> dict[str, int | None]:
        """The JSON object: sums over all parts, and what mutation testing left in `mutation`."""
        total: Counter[str] = sum(self.parts.values(), Counter())
        return {name: total[name] for name in COUNTED} | read_mutants(mutation)

    def table(self) -> str:
        """One line a part."""
        columns = [*COUNTED, *sorted(self._other())]
        lines = [["part", *columns]]
        lines += [
            [part, *(str(counts[name]) if name in counts else "" for name in columns)]
            for part, counts in self.parts.items()
        ]
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            for line in lines
        )

    def _other(self) -> set[str]:
        return {name for counts in self.parts.values() for name in counts} - {*COUNTED}


def read_mutants(path: Path) -> dict[str, int | None]:
    """Counts of `mutmut export-cicd-stats`; None where it has not run. A time-out is a kill.

    Its total has mutants that were never checked, which are left out here.
    """
    if not path.exists():
        return {"mutants": None, "killed": None}
    stats = json.loads(path.read_text(encoding="utf-8"))
    killed = sum(stats[name] for name in ("killed", "timeout", "segfault"))
    alive = sum(stats[name] for name in ("survived", "no_tests", "suspicious"))
    return {"mutants": killed + alive, "killed": killed}
