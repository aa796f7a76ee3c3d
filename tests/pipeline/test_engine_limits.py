"""What engines cannot do is refused where one of them would write it, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from caft.errors import UserError
from caft.hydra_bridge import compose
from caft.pipeline.engine_gate import refuse_beyond_engines

SERVER = ("engine=server", "engine.base_url=http://127.0.0.1:9/v1", "engine.model=m")
LOCAL = ("method=distill", "teacher=local_model", "teacher.path=/m")
DRAWN = "evaluation.sampling.temperature=0.5"
DORA = "tuning.lora.use_dora=true"


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        ((*SERVER, DRAWN), "evaluation.sampling.temperature=0"),
        ((*SERVER, "evaluation.max_thinking_tokens=9"), "evaluation.max_thinking_tokens=null"),
        (("engine=vllm", *LOCAL, "teacher.temperature=0.5"), "teacher.temperature=0"),
        (("engine=vllm", *LOCAL, "teacher.attempts=3"), "teacher.attempts=1"),
        (("engine=vllm", DORA), "tuning.lora.use_dora=false"),
        (("engine=sglang", "tuning=qlora", DORA), "tuning.lora.use_dora=false"),
        (("engine=vllm", "tuning.lora.r=513"), "tuning.lora.r=512"),
    ],
)
def test_what_an_engine_cannot_write_is_refused_and_the_advice_works(
    words: tuple[str, ...], way_out: str
) -> None:
    with pytest.raises(UserError, match=f"needs engine=own.* or {re.escape(way_out)}$"):
        refuse_beyond_engines(compose(["model=tiny", *words]))
    refuse_beyond_engines(compose(["model=tiny", *words, way_out]))


def test_of_an_adapter_to_start_from_its_own_kind_counts(tmp_path: Path) -> None:
    start = ("model=tiny", "engine=vllm", f"tuning.start_from={tmp_path}")
    config = tmp_path / "adapter_config.json"
    config.write_text('{"use_dora": false}')
    refuse_beyond_engines(compose([*start, DORA]))
    config.write_text('{"use_dora": true}')
    with pytest.raises(UserError, match=r"the DoRA adapter of .* or another adapter$"):
        refuse_beyond_engines(compose([*start]))
    config.write_text('{"r": 8, "rank_pattern": {"q_proj": 513}}')
    with pytest.raises(UserError, match=r"the adapter of rank 513 of .* or another adapter$"):
        refuse_beyond_engines(compose([*start]))


@pytest.mark.parametrize(
    "words",
    [
        # Our own generator writes for a local teacher beside a server.
        (*SERVER, *LOCAL, "teacher.temperature=0.5", "teacher.attempts=3"),
        # No evaluation is written.
        ("engine=vllm", *LOCAL, "until=distill", DRAWN),
        (*SERVER, "evaluation.modes=[answer]", DRAWN),
        # A server may have the merged weights; the others write nothing with an adapter of the run.
        (*SERVER, DORA),
        ("engine=vllm", DORA, "until=tune"),
        ("engine=vllm", DORA, "evaluation.modes=[answer]"),
        ("engine=vllm", DORA, "tuning=full"),
        ("engine=vllm", "tuning.lora.r=512"),
        ("engine=sglang", "tuning.lora.r=513"),
    ],
)
def test_what_our_own_generator_writes_is_not_refused(words: tuple[str, ...]) -> None:
    refuse_beyond_engines(compose(["model=tiny", *words]))


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_more_arguments_are_given_as_the_option_says(engine: str) -> None:
    text = (Path(__file__).parents[2] / "conf" / "engine" / f"{engine}.yaml").read_text("utf-8")
    (words,) = re.findall(r"as in (\S+=\S+)\.\n", text)
    name, value = words.removeprefix("+engine.extra.").split("=")
    extra = compose([f"engine={engine}", words]).engine.extra  # type: ignore[attr-defined]
    assert extra == {name: True if value == "true" else value}
