"""The paper's numbers (section 2), read off the composed configs."""

from __future__ import annotations

from typing import Any

import pytest

from caft.hydra_bridge import compose
from caft.records import Target
from caft.run_config import RunConfig
from caft.teachers.config import Keep
from caft.tune.config import Adapter, AnswerTarget, Schedule

V2_STAGES = [({"easy": "answer", "middle": "answer"}, 10), ({"hard": "rationale"}, 10)]
V4_STAGES = [({"hard": "rationale"}, 20)]


def stages(config: RunConfig) -> list[Any]:
    return [
        ({name: target.name for name, target in stage.targets.items()}, stage.epochs)
        for stage in config.method.stages
    ]


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("paper_v2_qwen", "Qwen/Qwen2.5-3B-Instruct"),
        ("paper_v2_phi", "microsoft/Phi-4-mini-instruct"),
    ],
)
def test_version_2(name: str, student: str) -> None:
    config = compose([f"experiment={name}"])
    assert config.model.id == student
    assert config.dataset.name == "mmlu_pro"
    assert stages(config) == V2_STAGES
    tuning = config.tuning
    assert (tuning.adapter, tuning.schedule) == (Adapter.full, Schedule.constant)
    assert (tuning.learning_rate, tuning.batch_size, tuning.clip) == (1e-5, 16, 1.0)
    assert tuning.answer_target is AnswerTarget.bracketed
    assert config.teacher.model == "deepseek/deepseek-chat"
    assert_shared(config)
    # 25 / 50 / 25 of 3,600: the paper's 900 hard rows, and 100 validation rows a class.
    assert (config.dataset.train, config.dataset.validation) == (3600, 300)


@pytest.mark.parametrize(
    ("name", "student", "dataset", "teacher"),
    [
        (
            "paper_v4_medmcqa_phi",
            "microsoft/Phi-4-mini-instruct",
            "medmcqa",
            "deepseek/deepseek-chat-v3.1",
        ),
        (
            "paper_v4_gsm8k_llama",
            "meta-llama/Llama-3.2-3B-Instruct",
            "gsm8k",
            "meta-llama/llama-4-maverick",
        ),
    ],
)
def test_version_4(name: str, student: str, dataset: str, teacher: str) -> None:
    config = compose([f"experiment={name}"])
    assert (config.model.id, config.dataset.name) == (student, dataset)
    assert stages(config) == V4_STAGES
    tuning = config.tuning
    assert (tuning.adapter, tuning.schedule) == (Adapter.lora, Schedule.constant)
    assert (tuning.lora.r, tuning.lora.alpha, tuning.lora.dropout) == (64, 128, 0.05)
    assert (tuning.learning_rate, tuning.batch_size) == (1e-4, 256)
    assert (config.teacher.model, config.teacher.keep) == (teacher, Keep.correct)
    assert_shared(config)


def assert_shared(config: RunConfig) -> None:
    assert config.seed == 42
    assert config.split.quantiles == [0.25, 0.75]
    assert config.split.classes == ["easy", "middle", "hard"]
    assert config.teacher.kind == "openai"
    assert any(Target.rationale in stage.targets.values() for stage in config.method.stages)


def test_medmcqa_has_the_papers_3000_questions() -> None:
    dataset = compose(["experiment=paper_v4_medmcqa_phi"]).dataset
    assert (dataset.train or 0) + (dataset.validation or 0) == 3000
