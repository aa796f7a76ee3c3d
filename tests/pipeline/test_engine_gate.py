"""What only our own generator does is refused where another engine would have to do it."""

from __future__ import annotations

import pytest

from caft.errors import UserError
from caft.hydra_bridge import compose
from caft.pipeline.engine_gate import refuse_beyond_engines

SERVER = ("engine=server", "engine.base_url=http://127.0.0.1:1/v1", "engine.model=m")
LOCAL = ("engine=vllm", "teacher=local_model", "until=distill", "method=distill")
DRAWN = "evaluation.sampling.temperature=0.6"


@pytest.mark.parametrize(
    ("words", "refused", "instead"),
    [
        ((*SERVER, DRAWN), DRAWN, "evaluation.sampling.temperature=0"),
        ((*SERVER, "evaluation.max_thinking_tokens=5"), "evaluation.max_thinking_tokens=5", "null"),
        ((*LOCAL, "teacher.temperature=0.6"), "teacher.temperature=0.6", "teacher.temperature=0"),
        # The first attempt is greedy, and later ones are drawn.
        ((*LOCAL, "teacher.attempts=3"), "teacher.attempts=3", "teacher.attempts=1"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(
    words: tuple[str, ...], refused: str, instead: str
) -> None:
    with pytest.raises(UserError, match=f"^{refused} needs engine=own.*{instead}$"):
        refuse_beyond_engines(compose(list(words)))


@pytest.mark.parametrize(
    "words",
    [
        # Our own generator writes for the teacher.
        (*SERVER, "teacher=local_model", "teacher.attempts=3", "teacher.temperature=0.6"),
        # Nothing of it is reached.
        (*LOCAL, DRAWN),
        (*SERVER, DRAWN, "until=tune"),
    ],
)
def test_what_an_engine_need_not_do_is_allowed(words: tuple[str, ...]) -> None:
    refuse_beyond_engines(compose(list(words)))
