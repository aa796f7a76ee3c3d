import json
from pathlib import Path

import pytest

from caft.data.published_file import count_overlap, read_published_file
from caft.errors import UserError

PUBLISHED = Path(__file__).parents[2].parent / "shared" / "data"
ROW = {
    "question_id": 7,
    "published_split": "train_easy",
    "category": "law",
    "published_entropy_nats": 0.5,
    "published_correct": True,
}


def write(path: Path, *rows: dict[str, object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_questions_of_two_classes_are_counted_once_a_pair(tmp_path: Path) -> None:
    rows = [{**ROW, "question_id": k, "published_split": place}
            for k, places in enumerate(["a", "ab", "abc", "bb"]) for place in places]  # fmt: skip
    found = count_overlap(read_published_file(write(tmp_path / "x.jsonl", *rows)))
    assert found == {("a", "b"): 2, ("a", "c"): 1, ("b", "c"): 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"published_entropy_nats": "low"}, r"x\.jsonl:1: published_entropy_nats is 'low'"),
        ({"published_correct": 1}, r"x\.jsonl:1: published_correct is 1; give true or false"),
    ],
)
def test_a_wrong_value_is_named_by_its_line(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        read_published_file(write(tmp_path / "x.jsonl", {**ROW, **change}))


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    row = {key: value for key, value in ROW.items() if key != "category"}
    with pytest.raises(UserError, match=r"has no column category; it has question_id, "):
        read_published_file(write(tmp_path / "x.jsonl", row))


def test_the_published_classes_of_qwen_overlap() -> None:
    file = PUBLISHED / "mmlu_pro_qwen_train.jsonl"
    if not file.exists():
        pytest.skip(f"no published entropies here ({file})")
    overlap = count_overlap(read_published_file(str(file)))
    # 133 questions stand in two classes, the middle one having no upper bound.
    assert sum(overlap.values()) == 133
    assert set(overlap) == {("train_hard", "train_middle")}
