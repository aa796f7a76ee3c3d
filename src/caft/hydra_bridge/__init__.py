"""The only place that imports Hydra or OmegaConf: overrides in, a typed RunConfig out.

Hydra only composes. Every job is composed and typed before the first one runs, so a misspelt key in
the last job of a sweep costs a second and not a night. Whatever is wrong with the input ends in one
line on standard error and exit status 2. Jobs of a sweep run in processes of their own, started
from frozen configs; a job table has the state of each one, and the same command runs what is
missing.
"""

from caft.hydra_bridge.command import main
from caft.hydra_bridge.composing import build_run_config, compose
from caft.hydra_bridge.finished import read_run_config
from caft.hydra_bridge.groups import find_conf
from caft.hydra_bridge.jobs import main_job, start_child
from caft.hydra_bridge.overrides import is_setting_or_option

__all__ = [
    "build_run_config",
    "compose",
    "find_conf",
    "is_setting_or_option",
    "main",
    "main_job",
    "read_run_config",
    "start_child",
]
