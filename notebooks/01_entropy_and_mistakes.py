# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # Does entropy predict this model's mistakes?
# Reads one finished run (`python train.py until=score` is enough). It shows the estimate for right
# and wrong answers, how well the estimate predicts mistakes, overall and by subject, and whether
# the model's probabilities are calibrated. Set `CAFT_RUN` to the run's folder; the sample is a
# run of the embedded model on 200 questions.

# %%
import warnings
from importlib.util import find_spec

warnings.filterwarnings("ignore", message="IProgress not found")
if find_spec("caft") is None:
    get_ipython().run_line_magic("pip", "install --quiet -e ..")

# %%
import json
import os
from pathlib import Path

from caft.report.figures import draw_calibration, draw_histogram, draw_roc
from caft.report.figures.notebook import show_figure, show_table
from caft.report.wording import describe_estimator
from caft.store import read_rows

folder = Path(os.environ.get("CAFT_RUN", "sample/run"))
summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
score, split = summary["score"], summary["split"]
estimate = describe_estimator(score["estimator"])
rows = [row for row in read_rows(folder / "scores.parquet") if row["split"] == "train"]
known = [row for row in rows if row[estimate.name] is not None]
values = [row[estimate.name] for row in known]
correct = [row["correct"] for row in known]
cuts = split["thresholds"] if split else []
show_table(
    [
        {
            "model": summary["model"]["id"],
            "training questions": len(rows),
            "estimate": estimate.name,
        }
    ]
)

# %% [markdown]
# ## Right answers and mistakes

# %%
classes = list(split["counts"]) if cuts else []
measure = f"{estimate.title} in {estimate.unit}" if estimate.unit else estimate.title
falls = estimate.lower_is_harder
show_figure(draw_histogram(values, correct, cuts, classes, measure, lower_is_harder=falls))

# %% [markdown]
# ## The ROC AUC of every estimate
# There is no AUC if all answers are right or all are wrong; the table gives the reason.

# %%
show_table([{"estimate": name, **area} for name, area in score["roc_auc"].items()])

# %%
area = score["roc_auc"][estimate.name]
if area["value"] is not None:
    wrong = [not right for right in correct]
    display(show_figure(draw_roc(values, wrong, cuts, measure, area, lower_is_harder=falls)))

# %% [markdown]
# ## Calibration of the answer token

# %%
show_figure(
    draw_calibration(
        [row["top1_probability"] for row in rows],
        [row["correct"] for row in rows],
    )
)

# %% [markdown]
# ## By subject

# %%
areas = score.get("by_subject") or {"all": area}
show_table(
    [
        {
            "subject": subject,
            "AUC": area["value"],
            "low": area["low"],
            "high": area["high"],
            "questions": area["n"],
            "wrong": area["incorrect"],
            "reason": area.get("reason", ""),
        }
        for _, subject, area in sorted((-area["n"], name, area) for name, area in areas.items())
    ]
)
