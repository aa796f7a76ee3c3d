"""The stages in order: score, split, distill, tune, evaluate, report.

In: a typed RunConfig and where to write. Out: the run's folder, filled, and an exit status. A stage
that is in the store is taken from there; `until` ends a run early, and the results so far are still
written.
"""

from caft.pipeline.run import run_pipeline

__all__ = ["run_pipeline"]
