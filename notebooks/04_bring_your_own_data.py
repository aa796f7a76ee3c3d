# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # From a CSV to a plan with its cost
# Nothing is run here: `dry_run=true` shows, stage by stage, what would be done, how many questions
# the teacher would be asked, and what that would cost. Set `CAFT_CSV` to your file. Other words of
# the command line, such as the model, go into `CAFT_WORDS`.

# %%
import os

from caft.hydra_bridge import compose, main
from caft.pipeline import run_pipeline

words = [
    "dataset=local",
    f"dataset.train_path={os.environ['CAFT_CSV']}",
    "dataset.columns.options='A,B,C,D'",
    *os.environ.get("CAFT_WORDS", "").split(),
]

# %% [markdown]
# ## The settings
# A misspelt one is an error here, which names the nearest setting.

# %%
config = compose(words)
config.dataset

# %% [markdown]
# ## The plan

# %%
main(run_pipeline, [*words, "dry_run=true"])
