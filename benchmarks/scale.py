"""Seconds and memory of a run by the number of its questions, without a model.

    python benchmarks/scale.py [--sizes 1000 10000 100000 1000000] [overrides ...]

Every size has a process of its own: a JSONL file of questions with published scores and worked
solutions is read and checked, split, taught (teacher=worked), kept in the store, and reported
together with generated replies of a base and a tuned model in two modes. As many teacher replies
are then claimed, committed and found again in a new ledger. The last line is one JSON object:
`seconds_per_1k` and `cpu_seconds_per_1k` (all stages together), `memory_mb` (the peak of the
process) and `page_mb` (report.html) by size, and `stages` with each stage's seconds, CPU seconds
and the peak up to its end. On a shared machine the CPU seconds are those to compare.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from caft.hydra_bridge import compose
from caft.packed import pack
from caft.pipeline import stages as run
from caft.pipeline.outputs import write_outputs
from caft.pipeline.preflight import check_prompts_and_start, open_workspace
from caft.pipeline.results import Evaluated, ModeReplies, RunResults
from caft.pipeline.workspace import Workspace
from caft.records import Mode, Prediction, Question
from caft.run_config import RunContext
from caft.store import digest
from caft.teachers.ledger import Ledger
from caft.teachers.prices import Caps
from caft.teachers.replies import LedgerEntry, TeacherReply
from caft.trainers.loggers import open_logger
from caft.trainers.tracker import RunIdentity
from processor import describe_processor

SIZES = (1_000, 10_000, 100_000, 1_000_000)
SUBJECTS = 14
AT_ONCE = 500
"""Replies in one transaction of the ledger."""
WORDS = (
    "model=tiny",
    "dataset=local",
    "dataset.columns.subject=subject",
    "dataset.columns.rationale=solution",
    "score=published",
    "method=distill",
    "teacher=worked",
    "evaluation.modes=[answer,rationale]",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
)


@dataclass
class Stages:
    """Wall and CPU seconds of every stage, and the peak of the process's memory (MB) at its end."""

    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    peak_mb: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Measure what is done inside."""
        started, computed = time.perf_counter(), time.process_time()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 2)
        self.cpu_seconds[name] = round(time.process_time() - computed, 2)
        # Linux counts in KiB.
        self.peak_mb[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        told = (self.seconds[name], self.cpu_seconds[name], self.peak_mb[name])
        print("  {:8} {:9.2f} s {:9.2f} s of CPU {:6} MB".format(name, *told), file=sys.stderr)


def main() -> None:
    """Run each size in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--inside", type=Path, help="run one size in this process and folder")
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(run_size(given.inside, given.sizes[0], given.overrides)))
        return
    processor = describe_processor()
    found = {}
    for size in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_file(Path(folder) / "questions.jsonl", size)
            found[str(size)] = run_alone(Path(folder), size, given.overrides)
    figures: dict[str, object] = {
        f"{kind}_per_1k": {
            size: round(sum(one[kind].values()) * 1000 / int(size), 3)
            for size, one in found.items()
        }
        for kind in ("seconds", "cpu_seconds")
    }
    figures |= {
        "memory_mb": {size: max(one["peak_mb"].values()) for size, one in found.items()},
        "page_mb": {size: one["page_mb"] for size, one in found.items()},
        "stages": found,
    }
    print(json.dumps(figures | {"processor": processor}))


def run_alone(folder: Path, size: int, overrides: Sequence[str]) -> dict[str, Any]:
    """One size in a process of its own, whose peak is its own."""
    command = [sys.executable, __file__, "--sizes", str(size), "--inside", str(folder)]
    print(f"{size:,} questions", file=sys.stderr, flush=True)
    done = subprocess.run([*command, *overrides], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def write_file(path: Path, size: int) -> None:
    """`size` different questions of four options, with entropies that tell something."""
    drawn = random.Random(size)
    with path.open("w", encoding="utf-8") as file:
        for number in range(size):
            file.write(json.dumps(make_row(number, drawn)) + "\n")


def make_row(number: int, drawn: random.Random) -> dict[str, object]:
    """One line: about 600 characters, as questions and solutions of exams have them."""
    boxes, apples, eaten = number + 2, drawn.randrange(2, 1000), drawn.randrange(1, 1000)
    total = boxes * apples
    options = [str(total - eaten + step) for step in (0, 1, 10, -1)]
    drawn.shuffle(options)
    entropy = drawn.expovariate(2)
    return {
        "question": f"A market has {boxes} boxes with {apples} apples each. By the evening {eaten} "
        "of all these apples have been eaten by visitors, and nobody has brought any new ones to "
        "the market since the morning. How many apples are left in the boxes at the end?",
        "options": options,
        "answer": str(total - eaten),
        "subject": f"subject {number % SUBJECTS}",
        "solution": f"There are {boxes} times {apples} = {total} apples in the morning. Of these "
        f"{eaten} are eaten, so {total} minus {eaten} = {total - eaten} apples are left.",
        "published_entropy_nats": round(entropy, 6),
        "published_correct": drawn.random() > entropy / 2,
    }


def run_size(folder: Path, size: int, overrides: Sequence[str]) -> dict[str, object]:
    """All stages over the file in `folder`."""
    started, stages = datetime.now(UTC), Stages()
    context = RunContext(folder=folder / "run")
    context.folder.mkdir()
    places = [f"dataset.train_path={folder / 'questions.jsonl'}", f"store.path={folder / 'store'}"]
    config = compose([*WORDS, *places, *overrides])
    with stages.measure("read"):
        workspace = open_workspace(config, context)
    check_prompts_and_start(workspace)
    with stages.measure("score"):
        scored = run.score(workspace)
    with stages.measure("split"):
        split = run.split_scored(workspace, scored)
    with stages.measure("distill"):
        taught = run.teach(workspace, scored, split)
    replies = draw_replies(workspace)
    results = RunResults(scored=scored, split=split, taught=taught, evaluated=replies)
    identity = RunIdentity(
        name="scale", folder=context.folder, run_id="", sweep="", kind="", overrides=(), config={}
    )
    with stages.measure("report"), open_logger(config.logger, identity) as tracker:
        assert write_outputs(workspace, results, tracker, started=started)
    page = (context.folder / "report.html").stat().st_size
    del workspace, scored, split, taught, replies, results
    with stages.measure("ledger"):
        fill_ledger(folder / "ledger.sqlite", size)
    return asdict(stages) | {"page_mb": round(page / 1e6, 2)}


def draw_replies(workspace: Workspace) -> Evaluated:
    """Replies of a base model, and of a tuned one that is right more often, to every question."""
    drawn = random.Random("replies")
    return Evaluated(
        by_model={
            name: ModeReplies(
                **{
                    split: {
                        mode: pack(draw_reply(item, mode, skill, drawn) for item in questions)
                        for mode in (Mode.answer, Mode.rationale)
                    }
                    for split, questions in workspace.questions.parts()
                    if split != "train"
                }
            )
            for name, skill in (("base", 0.5), ("tuned", 0.6))
        }
    )


def draw_reply(question: Question, mode: Mode, skill: float, drawn: random.Random) -> Prediction:
    """A reply that is right with the probability `skill`."""
    right = drawn.random() < skill
    place = (question.gold_index or 0) + (0 if right else drawn.randrange(1, 4))
    letter = "ABCD"[place % 4]
    if mode is Mode.answer:
        text, tokens = letter, 1
    else:
        text, tokens = f"{question.rationale} [[{letter}]]", drawn.randrange(60, 90)
    return Prediction(
        question_id=question.id, text=text, parsed=letter, correct=right, generated_tokens=tokens
    )


def fill_ledger(path: Path, count: int) -> None:
    """Claim, commit and find again `count` replies, `AT_ONCE` in a transaction."""
    with Ledger(path, "benchmark") as ledger:
        for start in range(0, count, AT_ONCE):
            keys = [digest(number) for number in range(start, min(count, start + AT_ONCE))]
            claims = ledger.claim([(key, 0.001) for key in keys], Caps())
            ledger.commit([make_entry(key) for key in claims.taken])
            assert len(ledger.replies(keys)) == len(keys)


def make_entry(key: str) -> LedgerEntry:
    """A paid reply of ordinary length."""
    text = "There are 12 times 30 = 360 apples, and 360 minus 4 = 356 are left. [[356]]"
    reply = TeacherReply(
        key=key, text=text, finish_reason="stop", prompt_tokens=180, completion_tokens=40,
        usd=0.0001, seconds=1.0,
    )  # fmt: skip
    request, endpoint = "{}" * 200, "http://127.0.0.1"
    return LedgerEntry(
        reply=reply, attempt=0, request=request, endpoint=endpoint, usage_estimated=False
    )


if __name__ == "__main__":
    main()
