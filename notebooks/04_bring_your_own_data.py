# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # From a CSV to a plan with its cost
# Shows how the first row of your file is read, what a run would do stage by stage, and what a
# teacher would be asked by method. Nothing is run and no key is needed. Set `CAFT_CSV` to your file
# (the sample has twenty questions); other words of the command line, such as the model, go into
# `CAFT_WORDS`.

# %%
import warnings
from importlib.util import find_spec

warnings.filterwarnings("ignore", message="IProgress not found")
if find_spec("caft") is None:
    get_ipython().run_line_magic("pip", "install --quiet -e ..")

# %%
import os
from pathlib import Path

from caft.hydra_bridge import compose
from caft.pipeline.data_table import describe, first_question
from caft.pipeline.dry_run import plan_run
from caft.pipeline.preflight import open_workspace
from caft.report.figures import draw_token_bars
from caft.report.figures.notebook import show_figure, show_table
from caft.run_config import RunContext

TEACHER = ["teacher=openai", "teacher.model=MODEL", "teacher.base_url=https://HOST/v1"]
words = [
    "dataset=local",
    f"dataset.train_path={os.environ.get('CAFT_CSV', 'sample/questions.csv')}",
    "model=tiny",
    "dry_run=true",
    *TEACHER,
    *os.environ.get("CAFT_WORDS", "").split(),
]
context = RunContext(folder=Path("outputs"))

# %% [markdown]
# ## How the first row is read
# A misspelt setting or a wrong row is an error here, which names the nearest setting or the line.

# %%
config = compose([*words, "method=complexity_aware"])
workspace = open_workspace(config, context)
questions = workspace.questions
first = describe(first_question(questions), config.dataset.prompt.option_ids)
show_table(
    [
        {"part": part, "column": questions.sources.get(part, ""), "read as": text}
        for part, text in first
    ]
)

# %%
show_table([{"split": name, "questions": len(part)} for name, part in questions.parts()])

# %% [markdown]
# ## The plan

# %%
show_table(
    [
        {"stage": stage.name, "state": stage.state, "work": stage.work}
        for stage in plan_run(workspace)
    ]
)

# %% [markdown]
# ## What a teacher would be asked, by method
# `sft` trains bare answers, `distill` rationales for all questions, `complexity_aware` rationales
# for the hard ones.

# %%
METHODS = ("sft", "complexity_aware", "distill")
plans = {
    name: plan_run(open_workspace(compose([*words, f"method={name}"]), context)) for name in METHODS
}
tokens = {name: sum(stage.teacher_tokens for stage in plan) for name, plan in plans.items()}
note = "Estimated from the length of texts, for replies that are not paid yet."
show_figure(draw_token_bars("Tokens that a teacher would read and write", note, "plan", tokens))
