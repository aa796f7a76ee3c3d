"""What a ledger holds of each model, for people. It writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from caft.errors import count_of
from caft.teachers.ledger.claims import Claim, ClaimTable
from caft.teachers.ledger.database import Database, Place
from caft.teachers.ledger.opening import open_database, refuse_missing
from caft.teachers.ledger.tables import Row, refuse_damaged, select
from caft.teachers.prices import usd_form


@dataclass(slots=True)
class _Bought:
    """Of one model; `unsure_usd` is for calls that failed and may have been charged."""

    replies: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    usd: float = 0.0
    unsure_usd: float = 0.0
    failed: int = 0


def show_models(place: Place) -> str:
    """A line a model. UserError if there is no ledger, or if a row of it is damaged."""
    refuse_missing(place)
    database = open_database(place, reads_only=True)
    try:
        return database.transact(lambda: _show(database), writes=False)
    finally:
        database.close()


def _show(database: Database) -> str:
    bought = _read_bought(database)
    claims = sorted(ClaimTable(database).read(), key=lambda each: each.model)
    open_claims = {model: list(own) for model, own in groupby(claims, lambda each: each.model)}
    models = sorted(bought.keys() | open_claims.keys())
    width = max(map(len, models), default=0)
    lines = [
        f"{model:{width}}  {_describe(bought.get(model, _Bought()), open_claims.get(model, ()))}"
        for model in models
    ]
    return "\n".join(lines) or f"{database.name} is empty: nothing was bought yet"


def _read_bought(database: Database) -> dict[str, _Bought]:
    bought: dict[str, _Bought] = {}
    for _, model, *_, prompt, completion, _, _, _, _, _, _ in _sound(database, "replies"):
        own = bought.setdefault(str(model), _Bought())
        own.replies += 1
        own.prompt_tokens += int(str(prompt))
        own.completion_tokens += int(str(completion))
    for model, calls, usd, unsure, _ in _sound(database, "spending"):
        own = bought.setdefault(str(model), _Bought())
        own.calls, own.usd, own.unsure_usd = int(str(calls)), float(str(usd)), float(str(unsure))
    for _, model, *_ in _sound(database, "failures"):
        bought.setdefault(str(model), _Bought()).failed += 1
    return bought


def _sound(database: Database, table: str) -> Iterator[Row]:
    """All rows, one by one: replies are long texts, and many."""
    for row in iter(database.execute(select(table, database.version)).fetchone, None):
        refuse_damaged(database.name, table, [row])
        yield row


def _describe(own: _Bought, claims: Sequence[Claim]) -> str:
    parts = [
        count_of(own.replies, "reply"),
        count_of(own.calls, "call"),
        f"{own.prompt_tokens:,} + {own.completion_tokens:,} tokens",
        _usd(own.usd),
    ]
    if own.failed:
        parts.append(f"{own.failed:,} failed")
    if own.unsure_usd:
        parts.append(f"up to {_usd(own.unsure_usd)} more for those without a response")
    batches: dict[str, list[Claim]] = {}
    for claim in claims:
        name = f" in batch {claim.batch_name}" if claim.in_batch else " in flight"
        batches.setdefault(name, []).append(claim)
    parts += [
        f"{count_of(len(out), 'call')}{name}, for up to {_usd(sum(c.reserved_usd for c in out))}"
        for name, out in sorted(batches.items())
    ]
    return ", ".join(parts)


def _usd(usd: float) -> str:
    return f"{usd:{usd_form(usd)}} USD"
