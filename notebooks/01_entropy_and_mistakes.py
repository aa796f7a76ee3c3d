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
import os
from pathlib import Path

from caft.report.figures import draw_calibration
from caft.report.figures.notebook import show_figure, show_table
from caft.report.run.class_rows import training_scores
from caft.report.run.finished import read_run
from caft.report.run.html import draw_figures

run = read_run(Path(os.environ.get("CAFT_RUN", "sample/run")))
scores = training_scores(run.tables)
figures = {figure.key: figure for figure in draw_figures(run.summary, run.tables)}
show_table(
    [
        {
            "model": run.summary["model"]["id"],
            "training questions": len(scores),
            "estimate": run.estimator,
        }
    ]
)

# %% [markdown]
# ## Right answers and mistakes

# %%
show_figure(figures["histogram"])

# %% [markdown]
# ## The ROC AUC of every estimate
# There is no AUC if all answers are right or all are wrong; the table gives the reason.

# %%
show_table([{"estimate": name, **area} for name, area in run.summary["score"]["roc_auc"].items()])

# %%
if "roc" in figures:
    display(show_figure(figures["roc"]))

# %% [markdown]
# ## Calibration of the answer token

# %%
show_figure(
    draw_calibration(
        [score.estimates["top1_probability"] for score in scores],
        [score.correct for score in scores],
    )
)

# %% [markdown]
# ## By subject

# %%
score = run.summary["score"]
areas = score.get("by_subject") or {"all": score["roc_auc"][run.estimator]}
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
