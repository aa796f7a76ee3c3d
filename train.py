"""The front door: compose the config, type it, run it.

    python train.py                                        the main job, on embedded parts
    python train.py model=phi3 method=complexity_aware     other options, one word a group
    python train.py -m method=sft,distill,complexity_aware a sweep, one job a value
    python train.py --help                                 every group and option

Exit status: 0 done; 2 you must act (one line says how); 1 a fault of ours, its traceback in the
run's run.log; 143 or 130 after a signal.
"""

from __future__ import annotations

from caft.__main__ import run
from caft.hydra_bridge import main

if __name__ == "__main__":
    raise SystemExit(main(run))
