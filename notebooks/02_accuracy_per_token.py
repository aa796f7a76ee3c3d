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
# sweep's folder.

# %%
import os
from dataclasses import asdict
from pathlib import Path

from caft.report.figures.notebook import show_figure, show_table
from caft.report.sweep import read_sweep
from caft.report.sweep.page import draw_sweep
from caft.report.sweep.summary import describe_arm, examine_sweep

found = examine_sweep(read_sweep(Path(os.environ["CAFT_SWEEP"])))
arms = [describe_arm(arm, found.confidence) for arm in found.arms]
show_table([{"setting": arm["name"], **arm["accuracy"], "seeds": arm["seeds"]} for arm in arms])

# %% [markdown]
# ## The answers

# %%
show_table(
    [
        {"asked": finding.asked, "answer": finding.answer, "detail": finding.detail}
        for finding in found.answers
    ]
)

# %% [markdown]
# ## Accuracy against price, and against the cut points

# %%
for figure in draw_sweep(arms):
    display(show_figure(figure))

# %% [markdown]
# ## Every pair of settings

# %%
show_table([asdict(pair) for pair in found.comparisons])

# %% [markdown]
# ## Savings, counted in several units

# %%
names = [arm.name for arm in found.arms]
show_table(
    [
        {"count": saving.name, **dict(zip(names, saving.amounts, strict=True))}
        for saving in found.savings
    ]
)
