"""GSM-Symbolic: grade school problems with drawn names and numbers, by PyPI's reasoning-gym.

They are made of templates of GSM8K (Mirzadeh et al., arXiv 2410.05229): no hub, no download, no
end. Rows have GSM8K's form, a worked solution and then `#### 12`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice

from caft.data.cells import show
from caft.data.columns import Reading, read_questions
from caft.data.config import ColumnsConfig, GsmSymbolicConfig
from caft.data.dedup import fold
from caft.data.files import Row, Table
from caft.data.shapes import FINAL_NUMBER, split_numbers
from caft.data.splits import QuestionSplits
from caft.errors import UserError, count_of
from caft.program import install_hint

# The package's own end of every question; ours are in dataset.prompt.
_INSTRUCTION = " Give the result as your final answer. Do not include units."
# Items of a seed are numbered from it on: those of two seeds would overlap.
_STRIDE = 1_000_003


def load_gsm_symbolic(config: GsmSymbolicConfig) -> QuestionSplits:
    """All splits, from `config` and the package's version alone; no question is there twice.

    A split does not depend on the sizes of those after it: shots, test, validation, train.
    UserError where the package is not installed, writes its answers otherwise, or has too few
    different questions.
    """
    if find_spec("reasoning_gym") is None:
        raise UserError(
            "dataset=gsm_symbolic needs reasoning-gym, which is not installed; "
            f"{install_hint('gsm_symbolic')}, or use dataset=gsm8k"
        )
    sizes = {
        "shots": config.prompt.shots,
        "test": config.test or 0,
        "validation": config.validation or 0,
        "train": config.train or 0,
    }
    name = f"reasoning-gym {version('reasoning-gym')}"
    rows = _draw(sum(sizes.values()), config.seed, name)
    dealt = {split: tuple(islice(rows, size)) for split, size in sizes.items() if size}
    tables = {split: Table(name, ("question", "answer"), rows) for split, rows in dealt.items()}
    columns = ColumnsConfig(options=None, rationale="rationale")
    read = read_questions(split_numbers(tables, columns.answer), Reading(columns=columns))
    return QuestionSplits(**read, removed={}, sources={})


def _draw(wanted: int, seed: int, name: str) -> Iterator[Row]:
    """So many different rows with a `question` and its `answer`, which is solution and number."""
    from reasoning_gym import create_dataset

    # Of 2,000 items, 7 were repeats.
    drawn = create_dataset("gsm_symbolic", seed=seed * _STRIDE, size=2 * wanted + 100)
    rows: dict[str, Row] = {}
    for place in range(2 * wanted + 100):
        item = drawn[place]
        text = item["question"].removesuffix(_INSTRUCTION)
        values = {"question": text, "answer": item["metadata"]["answer_cot"]}
        if not FINAL_NUMBER.search(values["answer"]):
            raise UserError(
                f"{name}, item {place}: answer {show(values['answer'])} does not end in "
                f"'#### NUMBER'; {install_hint('gsm_symbolic')}, or use dataset=gsm8k"
            )
        rows.setdefault(fold(text), Row(f"{name}, item {place}", values))
        if len(rows) == wanted:
            return iter(rows.values())
    raise UserError(
        f"dataset.train, validation, test and dataset.prompt.shots ask for {wanted} questions, but "
        f"{name} made only {count_of(len(rows), 'different one')}; ask for fewer"
    )
