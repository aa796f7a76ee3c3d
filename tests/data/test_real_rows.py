"""The published MMLU-Pro rows of Qwen2.5-3B-Instruct: repeats, overlaps and the ROC AUC."""

from __future__ import annotations

from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

from caft.data import load_questions, published_scores
from caft.data.config import ColumnsConfig, Duplicates, LocalConfig
from caft.errors import UserError
from caft.text.config import PromptConfig

FOLDER = Path(__file__).parents[2].parent / "shared" / "data"
TRAIN, TEST = (FOLDER / f"mmlu_pro_qwen_{split}.jsonl" for split in ("train", "test"))
COLUMNS = ColumnsConfig(id="question_id", answer="answer_index", subject="category")

pytestmark = pytest.mark.skipif(
    not (TRAIN.exists() and TEST.exists()), reason="the published rows in ../shared/data are absent"
)


def config(**dials: object) -> LocalConfig:
    shared: dict[str, object] = {"train_path": str(TRAIN), "columns": COLUMNS}
    return LocalConfig(name="local", **{**shared, **dials})  # type: ignore[arg-type]


def test_entropy_predicts_mistakes_as_published() -> None:
    scores = published_scores(
        config(train_path=str(TEST)), "published_entropy_nats", "published_correct"
    )
    assert len(scores) == 1167
    mistakes = [not correct for _, correct in scores.values()]
    assert roc_auc_score(mistakes, [entropy for entropy, _ in scores.values()]) == pytest.approx(
        0.7105, abs=5e-5
    )


def test_scores_exist_for_every_question_that_is_loaded() -> None:
    both = config(test_path=str(TEST), duplicates=Duplicates.first)
    scores = published_scores(both, "published_entropy_nats", "published_correct")
    splits = load_questions(both)
    assert {question.id for question in (*splits.train, *splits.test)} <= set(scores)


def test_the_train_file_repeats_itself_and_is_refused() -> None:
    with pytest.raises(UserError, match=r"mmlu_pro_qwen_train\.jsonl:\d+: .* repeats") as error:
        load_questions(config())
    assert "dataset.duplicates=first" in str(error.value)


def test_first_keeps_one_of_each_and_test_questions_leave_train() -> None:
    splits = load_questions(
        config(test_path=str(TEST), duplicates=Duplicates.first, validation=200)
    )
    assert splits.removed["train rows: id repeated"] == 133
    # the same wording and options under another id
    assert splits.removed["train rows: question repeated"] == 9
    assert splits.removed["test rows: question repeated"] == 1
    assert splits.removed["test questions found in train"] == 14
    # two of the fourteen stand there twice, with other options
    assert splits.removed["train rows: question stands in test"] == 16
    assert len(splits.test) == 1166
    test_texts = {question.text for question in splits.test}
    assert not test_texts & {question.text for question in (*splits.train, *splits.validation)}


def test_a_few_hundred_rows_are_a_fair_draw() -> None:
    splits = load_questions(
        config(
            test_path=str(TEST),
            duplicates=Duplicates.first,
            train=300,
            validation=60,
            test=100,
            prompt=PromptConfig(shots=5),
        )
    )
    sizes = [len(getattr(splits, name)) for name in ("train", "validation", "test", "shots")]
    assert sizes == [300, 60, 100, 5]
    # The file is sorted easy, middle, hard, about 900 rows each: a third from each end.
    lines = [int(question.origin.split(":")[1]) for question in splits.train]
    assert lines == sorted(lines)
    assert 70 < sum(line <= 899 for line in lines) < 130
    assert 70 < sum(line > 1795 for line in lines) < 130
