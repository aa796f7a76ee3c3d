import pytest

from caft.records import Question
from caft.text.config import PromptConfig, SystemTurn
from caft.text.judging import JUDGED, read_judgement, write_judge_prompt


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("It is school stuff. [[high school]]", 1.0),
        ("[[High-School level]]", 1.0),
        ("[[high_school]]", 1.0),
        ("[[high]]", 1.0),
        ("[[undergraduate level]]", 2.0),
        ("[[graduate school level]]", 3.0),
        ("[[undergraduate]]", 2.0),
        ("First [[undergraduate]], no: [[Graduate]]", 3.0),
        ("<think>[[graduate]]</think> [[undergraduate]]", 2.0),
        ("[[Graduate.]]", 3.0),
        ("[[**Graduate**]]", 3.0),
        ('[["undergraduate level".]]', 2.0),
        ("[[Answer: graduate]]", 3.0),
        ("[[undergraduate or graduate]]", None),
        ("graduate", None),
        ("[[PhD]]", None),
        ("", None),
    ],
)
def test_education_levels(reply: str, value: float | None) -> None:
    assert read_judgement(reply, "judge_education") == value


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("[[4]]", 4.0), ("About [[12 steps]]", 12.0), ("[[1 step]]", 1.0), ("[[0]]", 0.0),
        ("[[1000]]", 1000.0), ("[[1001]]", None),
        ("[[4.]]", 4.0), ("[[**4**]]", 4.0), ("[[about 4]]", 4.0), ("[[~4 steps.]]", 4.0),
        ("[[$4$]]", 4.0), ("[[Answer: 4]]", 4.0), ("[[4 reasoning steps]]", 4.0), ("[[3-5]]", None),
        ("[[about]]", None), ("[[steps]]", None), ("[[4 apples]]", None), ("[[]]", None),
        ("[[-1]]", None), ("[[4.5]]", None), ("[[three]]", None), ("4", None),
        ("[[99999999999]]", None), ("[[²]]", None),
    ],
)  # fmt: skip
def test_reasoning_steps(reply: str, value: float | None) -> None:
    assert read_judgement(reply, "judge_steps") == value


def test_the_judge_sees_the_question_and_never_the_gold_answer() -> None:
    question = Question(
        id="q", text="7 or 8?", options=("seven", "eight"), gold_index=1, subject="maths"
    )
    assert set(JUDGED) == {"judge_education", "judge_steps"}
    for name in JUDGED:
        config = PromptConfig(system_turn=SystemTurn.in_user_turn)
        system, user = write_judge_prompt(question, config, name).messages
        assert (system.role, user.role) == ("system", "user")
        assert system.content.startswith("You are shown a question about maths. Do not answer it.")
        assert "double square brackets" in system.content
        assert user.content == "7 or 8?\n\nA. seven\nB. eight"
