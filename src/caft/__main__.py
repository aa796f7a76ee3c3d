"""`python -m caft`: the same front door as train.py, for an installed package."""

from __future__ import annotations

from caft.hydra_bridge import main
from caft.run_config import RunConfig, RunContext


def run(config: RunConfig, context: RunContext) -> int:
    """One run; the pipeline is imported only once its config is valid."""
    from caft.pipeline import run_pipeline

    return run_pipeline(config, context)


if __name__ == "__main__":
    raise SystemExit(main(run))
