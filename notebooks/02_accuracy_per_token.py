# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # What does accuracy cost, and does routing help?
# Reads a sweep, finished or not (`python train.py -m method=sft,distill,complexity_aware
# split=entropy,random seed=1,2,3`). It shows accuracy against price, paired tests on the same
# questions, and entropy routing against random routing at an equal budget. Set `CAFT_SWEEP` to the
# sweep's folder: there is no sample, since a sweep that shows something takes hours.

# %%
import warnings
from importlib.util import find_spec

warnings.filterwarnings("ignore", message="IProgress not found")
if find_spec("caft") is None:
    get_ipython().run_line_magic("pip", "install --quiet -e ..")

# %%
import os
from datetime import UTC, datetime
from pathlib import Path

from caft.report.figures.notebook import show_figure, show_table
from caft.report.sweep import analyse_sweep, read_sweep
from caft.report.sweep.figures import draw_sweep

sweep = read_sweep(Path(os.environ["CAFT_SWEEP"]))
summary = analyse_sweep(sweep, datetime.now(UTC).isoformat()).summary
arms = summary["arms"]
show_table([{"setting": arm["name"], **arm["accuracy"], "seeds": arm["seeds"]} for arm in arms])

# %% [markdown]
# ## The answers

# %%
show_table(summary["answers"])

# %% [markdown]
# ## Accuracy against price, and against the cut points

# %%
for figure in draw_sweep(arms):
    display(show_figure(figure))

# %% [markdown]
# ## Every pair of settings

# %%
show_table(summary["comparisons"])

# %% [markdown]
# ## Savings, counted in several units

# %%
counts = summary["savings"]["counts"] if summary["savings"] else {}
show_table([{"count": count["name"], **count["amounts"]} for count in counts.values()])
