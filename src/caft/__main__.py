"""`python -m caft`: the entry point of an installed package, and of the jobs of a sweep.

`python -m caft job FOLDER` runs one job, from the config that its sweep saved in that folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from caft.hydra_bridge import main, main_job
from caft.run_config import RunConfig, RunContext
from caft.threads import set_up_threads


def run(config: RunConfig, context: RunContext) -> int:
    """One run. Imported only now: torch takes seconds, and a wrong config is reported at once."""
    set_up_threads()
    from caft.pipeline import run_pipeline

    return run_pipeline(config, context)


if __name__ == "__main__":
    if sys.argv[1:2] == ["job"]:
        raise SystemExit(main_job(run, Path(sys.argv[2])))
    raise SystemExit(main(run))
