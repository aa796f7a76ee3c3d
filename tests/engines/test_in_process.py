"""The adapters of vLLM and SGLang against fakes of their documented classes; CUDA runs neither."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from caft.engines.config import SglangEngineConfig, VllmEngineConfig
from caft.engines.in_process import InProcessEngine, check_installed
from caft.engines.open import open_engine
from caft.errors import UserError
from caft.models.reply_rules import ReplyRules
from caft.models.student import Student

CONFIGS = {"vllm": VllmEngineConfig, "sglang": SglangEngineConfig}
RULES = ReplyRules(max_new_tokens=60, end_ids=(1, 2))
REPLIES = {
    "ends with a token": ("It is seven.", 2),
    "writes on behind its marker": ("So [[7]] and on and on and on", None),
    "a matrix first": ("Rows [[1, 2], [3, 4]] and > or [[5]] so [[6]]", None),
    "runs to the cap": ("and so on " * 30, None),
}


@pytest.fixture(params=["vllm", "sglang"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def start(kind: str, student: Student, **settings: Any) -> InProcessEngine:
    engine = open_engine(CONFIGS[kind](**settings), student)
    assert isinstance(engine, InProcessEngine)
    return engine


def write_script(fakes: Any, student: Student) -> dict[str, tuple[int, ...]]:
    """Prompts whose replies are written here."""
    prompts = {}
    for number, (name, (text, end)) in enumerate(REPLIES.items()):
        prompts[name] = tuple(student.tokenizer(f"Question {number}").input_ids)
        ids = student.tokenizer(text, add_special_tokens=False).input_ids
        fakes.SCRIPT[prompts[name]] = [*ids, *([end] if end else [])]
    return prompts


def test_replies_end_where_ours_would(fakes: Any, kind: str, student: Student) -> None:
    prompts = write_script(fakes, student)
    engine = start(kind, student)
    assert fakes.LOADED == []
    written = {reply.question_id: reply for reply in engine.write(prompts, RULES)}
    engine.close()
    for name, reply in written.items():
        script = fakes.SCRIPT[prompts[name]]
        assert reply.text == student.tokenizer.decode(
            script[: reply.tokens], skip_special_tokens=True
        )
    texts = {name: reply.text.strip() for name, reply in written.items()}
    assert texts["ends with a token"] == "It is seven."
    assert texts["writes on behind its marker"].rstrip() == "So [[7]]"
    assert texts["a matrix first"] == "Rows [[1, 2], [3, 4]] and > or [[5]]"
    assert written["runs to the cap"].tokens == 60
    # The matrix alone was gone on with.
    assert [len(call["prompts"]) for call in fakes.CALLS] == [4, 1]
    (loaded,) = fakes.LOADED
    assert loaded["model"] == loaded["tokenizer"] == str(student.folder)
    assert loaded["dtype"] == "float32"
    assert (["sglang"] if kind == "sglang" else []) == fakes.STOPPED


def test_an_adapter_is_asked_for_by_its_folder(
    fakes: Any, kind: str, student: Student, tmp_path: Path
) -> None:
    prompts = write_script(fakes, student)
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 12, "rank_pattern": {"q_proj": 20}})
    )
    engine = start(kind, student.after_tuning(tmp_path, "f" * 20))
    list(engine.write(prompts, RULES))
    loaded, call = fakes.LOADED[0], fakes.CALLS[0]
    assert loaded["model"] == str(student.folder)
    if kind == "vllm":
        assert loaded["max_lora_rank"] == 32
        assert call["lora"].lora_path == str(tmp_path)
    else:
        assert loaded["lora_paths"] == {"tuned": str(tmp_path)}
        assert call["lora"] == ["tuned"] * 4


def test_whole_tuned_weights_are_loaded_with_the_base_models_tokenizer(
    fakes: Any, kind: str, student: Student, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    prompts = write_script(fakes, student)
    list(start(kind, student.after_tuning(tmp_path, "f" * 20)).write(prompts, RULES))
    assert fakes.LOADED[0]["model"] == str(tmp_path)
    assert fakes.LOADED[0]["tokenizer"] == str(student.folder)


def test_an_engine_finds_the_memory_that_stages_before_it_had(
    fakes: Any, kind: str, student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: loaded.append(len(fakes.LOADED)))
    list(start(kind, student).write(write_script(fakes, student), RULES))
    assert loaded == [0]
    assert len(fakes.LOADED) == 1


def test_an_engine_that_cannot_load_is_one_line(fakes: Any, student: Student) -> None:
    prompts = write_script(fakes, student)
    engine = start("vllm", student, extra={"max_model_len": 1})
    with pytest.raises(UserError, match=r"cannot load tiny \(max_model_len is too small\); set"):
        list(engine.write(prompts, RULES))


CONTEXT = {"vllm": "max_model_len", "sglang": "context_length"}


def test_a_reply_that_the_engine_cut_is_one_line_and_the_others_are_kept(
    fakes: Any, kind: str, student: Student
) -> None:
    prompts = write_script(fakes, student)
    room = max(map(len, prompts.values())) + 30
    engine = start(kind, student, extra={CONTEXT[kind]: room})
    written: list[str] = []
    message = rf"runs to the cap: engine={kind} cut .* of the 60 .*\.{CONTEXT[kind]}, "
    with pytest.raises(UserError, match=message):
        written.extend(reply.question_id for reply in engine.write(prompts, RULES))
    assert sorted(written) == sorted(set(REPLIES) - {"runs to the cap"})


def test_a_prompt_that_the_engine_refuses_is_one_line(
    fakes: Any, kind: str, student: Student
) -> None:
    engine = start(kind, student, extra={CONTEXT[kind]: 3})
    with pytest.raises(
        UserError,
        match=rf"engine={kind} cannot write \(.* length\); raise .*{CONTEXT[kind]}, or use",
    ):
        list(engine.write(write_script(fakes, student), RULES))


def test_an_engine_that_refuses_anything_else_is_not_told_to_be_short_of_context(
    fakes: Any, kind: str, student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("no such adapters\nand a trace")

    engine = start(kind, student)
    monkeypatch.setattr(engine, "_complete", refuse)
    with pytest.raises(
        UserError, match=rf"^engine={kind} cannot write \(no such adapters\); use engine=own$"
    ):
        list(engine.write(write_script(fakes, student), RULES))


def test_a_context_that_is_set_too_short_is_refused_before_anything_is_loaded(
    kind: str, student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caft.engines.in_process.check_installed", lambda _kind: None)
    engine = start(kind, student, extra={CONTEXT[kind]: 99})
    with pytest.raises(
        UserError, match=rf"engine\.extra\.{CONTEXT[kind]} is 99, .* has 100 tokens"
    ):
        engine.check((1, 2), 100)
    engine.check((1, 2), 99)


def test_version_and_extra_arguments_are_in_the_key(kind: str, student: Student) -> None:
    keys = [start(kind, student, extra=extra).key for extra in ({}, {"max_model_len": 9})]
    assert keys[0] != keys[1]
    assert keys[0]["engine"] == kind
    assert "version" in keys[0]
    assert start(kind, student, memory_share=0.3).key == keys[0]


SETTINGS = {
    "dtype": "model.dtype",
    "trust_remote_code": "model.trust_remote_code",
    "gpu_memory_utilization": "engine.memory_share",
    "mem_fraction_static": "engine.memory_share",
}


def test_what_we_pass_is_ours_or_gives_way_to_the_users_own(
    kind: str, student: Student, tmp_path: Path
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8}))
    package = SimpleNamespace(LLM=dict, Engine=dict)

    def passed(**settings: Any) -> Any:
        return start(kind, student.after_tuning(tmp_path, "f" * 20), **settings)._start(package)

    theirs = {"enable_prefix_caching": False, "generation_config": "auto", "max_model_len": 9}
    for name in passed().keys() - theirs:
        way = f" and set {SETTINGS[name]}" if name in SETTINGS else ""
        with pytest.raises(UserError, match=rf"extra sets {name}, .*; leave it out{way}$"):
            CONFIGS[kind](extra={name: "x"})
    assert theirs.items() <= passed(extra=theirs).items()


def test_a_package_that_is_missing_is_named_with_its_command(kind: str) -> None:
    if find_spec(kind) is not None:
        pytest.skip(f"{kind} is installed")
    with pytest.raises(UserError, match=rf"pip install '{kind}<1,>="):
        check_installed(kind)


def test_without_cuda_it_is_refused(fakes: Any, kind: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(UserError, match=f"engine={kind} needs CUDA"):
        check_installed(kind)
