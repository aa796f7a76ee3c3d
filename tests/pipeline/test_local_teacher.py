"""A local teacher's tokens: what it was asked for, and what it wrote."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from caft.distill.local import name_model
from caft.errors import UserError
from caft.hydra_bridge import compose
from caft.models.config import TinyModelConfig
from caft.models.encoding import encode_prompt
from caft.models.sampling import GREEDY
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
    written = [reply.tokens for prompts in ([first, second], [first])
               for reply in teacher.generate(prompts, ["a", "b"], GREEDY, 0, thinks=False)
               ]  # fmt: skip
    lengths = [len(encode_prompt(each, teacher.student.tokenizer)) for each in (first, second)]
    assert lengths[0] < lengths[1]
    assert teacher.tokens == Tokens(read=2 * lengths[0] + lengths[1], written=sum(written))
    assert len(written) == 3


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
