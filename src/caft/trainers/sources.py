"""The sources that a stage's result depends on besides its own room, for `source_digest`.

tests/store/test_sources.py follows the imports of every stage and reports files that are missing
here.
"""

from __future__ import annotations

_EVERY_STAGE = (
    "grading",
    "kernels",
    "models",
    "text",
    "records.py",
    "trainers/build.py",
    "trainers/devices.py",
    "trainers/distributed.py",
    "trainers/heartbeat.py",
    "trainers/joined.py",
    "trainers/launched.py",
    "trainers/sharing.py",
)
# Results are read back from a journal, and kept in a table.
PREDICTING_SOURCES = (
    *_EVERY_STAGE,
    "store/journal.py",
    "store/tables.py",
    "trainers/asked.py",
    "trainers/predicting.py",
    "trainers/replies.py",
    "trainers/worker.py",
)
# An interrupted stage resumes from a checkpoint.
TUNING_SOURCES = (*_EVERY_STAGE, "store/checkpoints.py", "trainers/sharding.py")
