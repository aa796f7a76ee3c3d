# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # What does accuracy cost, and is routing worth it?
# Reads a sweep, finished or not (`python train.py -m method=sft,distill,complexity_aware
# split=entropy,random seed=1,2,3`): accuracy against price, paired tests on the same questions,
# and routing against chance at an equal budget. Name the sweep's folder in `CAFT_SWEEP`.

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
# ## Pair by pair

# %%
show_table(summary["comparisons"])

# %% [markdown]
# ## What is saved, under each way of counting

# %%
counts = summary["savings"]["counts"] if summary["savings"] else {}
show_table([{"count": count["name"], **count["amounts"]} for count in counts.values()])
