# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # What does accuracy cost, and does routing help?
# Reads a sweep, finished or not. It shows how a teacher's budget should be spent, accuracy against
# cost, and paired tests on the same questions. Set `CAFT_SWEEP` to the sweep's folder. The sample
# is a real one of ten runs on chains of arithmetic: questions for rationales chosen by entropy and
# at random, at equal teacher tokens, five seeds each.

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
from caft.report.sweep import analyse_sweep, read_sweep, tables
from caft.report.sweep.figures import draw_sweep

sweep = read_sweep(Path(os.environ.get("CAFT_SWEEP", "sample/sweep")))
summary = analyse_sweep(sweep, datetime.now(UTC).isoformat()).summary
arms = summary["arms"]
show_table(summary["answers"])

# %% [markdown]
# ## Settings

# %%
columns = ("setting", "seeds", "accuracy", "over seeds", "mode", "tokens per question", "USD")
show_table(tables.tabulate_arms(arms, summary["bases"]).select(*columns).texts)

# %% [markdown]
# ## Accuracy against random routing, cost and cut points

# %%
for figure in draw_sweep(arms):
    display(show_figure(figure))

# %% [markdown]
# ## Routed settings against random ones at equal budget

# %%
show_table(tables.tabulate_tests(summary["routing"]["tests"]).texts)

# %% [markdown]
# ## Pairwise comparisons

# %%
show_table(tables.tabulate_comparisons(summary["comparisons"]).texts)

# %% [markdown]
# ## Cost

# %%
show_table(tables.tabulate_savings(summary["savings"], arms).texts if summary["savings"] else [])
