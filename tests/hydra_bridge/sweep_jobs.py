"""A front door whose jobs end in every possible way, by their seed; started as a script.

Each job notes in its folder what it saw; 1 and 2 finish, 3 needs the user, 4 is a fault, 5 is
killed, 6 waits to be stopped, 7 needs the user until `mended` stands in the current folder, 13
finishes only when `go` does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from caft.errors import UserError
from caft.hydra_bridge import main, main_job, start_child
from caft.run_config import RunConfig, RunContext
from caft.signals import DONE, OUR_FAULT


def run(config: RunConfig, context: RunContext) -> int:
    note = {
        "pid": os.getpid(),
        "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "run_id": context.run_id,
        "argv": sys.argv,
    }
    with (context.folder / "seen.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(note) + "\n")
    print(f"started {config.seed}", flush=True)
    if config.seed == 3 or (config.seed == 7 and not Path("mended").exists()):
        raise UserError("the file rows.jsonl\nhas no rows")
    if config.seed == 4:
        raise KeyError("a fault")
    if config.seed == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if config.seed == 6:
        time.sleep(120)
    while config.seed == 13 and not Path("go").exists():
        time.sleep(0.05)
    (context.folder / "summary.json").write_text(json.dumps({"lr": config.tuning.learning_rate}))
    if Path("mended").exists():
        return DONE
    if config.seed == 12:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(120)
    return OUR_FAULT if config.seed == 11 else DONE


if __name__ == "__main__":
    if sys.argv[1] == "--job":
        sys.exit(main_job(run, Path(sys.argv[2])))
    command = [sys.executable, __file__, "--job"]
    sys.exit(main(run, start=partial(start_child, command=command)))
