"""The stages in order: score, split, distill, tune, evaluate, report.

In: a typed RunConfig and where to write. Out: the run's folder, filled, and an exit status. Each
stage is taken from the store where it is there already; `until` ends a run early, and what was
found so far is still written down.
"""

from caft.pipeline.run import run_pipeline

__all__ = ["run_pipeline"]
