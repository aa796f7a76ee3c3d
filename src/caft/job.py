"""`python -m caft.job FOLDER`: one job of a sweep, from the config that the sweep froze there."""

from __future__ import annotations

import sys
from pathlib import Path

from caft.hydra_bridge import main_job
from caft.run_config import RunConfig, RunContext


def run(config: RunConfig, context: RunContext) -> int:
    """One job; the pipeline is imported only in its own process."""
    from caft.pipeline import run_pipeline

    return run_pipeline(config, context)


if __name__ == "__main__":
    raise SystemExit(main_job(run, Path(sys.argv[1])))
