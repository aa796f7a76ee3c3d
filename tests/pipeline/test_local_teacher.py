"""A local teacher's tokens: what it was asked for, and what it wrote."""

from __future__ import annotations

from caft.hydra_bridge import compose
from caft.models.config import TinyModelConfig
from caft.models.encoding import encode_prompt
from caft.models.sampling import GREEDY
from caft.models.sources.locate import locate_model
from caft.pipeline.local_teacher import LocalTeacher
from caft.records import Question
from caft.store import Tokens
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
