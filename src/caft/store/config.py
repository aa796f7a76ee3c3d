"""Where finished stages are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from caft.dials import LongText, Text, check_dials, refuse_password
from caft.errors import UserError
from caft.program import find_project

_SQLITE = "sqlite:///"
_LEDGERS = (_SQLITE, "postgresql://", "postgres://")


@dataclass(kw_only=True, slots=True)
class StoreConfig:
    """`path` is the store's folder; a relative one is in the project, or if there is none, here.

    `ledger_url` is sqlite:///FILE or postgresql://HOST/DATABASE; None is a file in the store.
    """

    path: Text = ".caft_store"
    ledger_url: LongText | None = None

    def __post_init__(self) -> None:
        check_dials(self, "store")
        if self.ledger_url is not None:
            refuse_password("store.ledger_url", self.ledger_url)
            if not self.ledger_url.startswith(_LEDGERS) or self.ledger_url in _LEDGERS:
                raise UserError(
                    f"store.ledger_url={self.ledger_url} is no ledger; give "
                    "postgresql://HOST/DATABASE, sqlite:///FILE (sqlite:////FILE if it is "
                    "absolute), or null for a file in store.path"
                )

    @property
    def folder(self) -> Path:
        """`path` from the project's own folder where there is one, else from the current one."""
        return _from_project(self.path)

    @property
    def ledger(self) -> Path | str:
        """The ledger of teacher replies: a file, or the address of a database."""
        url = self.ledger_url
        if url is None:
            return self.folder / "ledger.sqlite"
        return _from_project(url.removeprefix(_SQLITE)) if url.startswith(_SQLITE) else url


def _from_project(text: str) -> Path:
    path = Path(text).expanduser()
    # So runs that are started in other folders share their work.
    return path if path.is_absolute() else (find_project() or Path.cwd()) / path
