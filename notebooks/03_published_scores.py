# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # Published entropies, recomputed
# Reads a file with the entropy, the correctness and the class of every question, as published by
# the paper's authors. Recomputes the ROC AUC, and counts the questions that are in more than one
# class. Set `CAFT_PUBLISHED` to the file; `COLUMNS` has the names of its columns. The sample
# has the scores of our own run in `sample/run` in that form.

# %%
import warnings
from importlib.util import find_spec

warnings.filterwarnings("ignore", message="IProgress not found")
if find_spec("caft") is None:
    get_ipython().run_line_magic("pip", "install --quiet -e ..")

# %%
import os
from collections import Counter, defaultdict
from itertools import combinations

from caft.data.files import read_table, refuse_missing_columns
from caft.data.local import read_scores
from caft.report.figures import draw_histogram, draw_roc
from caft.report.figures.notebook import show_figure, show_table
from caft.statistics import roc_auc

COLUMNS = {
    "id": "question_id",
    "class": "published_split",
    "entropy": "published_entropy_nats",
    "correct": "published_correct",
}
table = read_table(os.environ.get("CAFT_PUBLISHED", "sample/published.jsonl"), "CAFT_PUBLISHED")
refuse_missing_columns(table, COLUMNS)
scores = read_scores(table, COLUMNS["entropy"], COLUMNS["correct"])
entropies = [entropy for entropy, _ in scores]
correct = [right for _, right in scores]
wrong = [not right for right in correct]
area = roc_auc(entropies, wrong)
bounds = {"value": area.value, "low": area.low, "high": area.high}
show_table([{"questions": len(scores), "wrong": sum(wrong), **bounds}])

# %%
show_figure(draw_histogram(entropies, correct, [], [], "published entropy in nats"))

# %%
show_figure(draw_roc(entropies, wrong, [], "published entropy", bounds))

# %% [markdown]
# ## Questions in two classes
# A question in two classes is trained in both stages of a method.

# %%
classes = defaultdict(set)
for row in table.rows:
    classes[row.values[COLUMNS["id"]]].add(row.values[COLUMNS["class"]])
pairs = Counter(pair for names in classes.values() for pair in combinations(sorted(names), 2))
show_table([{"one": one, "other": two, "questions": n} for (one, two), n in sorted(pairs.items())])
