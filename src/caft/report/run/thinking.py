"""What thinking cost at test time, and whether the models thought as they were asked to. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from caft.report.comparison import results_by_mode
from caft.report.schema import MODELS, AccuracyPart, Summary
from caft.report.wording import percent_between

NOT_ASKED = (
    "The method trains thinking, and evaluation.thinking is not true: the tuned model is asked not "
    "to think where it is evaluated. Set evaluation.thinking=true."
)
"""What a reader must know of such a run, before it and after."""


def list_thinking(accuracy: AccuracyPart) -> Iterator[str]:
    """A line for every model that thinks in rationale mode, or was asked to or not to."""
    for model in MODELS:
        result = results_by_mode(accuracy, model).get("rationale")
        if not result or not ("thinking_tokens" in result or "obeyed" in result):
            continue
        spent, thought = result["generated_tokens"], result.get("thinking_tokens", 0)
        line = (
            f"{model}: {thought / result['n']:,.1f} thinking and "
            f"{(spent - thought) / result['n']:,.1f} other tokens a rationale"
        )
        obeyed = result.get("obeyed")
        yield f"{line}; mode obeyed in {percent_between(obeyed)}" if obeyed else line


def warn_of_thinking(summary: Summary) -> Iterator[str]:
    """Where thinking is trained and not evaluated. Summaries of old do not say what was asked."""
    accuracy, stages = summary.get("accuracy"), summary["method"]["stages"]
    trained = any("thinking" in told for stage in stages for told in stage["targets"].values())
    written = "rationale" in results_by_mode(accuracy, "tuned")
    if trained and written and accuracy and not accuracy.get("thinking", True):
        yield NOT_ASKED
