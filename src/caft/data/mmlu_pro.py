"""MMLU-Pro: its test rows are our questions, its 70 validation rows our shots.

The validation rows carry worked solutions and serve as the benchmark's own solved examples; the
12,032 test rows carry none, and are divided into train, validation and test by dataset.seed.
"""

from __future__ import annotations

from pathlib import Path

from caft.data.columns import plan_reading, read_questions
from caft.data.config import AnswerForm, ColumnsConfig, MmluProConfig
from caft.data.files import Row, Table, read_table, refuse_missing_columns
from caft.data.hygiene import Pools, divide
from caft.data.mistakes import read_each
from caft.data.splits import QuestionSplits
from caft.errors import UserError

COLUMNS = ColumnsConfig(
    id="question_id",
    question="question",
    options="options",
    answer="answer_index",
    subject="category",
    rationale="cot_content",
)
LETTER_COLUMN = "answer"
FILES = {
    "test": "data/test-00000-of-00001.parquet",
    "validation": "data/validation-00000-of-00001.parquet",
}
SOLUTION_OPENER = "A:"
SECONDS_TO_ANSWER = 4.0


def load_mmlu_pro(config: MmluProConfig) -> QuestionSplits:
    """All splits, from the hub's files or from the copy at `config.path`.

    Raises UserError where neither can be had, and where rows are not MMLU-Pro's.
    """
    paths = locate_copy(config.path) if config.path else download_files(config)
    tables = {split: _read_rows(path) for split, path in paths.items()}
    reading = plan_reading(list(tables.values()), COLUMNS, answer_form=AnswerForm.index)
    questions = {split: read_questions(table, reading) for split, table in tables.items()}
    return divide(Pools(train=questions["test"], shots=questions.get("validation")), config)


def locate_copy(given: str) -> dict[str, Path]:
    """The files of a copy: a folder with test (and validation) rows, or one file of test rows."""
    path = Path(given).expanduser()
    if not path.is_dir():
        return {"test": path}
    found = {split: file for split in FILES if (file := _find_split(path, split))}
    if "test" not in found:
        raise UserError(
            f"dataset.path={given} holds no test-*.parquet, .jsonl or .csv, there or in data/; "
            "give the folder of a copy of MMLU-Pro, or one file of its rows"
        )
    return found


def _find_split(folder: Path, split: str) -> Path | None:
    files = [
        file
        for ending in ("parquet", "jsonl", "csv")
        for place in (folder, folder / "data")
        for file in sorted(place.glob(f"{split}*.{ending}"))
    ]
    return files[0] if files else None


def download_files(config: MmluProConfig) -> dict[str, Path]:
    """The hub's files at the revision: from its cache where they are there, else downloaded.

    Raises UserError within seconds where the hub cannot be reached. The question comes first,
    with a short timeout, because a download itself retries a dead line for minutes.
    """
    from huggingface_hub import HfApi, hf_hub_download

    # HTTPError is that of the HTTP library the hub client happens to use: dead lines, timeouts
    # and refusals of the hub are all of this class or an OSError.
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HTTPError,
        LocalEntryNotFoundError,
    )

    def fetch(file: str, *, cached: bool) -> Path:
        return Path(
            hf_hub_download(
                config.id,
                file,
                repo_type="dataset",
                revision=config.revision,
                local_files_only=cached,
            )
        )

    try:
        return {split: fetch(file, cached=True) for split, file in FILES.items()}
    except LocalEntryNotFoundError:
        pass  # not on this machine yet
    try:
        HfApi().repo_info(
            config.id,
            repo_type="dataset",
            revision=config.revision,
            timeout=SECONDS_TO_ANSWER,
        )
        return {split: fetch(file, cached=False) for split, file in FILES.items()}
    except (OSError, HTTPError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"dataset {config.id} at revision {config.revision} cannot be had from the hub "
            f"({reason.rstrip('.')}); get online, or give a copy: dataset.path=/folder/or/file"
        ) from error


def _read_rows(path: Path) -> Table:
    table = read_table(str(path), "dataset.path")
    refuse_missing_columns(table, {"MMLU-Pro's column": LETTER_COLUMN})
    rows = read_each(table.rows, _check_and_trim)
    return Table(table.name, table.columns, rows)


def _check_and_trim(row: Row) -> Row:
    letter, index = row.values.get(LETTER_COLUMN), row.values.get(COLUMNS.answer)
    if isinstance(index, int) and letter != chr(ord("A") + index):
        raise UserError(
            f"{row.origin}: answer {letter!r} and answer_index {index} point to different "
            "options; give MMLU-Pro's own rows"
        )
    solution = row.values.get(COLUMNS.rationale or "")
    if not isinstance(solution, str):
        return row
    trimmed = solution.strip().removeprefix(SOLUTION_OPENER).strip()
    return Row(row.origin, {**row.values, COLUMNS.rationale or "": trimmed})
