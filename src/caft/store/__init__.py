"""Keeps finished stages, keyed by all they depend on. Only this room knows file formats.

In: a `Stage`: what it makes, the table of everything its output depends on, and how to write the
output into a folder. Out: an `Artifact`, taken from the store or made, whole or not at all. An
unwritable store is a UserError; two jobs that need the same thing wait for each other instead of
repeating it.
"""

from caft.store.artifacts import Artifact, Store
from caft.store.checkpoints import Checkpoints
from caft.store.disk import (
    disk_may_be_full,
    explain_refusal,
    make_all_durable,
    make_durable,
    write_durably,
)
from caft.store.fingerprint import digest, file_digest, plain, source_digest
from caft.store.journal import Journal
from caft.store.measure import Effort, Tokens, measured
from caft.store.stage import Stage, StageKind
from caft.store.tables import read_rows, read_table, write_rows, write_table

__all__ = [
    "Artifact",
    "Checkpoints",
    "Effort",
    "Journal",
    "Stage",
    "StageKind",
    "Store",
    "Tokens",
    "digest",
    "disk_may_be_full",
    "explain_refusal",
    "file_digest",
    "make_all_durable",
    "make_durable",
    "measured",
    "plain",
    "read_rows",
    "read_table",
    "source_digest",
    "write_durably",
    "write_rows",
    "write_table",
]
