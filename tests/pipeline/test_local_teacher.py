"""A local teacher's tokens: what it was asked for, and what it wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from caft.distill.local import name_model
from caft.errors import UserError
from caft.hydra_bridge import compose
from caft.models import generation
from caft.models.config import TinyModelConfig
from caft.models.encoding import encode_prompt
from caft.models.sampling import GREEDY, Sampling
from caft.models.sources.hub import explain_refusal
from caft.models.sources.locate import locate_model
from caft.pipeline.local_teacher import LocalTeacher
from caft.pipeline.workspace import Workspace
from caft.records import Question
from caft.store import Tokens
from caft.teachers.config import LocalModelTeacherConfig
from caft.text.prompts import Wanted, write_prompt


def test_a_local_teacher_counts_every_prompt_and_every_reply() -> None:
    folder = locate_model(TinyModelConfig(name="tiny", id="tiny"))
    config = compose(
        ["model=tiny", "teacher=local_model", f"teacher.path={folder}", "teacher.max_tokens=4"]
    )
    teacher = LocalTeacher(config)
    assert teacher.tokens == Tokens()
    questions = [Question(id=text, text=text, gold_text="4") for text in ("1 + 3", "2 + 1 + 1")]
    first, second = (
        write_prompt(question, config.dataset.prompt, Wanted.rationale, chat=True)
        for question in questions
    )
    written = [reply.tokens for prompts, names in (([first, second], ["a", "b"]), ([first], ["a"]))
               for reply in teacher.generate(prompts, names, GREEDY, 0, thinks=False)
               ]  # fmt: skip
    lengths = [len(encode_prompt(each, teacher.student.tokenizer)) for each in (first, second)]
    assert lengths[0] < lengths[1]
    assert teacher.tokens == Tokens(read=2 * lengths[0] + lengths[1], written=sum(written))
    assert len(written) == 3


def test_a_local_teacher_writes_fewer_at_once_where_memory_runs_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = locate_model(TinyModelConfig(name="tiny", id="tiny"))
    words = ["model=tiny", "teacher=local_model", f"teacher.path={folder}", "teacher.max_tokens=6"]
    config = compose(words)
    names = [f"{number} + 3" for number in range(8)]
    prompts = [
        write_prompt(Question(id=name, text=name, gold_text="4"), config.dataset.prompt,
                     Wanted.rationale, chat=True)
        for name in names
    ]  # fmt: skip
    drawn = Sampling(temperature=1.0, seed=3)
    usual = LocalTeacher(config).generate(prompts, names, drawn, 1, thinks=False)
    assert len({reply.text for reply in usual}) > 4
    make_cache, tried = generation.make_cache, list[int]()

    def crowded(model: Any, prefix: Any, expected: Any, most: Any, at_once: Any) -> Any:
        at_once(len(expected))
        tried.append(len(expected))
        if len(expected) > 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
        return make_cache(model, prefix, expected, most, at_once)

    monkeypatch.setattr(generation, "make_cache", crowded)
    teacher = LocalTeacher(config)
    for _ in range(2):
        assert teacher.generate(prompts, names, drawn, 1, thinks=False) == usual
    assert tried == [8, 4, 4]


def test_replies_that_do_not_fit_into_the_teachers_context_are_refused_before_scoring(
    open_small: Callable[..., Workspace],
) -> None:
    folder = locate_model(TinyModelConfig(name="tiny", id="tiny"))
    words = ("method=distill", "teacher=local_model", f"teacher.path={folder}")
    with pytest.raises(UserError, match=r"2048; set teacher.max_tokens=\d+ or less") as told:
        open_small(*words, "teacher.max_tokens=2040")
    advised = str(told.value).split("set ")[1].split()[0]
    open_small(*words, advised)


def test_a_hub_that_does_not_answer_is_told_in_the_teachers_own_settings() -> None:
    named = name_model(LocalModelTeacherConfig(name="t", id="org/nix"))
    line = str(explain_refusal(named, OSError("no network")))
    assert "teacher.id=org/nix is not in the local cache" in line
    assert "teacher.path=FOLDER" in line
    assert "model." not in line
