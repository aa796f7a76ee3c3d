"""lm-eval asks the merged model as docs/how-to/lm-eval.md says, and measures what the run did."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from caft.records import AnswerScore
from caft.store import read_table

PAGE = Path(__file__).parents[2] / "docs/how-to/lm-eval.md"
# One epoch at a high rate: the tiny model then answers with digits only, but not the same one.
WORDS = (
    "tuning.merge=true",
    "tuning.learning_rate=0.02",
    "dataset.train=200",
    "method.stages=[{targets:{easy:answer,middle:answer,hard:answer},epochs:3}]",
)


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.slow
def test_choices_and_accuracy_are_those_of_the_run(
    workshop: Any, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm_eval = pytest.importorskip("lm_eval", reason="pip install -e '.[lm-eval]'")
    run = workshop.run(*small.words, *WORDS)
    assert run.status == 0, run.err
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    exec(block("python").replace("RUN", str(run.folder)), {})
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args=f"pretrained={run.folder / 'merged'},dtype=float32",
        tasks=[yaml.safe_load(block("yaml"))],
        device="cpu",
        bootstrap_iters=0,
        log_samples=True,
    )
    folder = workshop.store / "evaluate" / run.fingerprint("evaluate tuned answer")
    scores = {row.question_id: row for row in read_table(folder / "scores.parquet", AnswerScore)}
    samples = found["samples"]["caft_answers"]
    assert len(samples) == 12
    for sample in samples:
        theirs = [float(each[0][0]) for each in sample["resps"]]
        ours = [math.log(p) for p in scores[sample["doc"]["question_id"]].option_probabilities]
        # The tokenizer writes " 5" as a space and a digit. Theirs has both in the choice, ours has
        # the space in the prompt: its log-probability is the same for every choice.
        space = theirs[0] - ours[0]
        assert space < 1e-4
        # float32: a log-probability of up to 20 has steps of 2e-6, and sums differ in their order.
        assert [each - space for each in theirs] == pytest.approx(ours, abs=1e-3)
    tuned = [scores[sample["doc"]["question_id"]] for sample in samples]
    assert all(row.valid for row in tuned)
    accuracy = run.summary["accuracy"]["tuned"]["answer"]["value"]
    assert found["results"]["caft_answers"]["acc,none"] == pytest.approx(accuracy)
