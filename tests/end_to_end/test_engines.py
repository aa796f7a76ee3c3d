"""Runs whose replies a server writes: from the gate to summary.json and the report."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from caft.engines import in_process
from caft.engines import open as open_module
from caft.models.config import Architecture, Dtype, HubModelConfig, TinyModelConfig
from caft.models.generation import GeneratedReply
from caft.models.reply_rules import ReplyRules
from caft.models.sources.locate import locate_model
from caft.models.student import Student
from engines.fake_completions import FakeModelServer
from replies import generate_replies
from served_model import serve
from thinking_families import FAMILIES

TINY = ("model=tiny", "model.dtype=float32", "trainer.accelerator=cpu", "dataset.train=40",
        "dataset.validation=4", "dataset.test=6", "dataset.prompt.shots=2",
        "dataset.max_new_tokens=6")  # fmt: skip
ONE_STAGE = "method.stages=[{targets:{easy:answer,middle:answer,hard:answer},epochs:1}]"


def base_student() -> Student:
    config = TinyModelConfig(name="tiny", id="tiny", dtype=Dtype.float32)
    return Student(config, locate_model(config), "cpu")


def served_from(folder: Path) -> Student:
    """A whole model of a folder, as a server loads it."""
    config = HubModelConfig(name="m", id="m", path=str(folder), dtype=Dtype.float32)
    return Student(config, folder, "cpu")


def ask(address: str, model: str = "base") -> tuple[str, ...]:
    return ("engine=server", f"engine.base_url={address}", f"engine.model={model}")


def test_a_server_writes_what_we_do_and_the_run_says_so(workshop: Any) -> None:
    with FakeModelServer({"base": base_student()}, version="0.33.0") as server:
        words = (*TINY, "method=base", *ask(server.base_url))
        missing = workshop.run(*TINY, "method=base", *ask(server.base_url, "nix"))
        done = workshop.run(*words)
        asked = len(server.bodies)
    # It is not needed again.
    again = workshop.run(*words)
    ours = workshop.run(*TINY, "method=base")
    assert (missing.status, done.status, again.status, ours.status) == (2, 0, 0, 0)
    assert missing.err.count("\n") == 1
    assert "has no 'nix' (it has: base)" in missing.err
    assert asked > 20  # the gate's and all of both splits
    (gate,) = done.summary["engine"]["gates"]
    assert (gate["model"], gate["n"], gate["same_answers"], gate["same_replies"]) == (
        "base", 10, 10, 10
    )  # fmt: skip
    assert (done.summary["engine"]["name"], done.summary["engine"]["version"]) == (
        "server", "0.33.0"
    )  # fmt: skip
    assert ours.summary["engine"] == {
        "name": "own", "version": None, "settings": {}, "writes_answers": False, "gates": []
    }  # fmt: skip
    assert done.summary["accuracy"] == ours.summary["accuracy"]
    assert done.stages == ["score", "gate base", "evaluate base rationale"]
    assert again.cached == done.stages
    assert ours.fingerprint("score") == done.fingerprint("score")
    step = "evaluate base rationale"
    assert ours.fingerprint(step) != done.fingerprint(step)
    line = "Replies were written by server 0.33.0"
    assert line in done.out
    assert line in (done.folder / "report.html").read_text("utf-8")
    assert line not in ours.out


def test_an_engine_below_the_bound_stops_the_run(workshop: Any) -> None:
    other = TinyModelConfig(name="tiny", id="tiny", dtype=Dtype.float32, weights_seed=1)
    with FakeModelServer({"base": Student(other, locate_model(other), "cpu")}) as server:
        words = (*TINY, "method=base", *ask(server.base_url))
        refused = workshop.run(*words)
        allowed = workshop.run(*words, "engine.gate.agreement=0")
    assert refused.status == 2
    assert "engine.gate.agreement is 0.9" in refused.err.splitlines()[-1]
    assert allowed.status == 0
    # Another bound needs no other comparison.
    assert "gate base" in allowed.cached


@pytest.mark.slow
def test_a_tuned_model_is_served_under_the_name_that_its_run_tells(workshop: Any) -> None:
    students = {"base": base_student()}
    with FakeModelServer(students) as server:
        words = (*TINY, ONE_STAGE, *ask(server.base_url))
        early = workshop.run(*words)
        tuned = workshop.run(*words, "tuning.merge=true", "until=tune")
        name = (tuned.folder / "run.log").read_text("utf-8").split("under the name ")[1].split()[0]
        unserved = workshop.run(*words)
        students[name] = served_from(tuned.folder / "merged")
        done = workshop.run(*words)
    assert (early.status, tuned.status, unserved.status, done.status) == (2, 0, 2, 0)
    assert "run the same command with until=tune" in early.err
    assert f"has no {name!r}" in unserved.err
    gates = {gate["model"]: gate for gate in done.summary["engine"]["gates"]}
    assert gates["tuned"]["served"] == name
    assert gates["tuned"]["same_answers"] == gates["tuned"]["n"] == 10


@pytest.mark.slow
def test_an_engine_in_process_writes_for_the_base_model_and_a_local_teacher(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake of vLLM with the tiny model behind it, on a machine without CUDA."""
    student, model = base_student(), base_student().load()

    def write(ids: list[int], limit: int, stop_ids: list[int]) -> list[int]:
        rules = ReplyRules(max_new_tokens=limit, end_ids=tuple(stop_ids), stop_after_marker=False)
        return list(generate_replies(model, student.tokenizer, [ids], rules)[0].ids)

    monkeypatch.setattr(in_process, "check_installed", lambda kind: None)
    monkeypatch.setattr(open_module, "check_installed", lambda kind: None)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "engines" / "fakes"))
    import scripted

    monkeypatch.setattr(scripted, "WRITERS", [write])
    teacher = ("teacher=local_model", f"teacher.path={student.folder}", "teacher.max_tokens=6")
    rationales = ONE_STAGE.replace("answer", "rationale")
    words = (*TINY, *teacher, rationales, "until=distill")
    ours = workshop.run(*words)
    # A local teacher has the machine's own dtype, in which two orders of sums differ.
    theirs = workshop.run(*words, "engine=vllm", "engine.gate.agreement=0")
    loaded, small = len(scripted.LOADED), "max_new_tokens:6,prompt:{shots:2}"
    sets = ",".join(
        f"{{dataset:arithmetic,name:s{n},most_steps:{n},test:4,{small}}}" for n in (3, 4)
    )
    base = workshop.run(*TINY, "method=base", "engine=vllm", f"evaluation.also=[{sets}]")
    assert base.status == 0, base.err
    assert len(scripted.LOADED) == loaded + 1  # one engine writes for all three sets
    assert (ours.status, theirs.status, base.status) == (0, 0, 0)
    gates = [gate for run in (theirs, base) for gate in run.summary["engine"]["gates"]]
    assert [gate["model"] for gate in gates] == ["teacher", "base"]
    assert gates[1]["same_replies"] == gates[1]["n"] == 10
    # Both are in the ledger, each under its own key.
    keys = [{row["ledger_key"] for row in run.rows("rationales")} for run in (ours, theirs)]
    assert keys[0]
    assert len(keys[0]) == len(keys[1])
    assert not keys[0] & keys[1]
    for name in ("vllm", "vllm.lora", "vllm.lora.request", "scripted"):
        sys.modules.pop(name, None)


def say(thinks: bool, short: bool, attempt: int) -> str:
    """A teacher's reply, with the end of its turn; a first attempt is no use."""
    if not attempt:
        return "<think>\nHm." if thinks else "<|im_end|>"
    thought = "<think>\nOne and one.\n</think>\n\n" if thinks else ""
    return f"{thought}{'So' if short else 'Well then'} [[1]].<|im_end|>"


@pytest.fixture
def thinker(tmp_path: Path) -> Path:
    """A tiny model whose template opens a span as Qwen3's does."""
    config = TinyModelConfig(name="tiny", id="tiny", architecture=Architecture.qwen2)
    folder = shutil.copytree(locate_model(config), tmp_path / "thinker")
    (folder / "chat_template.jinja").write_text(FAMILIES[0].template, encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["own", "vllm"])
def test_a_local_teacher_writes_every_kind_of_text(
    workshop: Any, monkeypatch: pytest.MonkeyPatch, thinker: Path, engine: str
) -> None:
    """In scripted words: our generator's at a second attempt, an engine's at the first."""
    tokenizer = served_from(thinker).tokenizer

    def reply(prompt: Sequence[int], attempt: int) -> list[int]:
        asked = tokenizer.decode(prompt)
        thinks, short = not asked.endswith("</think>\n\n"), "shortest" in asked
        return list(tokenizer(say(thinks, short, attempt)).input_ids)

    def stream(*given: Any, samples: Sequence[int], **_: Any) -> Iterator[tuple[int, Any]]:
        _, _, prompts, rules = given
        assert all(bool(each) is rules.sampling.draws for each in samples)
        ids = [reply(prompt, each) for prompt, each in zip(prompts, samples, strict=True)]
        replies = [GeneratedReply(tokenizer.decode(each), tuple(each)) for each in ids]
        return iter(enumerate(replies))

    monkeypatch.setattr("caft.trainers.replies.stream_replies", stream)
    monkeypatch.setattr(in_process, "check_installed", lambda kind: None)
    monkeypatch.setattr(open_module, "check_installed", lambda kind: None)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "engines" / "fakes"))
    import scripted

    monkeypatch.setattr(scripted, "WRITERS", [lambda ids, limit, stop_ids: reply(ids, 1)])
    words = (f"engine={engine}", "model=qwen3_4b", f"model.path={thinker}", "teacher=local_model",
             f"teacher.path={thinker}", "teacher.max_tokens=99", "teacher.keep=all",
             "method.stages=[{targets:{easy:rationale,middle:short_rationale,hard:thinking}}]",
             "until=tune", "dataset.prompt.style=chat")  # fmt: skip
    one_more = ("teacher.attempts=2",) if engine == "own" else ("engine.gate.agreement=0",)
    run = workshop.run(*TINY[1:], *words, *one_more)
    assert run.status == 0, run.err
    kept = [row for row in run.rows("rationales") if not row["refusal"]]
    assert len(kept) == 40
    assert {row["attempt"] for row in kept} == {int(engine == "own")}
    assert {(row["target"], row["text"], row["reasoning"]) for row in kept} == {
        ("rationale", "Well then [[1]]", None),
        ("short_rationale", "So [[1]]", None),
        ("thinking", "Well then [[1]]", "One and one."),
    }
    assert run.summary["method"]["stages"][0]["examples"] == 40
    for name in ("vllm", "vllm.lora", "vllm.lora.request", "scripted"):
        sys.modules.pop(name, None)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_transformers_serve_writes_what_we_do(workshop: Any, tmp_path: Path) -> None:
    folder = base_student().folder
    with serve(folder, tmp_path) as address:
        done = workshop.run(*TINY, "method=base", *ask(address, str(folder)))
    assert done.status == 0
    (gate,) = done.summary["engine"]["gates"]
    assert gate["same_replies"] == gate["n"] == 10
