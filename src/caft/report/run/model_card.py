"""The model card that goes with the weights: data, method, base model, prompt, numbers. Pure.

Its text is `templates/model_card.md.j2`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from caft.estimators import ESTIMATORS, Need
from caft.report.comparison import confidence_of, results_by_mode
from caft.report.forgetting import list_changes
from caft.report.headlines import routes_by_class
from caft.report.page import render_text
from caft.report.schema import (
    MODELS,
    MODES,
    Accuracy,
    ScorePart,
    SplitPart,
    Summary,
    drawn_at_random,
)
from caft.report.wording import describe_fitted_cut, percent_between

_ASKED = {
    "answer": "the bare answer",
    "bracketed": "the answer in brackets",
    "rationale": "a rationale",
    "thinking": "a thinking span, and a rationale behind it",
}


class Weights(Enum):
    """The weights next to the card: an adapter, a fully tuned model, or a merged model."""

    adapter = "adapter"
    full = "full"
    merged = "merged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the weights were made, beyond the run's summary.

    `kinds` are the adapter's, such as ("lora", "dora"), or ("full",) where there is none; `rank`
    and `alpha` are None there, and for adapters that are no LoRA. `continues`: tuning started from
    an adapter that had this shape. `base_path` is the base model's folder if that was given.
    `dataset_id` and `dataset_revision` are the hub's, None if the questions came from files.
    `prompts` are the rendered texts by the kind of reply, with placeholders in braces instead of a
    question; `template_switches` are the chat template's
    arguments, None if none was used; `template_date` is the date that it was given, and
    `template_bridge` the text after its ending. `trust_remote_code`: the base model's folder holds
    code of its own.
    """

    kinds: Sequence[str]
    rank: int | None = None
    alpha: int | None = None
    continues: bool = False
    learning_rate: float
    base_path: str | None = None
    dataset_id: str | None = None
    dataset_revision: str | None = None
    prompts: Mapping[str, str]
    template_switches: Mapping[str, object] | None = None
    template_date: str | None = None
    template_bridge: str | None = None
    trust_remote_code: bool = False


def write_card(summary: Summary, recipe: Recipe, weights: Weights) -> str:
    """README.md in the hub's format, for the weights of a run that has tuned."""
    split, score = summary["split"], summary["score"]
    assert split is not None, "a run that has tuned has split its questions"
    assert score is not None, "a run that has tuned has scored its questions"
    results = [results_by_mode(summary["accuracy"], model) for model in MODELS]
    values = {
        "tuning": [],
        **summary,
        "recipe": recipe,
        "repr": repr,
        "fence": _fence,
        "weights": weights.value,
        "on_hub": "/" in summary["model"]["id"] and not recipe.base_path,
        "model_name": (Path(recipe.base_path).name if recipe.base_path else summary["model"]["id"]),
        "at_random": drawn_at_random(split["strategy"]),
        "routes": routes_by_class(summary),
        "routing": _describe_routing(split, score) if routes_by_class(summary) else _NO_ROUTING,
        "fitted_cut": describe_fitted_cut(summary["accuracy"]),
        "asked": _ASKED,
        "changes": [*list_changes(summary)],
        "confidence": confidence_of(summary["accuracy"]),
        "rows": [(mode, *(_cell(result.get(mode)) for result in results)) for mode in MODES],
    }
    return render_text("model_card.md.j2", values)


_NO_ROUTING = "every training question has the same target, and none is routed by complexity."


def _describe_routing(split: SplitPart, score: ScorePart) -> str:
    """How training questions got their targets, as the end of a sentence."""
    then = "into classes, and the method trains each class as the list below says."
    if drawn_at_random(split["strategy"]):
        return f"training questions are drawn at random {then} This is the control of routing."
    return f"{_name_estimate(score)} sorts training questions {then}"


def _name_estimate(score: ScorePart) -> str:
    estimator = ESTIMATORS[score["estimator"]]
    if score.get("source") == "published":
        return f"the {estimator.title} of the publisher's model, published with the questions,"
    if estimator.name == "answer_entropy":
        return "the base model's entropy at the answer token"
    whose = "the" if estimator.need in (Need.rationale, Need.judge) else "the base model's"
    return f"{whose} {estimator.title}"


def _fence(text: str) -> str:
    """A code block whose fence is longer than any backticks in the text."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _cell(result: Accuracy | None) -> str:
    return f"{percent_between(result)}, n={result['n']}" if result else "not measured"
