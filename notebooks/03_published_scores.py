# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # Published entropies, recomputed
# Reads a file in which somebody published entropy, correctness and class of every question:
# recomputes the ROC AUC, and shows which questions stand in more than one published class. Name
# the file in `CAFT_PUBLISHED`; other column names go in as `columns=`.

# %%
import os

from caft.data.published_file import count_overlap, read_published_file
from caft.report.figures import draw_histogram, draw_roc
from caft.report.figures.notebook import show_figure, show_table
from caft.statistics import roc_auc

rows = read_published_file(os.environ["CAFT_PUBLISHED"])
entropies = [row.entropy for row in rows]
correct = [row.correct for row in rows]
wrong = [not row.correct for row in rows]
area = roc_auc(entropies, wrong, event="wrong")
area

# %%
show_figure(draw_histogram(entropies, correct, [], [], "published entropy in nats"))

# %%
bounds = {"value": area.value, "low": area.low, "high": area.high}
show_figure(draw_roc(entropies, wrong, [], "published entropy", bounds))

# %% [markdown]
# ## Overlap of the published classes
# A question that is trained on in two classes is in both stages of a method.

# %%
overlap = count_overlap(rows)
show_table([{"one": one, "other": other, "questions": n} for (one, other), n in overlap.items()])
