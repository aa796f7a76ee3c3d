"""Bad input, generated: settings, data, replies, model folders, environments; and what a run says.

The same cases everywhere: a test must not fail on one machine only.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf, nextafter
from pathlib import Path
from typing import Any, get_origin
from unittest import mock

import pyarrow
import pyarrow.parquet
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from caft.dials import Range
from caft.models.config import TinyModelConfig
from caft.models.sources.locate import locate_model
from every_dial import ALL_DIALS, Dial
from front_door import call

TINY = (
    "model=tiny", "model.dtype=float32", "trainer.accelerator=cpu", "trainer.progress=false",
    "report.html=false",
)  # fmt: skip
ARITHMETIC = (
    "dataset=arithmetic", "dataset.train=20", "dataset.validation=5", "dataset.test=5",
    "dataset.prompt.shots=2", "dataset.max_new_tokens=8",
)  # fmt: skip
LONGEST = 2000
"""Characters of a refusal."""


@dataclass(frozen=True)
class Case:
    """Words of a command line; `folder` is its current one, empty but for what is bad."""

    name: str
    folder: Path
    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The first word of its name."""
        return self.name.split()[0]


def find_fault(case: Case) -> tuple[int, str]:
    """The exit status, and what is wrong about how the case ended; "" if nothing is."""
    before = os.getcwd()
    os.chdir(case.folder)
    try:
        with mock.patch.dict(os.environ, case.env):
            # A relative store would be in the project.
            kept = (f"store.path={case.folder / 'store'}", "hydra.run.dir=out")
            status, out, said = call([*case.words, *kept])
    except BaseException as error:
        return 1, f"{case.name}: raised {type(error).__name__}: {error}"
    finally:
        os.chdir(before)
    return status, next((f"{case.name}: {fault}" for fault in _faults(case, status, out, said)), "")


def _faults(case: Case, status: int, out: str, said: str) -> Iterator[str]:
    if status not in (0, 2):
        yield f"status {status}: {said[-400:]}"
    if "Traceback" in out + said:
        yield f"a traceback: {said[-400:]}"
    if partial := [
        path.name for path in (case.folder / "store").glob("[!.]*/[!.]*")
        if path.is_dir() and not (path / "manifest.json").exists()
    ]:  # fmt: skip
        yield f"partial artefacts {partial}"
    if status == 2:
        last = said.strip().splitlines()[-1:]
        if not last or not said.endswith(f"{last[0]}\n") or said.count("\n") > 1:
            yield f"not one line: {said[-400:]!r}"
        elif len(last[0]) > LONGEST:
            yield f"{len(last[0])} characters: {last[0][:200]}"
        if (case.folder / "out/summary.json").exists():
            yield "it was refused, and left a summary.json"


def list_cases(number: int, work: Path, url: Callable[[bytes], str]) -> Iterator[Case]:
    """`number` cases of all kinds; `url` is a teacher whose reply has this body."""
    fresh = folders_of(work)
    yield from dial_cases(number * 5 // 10, fresh)
    yield from _environments(max(1, number // 20), fresh)
    yield from _data_cases(number * 25 // 100, fresh)
    yield from _model_cases(number // 10, fresh)
    yield from _reply_cases(number // 10, fresh, url)


def folders_of(work: Path) -> Callable[[], Path]:
    """Makes new folders; each is removed when the next one is made."""
    made = iter(range(10**6))

    def make() -> Path:
        number = next(made)
        shutil.rmtree(work / f"case{number - 1}", ignore_errors=True)
        folder = work / f"case{number}"
        folder.mkdir(parents=True)
        return folder

    return make


# Settings

WORDS = (
    "", "''", "'  '", "null", "nan", "inf", "-inf", "true", "[]", "{}", "[1,a,null]", "{a:{b:1}}",
    "9" * 400, "-1", "0", "1.5", "1e400", "x" * 5000, "'\u202eabc'", "🦜", "'a\\nb'", "${seed}",
    "${nowhere}", "${oc.env:HOME}", "[", "'", "a=b", "a,b", "~", "/", "'\x00'", "\ud800", "??",
)  # fmt: skip


def dial_cases(number: int, fresh: Callable[[], Path]) -> Iterator[Case]:
    """Wrong types, borders, beyond them, empty, null, huge and odd values of any setting."""
    pairs = [(dial, value) for dial in ALL_DIALS for value in (*WORDS, *_borders(dial))]
    dice = random.Random(0)
    for dial, value in dice.sample(pairs, min(number, len(pairs))):
        place = dial.path.removesuffix(".0").replace(".some", ".x")
        word = f"[{value}]" if dial.path.endswith(".0") else value
        # A dry run reads models and data, too.
        until = "dry_run=true" if dice.random() < 0.1 else "until=data"
        base = (*TINY, *ARITHMETIC, *dial.words, until)
        yield Case(
            f"dial {place}={word[:60]!r} {dial.words}", fresh(), (*base, f"++{place}={word}")
        )


def _borders(dial: Dial) -> Iterator[str]:
    for rule in dial.rules:
        if isinstance(rule, Range):
            step = (lambda end, way: end + way) if dial.kind is int else nextafter
            ends = [end for end in (rule.low, rule.high) if abs(end) < inf]
            yield from (str(end) for end in ends)
            yield from (str(step(end, way)) for end in ends for way in (-1, 1))
    if isinstance(dial.kind, type) and issubclass(dial.kind, Enum):
        yield from (each.name for each in dial.kind)
    if get_origin(dial.kind) is dict:
        yield "{a:null}"


def found_cases(fresh: Callable[[], Path]) -> Iterator[Case]:
    """Those that ended with a traceback, or with a refusal of pages, when they were first tried."""
    for word in (
        f"++evaluation.confidence={'9' * 400}",
        f"++teacher.kind={'x' * 5000}",
        f"++evaluation.sampling.min_p={'x' * 5000}",
    ):
        yield Case(f"dial {word[:60]}", fresh(), (*TINY, *ARITHMETIC, "until=data", word))
    for value in ("~nobody-here", "\udcff"):
        words = (*TINY, *ARITHMETIC, "until=score")
        yield Case(f"environment CAFT_CACHE={value!r}", fresh(), words, {"CAFT_CACHE": value})
    yield _model_case(fresh(), "tokenizer_config.json", "model_max_length", {"a": 1})


VARIABLES = (
    "CAFT_CACHE", "HF_HOME", "XDG_CACHE_HOME", "TMPDIR", "OMP_NUM_THREADS", "COLUMNS", "LANG",
    "TERM", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "RANK", "WORLD_SIZE", "LOCAL_RANK",
    "SLURM_PROCID", "CAFT_SWEEP", "TORCHELASTIC_RUN_ID", "OPENAI_API_KEY", "NO_COLOR", "HOME",
)  # fmt: skip


def _environments(number: int, fresh: Callable[[], Path]) -> Iterator[Case]:
    values = (
        "",
        "-1",
        "a file/x",
        "\udcff",
        "🦜",
        "9" * 30,
        "/proc/nothing",
        "~nobody-here",
        "nan",
    )
    pairs = [(name, value) for name in VARIABLES for value in values]
    for name, value in random.Random(1).sample(pairs, min(number, len(pairs))):
        words = (*TINY, *ARITHMETIC, "until=score")
        yield Case(f"environment {name}={value!r}", fresh(), words, {name: value})


# Data, replies, models: drawn by hypothesis

ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["A", "B", "red", " ", "\x00", "\ufeff", "=1+1", "1", "x" * 3000]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
SOUND = st.fixed_dictionaries({
    "id": st.integers(0, 30).map("q{}".format),
    "question": st.text("abc é", min_size=1, max_size=9),
    "options": st.just(["red", "green", "blue"]),
    "answer": st.sampled_from(["A", "B", "C"]),
})  # fmt: skip
COLUMN = st.sampled_from(["id", "question", "options", "answer", "topic", "solution", ""])
LACKING = st.tuples(SOUND, COLUMN).map(
    lambda pair: {name: value for name, value in pair[0].items() if name != pair[1]}
)
ROWS = st.lists(
    SOUND
    | LACKING
    | SOUND.flatmap(lambda row: st.dictionaries(COLUMN, ODD, max_size=3).map(row.__or__)),
    max_size=12,
)
ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")


def draw(strategy: st.SearchStrategy[Any], number: int) -> list[Any]:
    """`number` examples, the same ones everywhere."""
    drawn: list[Any] = []

    @settings(
        max_examples=number, derandomize=True, database=None, deadline=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def note(example: Any) -> None:
        drawn.append(example)

    note()
    return drawn[:number]


def write_rows(form: str, rows: list[dict[str, Any]], encoding: str) -> bytes:
    """A file's content; what cannot be written so is left out."""
    if form == "parquet":
        columns = {name: [row.get(name) for row in rows] for row in rows for name in row}
        made = io.BytesIO()
        try:
            pyarrow.parquet.write_table(pyarrow.table(columns), made)
        except (pyarrow.ArrowException, OverflowError, UnicodeError, ValueError, TypeError):
            return b"PAR1 no table PAR1"
        return made.getvalue()
    if form == "jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    elif form == "json":
        text = json.dumps(rows, ensure_ascii=False)
    else:
        names = list(dict.fromkeys(name for row in rows for name in row))
        lines = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
        text = "\r\n".join(",".join(f'"{cell}"' for cell in line) for line in lines)
    return text.encode(encoding, "replace")


def spoil(content: bytes, how: str, place: float) -> bytes:
    """The file after a mishap at `place`, from 0 to 1."""
    at = int(place * len(content))
    return {
        "cut": content[:at],
        "nul": content[:at] + b"\x00" + content[at:],
        "byte": content[:at] + b"\xff\xfe" + content[at:],
        "twice": content + content,
        "crlf": content.replace(b"\n", b"\r\n"),
        "quote": content[:at] + b'"' + content[at:],
    }.get(how, content)


MISHAPS = st.sampled_from(["", "", "", "cut", "nul", "byte", "twice", "crlf", "quote"])
FORMS = st.sampled_from(["csv", "jsonl", "json", "parquet"])
NAMED = FORMS.map(lambda form: (form, form)) | st.tuples(FORMS, FORMS)
"""What a file is, and what its name says."""
FILES = st.tuples(
    NAMED, ROWS, st.sampled_from(ENCODINGS),
    MISHAPS, st.floats(0, 1),
)  # fmt: skip


def _data_cases(number: int, fresh: Callable[[], Path]) -> Iterator[Case]:
    for index, ((form, named), rows, encoding, mishap, place) in enumerate(draw(FILES, number)):
        folder = fresh()
        (folder / f"q.{named}").write_bytes(spoil(write_rows(form, rows, encoding), mishap, place))
        dataset = "local" if any("options" in row for row in rows) else "text"
        words = (f"dataset={dataset}", f"dataset.train_path=q.{named}", "dataset.max_new_tokens=4")
        name = f"data {index}: {form} as {named}, {encoding}, {mishap}, {str(rows)[:300]}"
        yield Case(name, folder, (*TINY, *words, "until=score"))


BODIES = st.builds(
    lambda odd, name, rest: {**rest, name: odd},
    ODD,
    st.sampled_from(["choices", "usage", "error", "id", "model", "object"]),
    st.just({"choices": [{"index": 0, "message": {"content": "[[1]]"}, "finish_reason": "stop"}]}),
) | st.builds(
    lambda odd, name: {
        "choices": [{"message": {"content": "x"}, "finish_reason": "stop", name: odd}]
    },
    ODD,
    st.sampled_from(["message", "finish_reason", "index"]),
) | ODD  # fmt: skip


REPLIES = st.tuples(BODIES, MISHAPS, st.floats(0, 1))


def _reply_cases(
    number: int, fresh: Callable[[], Path], url: Callable[[bytes], str]
) -> Iterator[Case]:
    for index, (body, mishap, place) in enumerate(draw(REPLIES, number)):
        raw = spoil(json.dumps(body).encode(), mishap, place)
        words = (
            "method=distill", "teacher=openai", "teacher.model=fake", "teacher.retries=0",
            "teacher.keep=all", "teacher.backoff_seconds=0", f"teacher.base_url={url(raw)}",
        )  # fmt: skip
        base = (*TINY, *ARITHMETIC, "dataset.train=6", *words, "until=distill")
        yield Case(f"reply {index}: {raw[:200]!r}", fresh(), base, {"OPENAI_API_KEY": "none"})


MODEL = ("model=smollm2", "model.path=model", *TINY[1:], *ARITHMETIC, "until=score")
CHANGES = st.tuples(st.floats(0, 0.999), ODD, MISHAPS | st.just("gone"), st.floats(0, 1))


def _model_case(folder: Path, name: str, key: str, odd: Any) -> Case:
    """A tiny model whose file `name` has an odd value of `key`."""
    shutil.copytree(locate_model(TinyModelConfig(name="tiny", id="tiny")), folder / "model")
    path = folder / "model" / name
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, key: odd}), encoding="utf-8")
    return Case(f"model {name}, {key}={str(odd)[:200]}", folder, MODEL)


def _model_cases(number: int, fresh: Callable[[], Path]) -> Iterator[Case]:
    sound = locate_model(TinyModelConfig(name="tiny", id="tiny"))
    files = sorted(path for path in sound.iterdir() if path.is_file())
    for index, (which, odd, drawn, place) in enumerate(draw(CHANGES, number)):
        folder, file = fresh(), files[index % len(files)]
        if file.suffix == ".json" and not drawn:
            keys = list(json.loads(file.read_text(encoding="utf-8")))
            yield _model_case(folder, file.name, keys[int(which * len(keys))], odd)
            continue
        mishap = drawn or "cut"
        shutil.copytree(sound, folder / "model")
        path = folder / "model" / file.name
        content = path.read_bytes()
        path.unlink()
        if mishap != "gone":
            path.write_bytes(spoil(content, mishap, place))
        yield Case(f"model {index}: {path.name}, {mishap} {place}", folder, MODEL)
