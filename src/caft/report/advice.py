"""What to do after a run: one reason, and the command that follows from it. Pure."""

from __future__ import annotations

from caft.estimators import ESTIMATORS, Need
from caft.report.headlines import compare_methods, find_gain, routes_by_class
from caft.report.run.estimate_verdict import count_rarer, judge_estimate, main_area
from caft.report.run.next_step import Step, compare_with_control, repeat_with_seeds, rerun
from caft.report.schema import Area, ScorePart, Summary
from caft.statistics import FEWEST_TO_JUDGE, Verdict

_OTHER_ESTIMATORS = (("fallback_entropy", "p_true"), ("cot_mean_entropy", "cot_answer_entropy"))
"""Those to try next, cheapest first: one more token each, and then a chain of thought."""

_SMOLLM2, _HARDER = "HuggingFaceTB/SmolLM2-135M-Instruct", "mmlu_pro"


def suggest_next(summary: Summary) -> Step:
    """The most useful next step from here."""
    area, gain = main_area(summary.get("score")), find_gain(summary.get("accuracy"))
    if area and judge_estimate(area) is not Verdict.yes:
        return _improve_estimate(summary, area)
    if gain is None:
        return _go_on(summary)
    if gain.harmed or gain.lost_to_best:
        # Optuna searches no setting that the command fixes.
        fixed = ("seed", "hydra", "tuning.learning_rate", "tuning.lora.r")
        search = rerun(summary, "-m", "multirun_sweeps=tune_lr", without=fixed)
        aim = "does not harm" if gain.harmed else "beats the base model's best mode"
        return Step(f"Search for a learning rate that {aim}:", search)
    if gain.verdict is not Verdict.yes:
        return Step("Look for a smaller difference with more seeds:", repeat_with_seeds(summary))
    if routes_by_class(summary):
        return Step("Test the routing against its control:", compare_with_control(summary))
    command = compare_methods(summary)
    why = "Compare with routing:" if command else "See whether other seeds agree:"
    return Step(why, command or repeat_with_seeds(summary))


def _go_on(summary: Summary) -> Step:
    """For a run that has not tuned: it ended early, or its method is the base model alone."""
    if summary.get("accuracy"):
        command = compare_methods(summary) or repeat_with_seeds(summary, "method=sft")
        return Step("Compare with methods that tune:", command)
    return Step("See what the stages after this one would cost:", rerun(summary, "dry_run=true"))


def _improve_estimate(summary: Summary, area: Area) -> Step:
    score = summary["score"]
    assert score is not None, "an area is one of scores"
    if score.get("source") == "published":
        own = rerun(summary, "score=model", "until=score", without=("score",))
        return Step("Score the questions with this model itself:", own)
    if area["value"] is None or count_rarer(area) < FEWEST_TO_JUDGE:
        return _mix_answers(summary, area)
    for names in _OTHER_ESTIMATORS:
        if not set(names) <= score["roc_auc"].keys():
            given = f"score.estimators=[{','.join([*_list_asked(score), *names])}]"
            return Step("Measure other estimates:", rerun(summary, "until=score", given))
    others = rerun(summary, "-m", "until=score", "dataset.seed=1,2,3", without=("hydra",))
    return Step("See whether other questions agree:", others)


def _list_asked(score: ScorePart) -> list[str]:
    """One estimator for each need beyond the pass that every run makes: a list replaces a list."""
    found = (ESTIMATORS[name] for name in score["roc_auc"] if name in ESTIMATORS)
    by_need = {each.need: each.name for each in found if each.need is not Need.single_token}
    return list(by_need.values())


def _mix_answers(summary: Summary, area: Area) -> Step:
    """Without several of both kinds of answers nothing can be told apart."""
    if area["incorrect"] <= area["n"] - area["incorrect"]:
        if summary["dataset"]["name"] == _HARDER:
            smaller = rerun(summary, "until=score", "model=smollm2", without=("model",))
            return Step("Take a smaller model, which gets some of the questions wrong:", smaller)
        harder = rerun(summary, "until=score", f"dataset={_HARDER}", without=("dataset",))
        return Step("Take harder questions, of which the model gets some wrong:", harder)
    shots = "dataset.prompt.shots"
    if any(override.startswith(shots) for override in summary["run"]["overrides"]):
        name = "qwen2_5_3b" if summary["model"]["id"] == _SMOLLM2 else "smollm2"
        other = rerun(summary, "until=score", f"model={name}", without=("model",))
        return Step("Take a model that answers some of the questions correctly:", other)
    more = rerun(summary, "until=score", f"{shots}=16")
    return Step("Show more solved examples, so that some answers are correct:", more)
