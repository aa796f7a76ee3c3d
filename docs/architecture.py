"""Writes docs/architecture.md from the code: `make architecture`.

Rooms and arrows come from the imports, floors from the layers in pyproject.toml, descriptions from
the first line of each docstring. Only the steps below are written by hand. A step names functions
and classes, and this command finds their files: whoever moves one runs the command again, whoever
renames one changes its name here.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import grimp

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "caft"
PAGE = Path(__file__).with_suffix(".md")


class Step(NamedTuple):
    """What happens to a question, the functions and classes that do it, and the result."""

    what: str
    names: tuple[str, ...]
    result: str


STEPS = (
    Step(
        "The overrides of the command line become a typed config.",
        ("hydra_bridge.build_run_config",),
        "RunConfig",
    ),
    Step(
        "Everything that needs no model is checked, and the dataset is read.",
        ("pipeline.open_workspace",),
        "Workspace",
    ),
    Step(
        "A row of the file becomes a question of train, validation or test.",
        ("data.read_table", "data.read_questions", "data.divide"),
        "Question",
    ),
    Step(
        "The question becomes a prompt, and the prompt becomes tokens.",
        ("text.write_prompt", "models.encode_answer_prompt"),
        "Prompt",
    ),
    Step(
        "The model answers with one token; the entropy of that token is the score.",
        ("score.ScoreInputs", "score.ScoringModule", "models.estimate_complexity"),
        "AnswerScore",
    ),
    Step(
        "Other estimators are computed if the split or `score.estimators` asks for them.",
        ("pipeline.gather_estimates",),
        "Scored",
    ),
    Step(
        "Training questions are cut into classes; the same cuts place the held-out ones.",
        ("split.split_questions",),
        "SplitResult",
    ),
    Step(
        "All rows with answer targets are encoded and checked before a teacher is paid.",
        ("pipeline.check_before_teaching",),
        "TrainingRows",
    ),
    Step(
        "The teacher or the student writes a rationale, accepted or refused with a reason.",
        (
            "pipeline.sample_own",
            "pipeline.buy_rationales",
            "distill.write_rationales",
            "teachers.ask_all",
            "distill.judge_reply",
        ),
        "Rationale",
    ),
    Step(
        "Each tuning stage trains the targets that the method's table names for each class.",
        ("tune.choose_pairs", "tune.encode_pair", "tune.TuneInputs", "tune.TuningModule"),
        "Tuned",
    ),
    Step(
        "The base and the tuned model reply in every mode, and the replies are graded.",
        ("evaluate.ReplyInputs", "trainers.ReplyModule", "evaluate.read_reply"),
        "Prediction",
    ),
    Step(
        "Routed mode takes each question's answer from one of the other two modes.",
        ("pipeline.route_tuned_model", "evaluate.route"),
        "Evaluated",
    ),
    Step(
        "All results become `summary.json`; tables, page, adapter and model card are written.",
        (
            "pipeline.build_summary",
            "pipeline.write_outputs",
            "report.render_report",
            "pipeline.deliver",
        ),
        "RunResults",
    ),
)
"""The path of one question. A name is ROOM.NAME."""

INTRODUCTION = """\
# Architecture

`make architecture` writes this page from the code; `docs/architecture.py` has the few parts that
are written by hand.

## The path of one question

From a file to the report, with the files of each step. A dotted line goes to the steps whose files
import the store.
"""

STAGES = """\
- `{run_stages}` calls the stages in this order; the dry run follows the same list of steps, in
  `{list_steps}`.
- Each stage returns a frozen result, which is a class of `{RunResults}`.
- The inputs of a stage are built in `{Workspace}` for the base model and in `{tuned_replies}` for
  the others, for the run, the data check and the dry run alike.
- A stage first looks in the store. Its key there is a hash of all that its result depends on.
"""

ROOMS = """\
## Rooms and imports

A room is a folder of `src/caft/`. An arrow means "imports"; arrows that follow from others are left
out. Imports point only downwards, and rooms on one floor never import each other (`make check`).
"""


def find_definitions() -> dict[str, list[str]]:
    """ROOM.NAME of every function and class at the top of a file -> the files that have it."""
    found: dict[str, list[str]] = {}
    for path in sorted(SOURCES.rglob("*.py")):
        file = path.relative_to(SOURCES)
        room = file.parts[0].removesuffix(".py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                found.setdefault(f"{room}.{node.name}", []).append(file.as_posix())
    return found


def locate(name: str, definitions: dict[str, list[str]]) -> str:
    """The file of ROOM.NAME, or of NAME in whatever room. Ends the command if it is not one."""
    names = [name] if "." in name else [full for full in definitions if full.endswith(f".{name}")]
    files = [file for full in names for file in definitions.get(full, [])]
    if len(files) != 1:
        sys.exit(f"{name} is defined in {files or 'no file'}; correct its name in {__file__}")
    return files[0]


def draw_path(definitions: dict[str, list[str]], graph: grimp.ImportGraph) -> str:
    """The steps as a Mermaid flowchart; a dotted line for each step that imports the store."""
    lines = ["flowchart TD", "  file[(questions)] --> s3", "  store[(store)]"]
    for number, step in enumerate(STEPS, start=1):
        files = [locate(name, definitions) for name in step.names]
        shown = "<br/>".join(dict.fromkeys(files))
        lines.append(f'  s{number}["{number}. {shown}"]')
        if number < len(STEPS):
            lines.append(f"  s{number} -->|{step.result}| s{number + 1}")
        if any(imports_store(file, graph) for file in files):
            lines.append(f"  store -.- s{number}")
    return "\n".join([*lines, f"  s{len(STEPS)} --> report[(the run's folder)]"])


def imports_store(file: str, graph: grimp.ImportGraph) -> bool:
    """Whether a file imports something of the store."""
    module = "caft." + file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    below = graph.find_modules_directly_imported_by(module)
    return any(name.split(".")[:2] == ["caft", "store"] for name in below)


def tabulate_path(definitions: dict[str, list[str]]) -> str:
    """The steps as a table: what happens, where, and the class of the result."""
    lines = ["| step | what happens | function or class | result |", "|---|---|---|---|"]
    for number, step in enumerate(STEPS, start=1):
        places = [f"`{name.split('.')[1]}` in `{locate(name, definitions)}`" for name in step.names]
        result = f"`{step.result}` in `{locate(step.result, definitions)}`"
        lines.append(f"| {number} | {step.what} | {'<br/>'.join(places)} | {result} |")
    return "\n".join(lines)


def read_floors() -> list[list[str]]:
    """The rooms from top to bottom, floor by floor, as import-linter's contract has them."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = config["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [layer.split(" | ") for layer in layers]


def draw_rooms(floors: list[list[str]], graph: grimp.ImportGraph) -> str:
    """Rooms and their imports as a Mermaid flowchart, without arrows that follow from others."""
    rooms = [room for floor in floors for room in floor]
    below = {room: imported_rooms(room, rooms, graph) for room in rooms}
    reached: dict[str, set[str]] = {}
    for room in reversed(rooms):  # lower floors first
        reached[room] = below[room].union(*(reached[other] for other in below[room]))
    lines = ["flowchart TD"]
    for number, floor in enumerate(floors, start=1):
        nodes = "; ".join(map(node, floor))
        lines.append(f'  subgraph floor{number}[" "]\n    {nodes}\n  end')
    for room in rooms:
        direct = below[room]
        implied: set[str] = set().union(*(reached[other] for other in direct))
        arrows = [other for other in rooms if other in direct - implied]
        lines += [f"  {room.strip('_')} --> {other}" for other in arrows]
    return "\n".join(lines)


def node(room: str) -> str:
    """A room in Mermaid, whose names should not begin with an underscore."""
    return f'{room.strip("_")}["{room}"]' if room.startswith("_") else room


def imported_rooms(room: str, rooms: list[str], graph: grimp.ImportGraph) -> set[str]:
    """The rooms that the modules of `room` import."""
    full = f"caft.{room}"
    modules = {full, *graph.find_descendants(full)}
    imported = {name for own in modules for name in graph.find_modules_directly_imported_by(own)}
    return {name.split(".")[1] for name in imported - modules if "." in name} & set(rooms) - {room}


def tabulate_rooms(floors: list[list[str]]) -> str:
    """Every room with the first line of its docstring."""
    lines = ["| floor | room | what it does |", "|---|---|---|"]
    for number, floor in enumerate(floors, start=1):
        lines += [f"| {number} | `{room}` | {describe(room)} |" for room in floor]
    return "\n".join(lines)


def describe(room: str) -> str:
    """The first line of a room's docstring."""
    folder = SOURCES / room
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").splitlines()[0]


def write_page() -> str:
    """The text of docs/architecture.md."""
    definitions, floors = find_definitions(), read_floors()
    graph = grimp.build_graph("caft", cache_dir=None)
    named = ("run_stages", "RunResults", "tuned_replies", "list_steps", "Workspace")
    stages = STAGES.format(**{name: locate(name, definitions) for name in named})
    parts = [
        INTRODUCTION,
        f"```mermaid\n{draw_path(definitions, graph)}\n```\n",
        f"{tabulate_path(definitions)}\n",
        stages,
        ROOMS,
        f"```mermaid\n{draw_rooms(floors, graph)}\n```\n",
        f"{tabulate_rooms(floors)}\n",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
    print(f"{PAGE} is written")
