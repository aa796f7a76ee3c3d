"""Replies that were bought under another limit of length, and are valid under this one.

A reply that ended by itself, below both limits, does not depend on either. So a user who raises
`max_tokens` for the replies that were cut buys those alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from caft.teachers.config import EndpointConfig, MaxTokensField
from caft.teachers.ledger import Ledger
from caft.teachers.refusals import Finish, read_finish
from caft.teachers.replies import (
    PreparedRequest,
    TeacherReply,
    asks_alternatives,
    make_key,
    token_limits,
)

_DIGITS = 12


def find_under_other_limits(
    ledger: Ledger, requests: Sequence[PreparedRequest], config: EndpointConfig
) -> dict[str, TeacherReply]:
    """By the keys of these requests, which the ledger does not have; each reply keeps its own."""
    found: dict[str, TeacherReply] = {}
    if not requests or asks_alternatives(config):
        return found
    for field in (each.value for each in MaxTokensField if each.value in requests[0].body):
        own = requests[0].body[field]
        for limit in sorted(_read_limits(ledger, field) - {own}, reverse=True):
            others = {
                make_key(each.body | {field: limit}, each.attempt, config): each.key
                for each in requests
                if each.key not in found
            }
            bound = min(limit, *token_limits(config))
            replies = ledger.replies(others).items()
            found |= {
                others[key]: reply for key, reply in replies if _ended_below(bound, limit, reply)
            }
    return found


def _ended_below(bound: int, limit: int, reply: TeacherReply) -> bool:
    """Whether a reply under `limit` ended by itself, below the lower limit `bound`."""
    if read_finish(reply.finish_reason) is not Finish.finished:
        return False
    if reply.counted:
        return reply.completion_tokens < bound
    # Of a length that nobody counted only the server's word is known, and of its own limit.
    return bool(reply.finish_reason.strip()) and limit == bound


def _read_limits(ledger: Ledger, field: str) -> set[int]:
    """All limits under which the model's replies were asked for."""
    # In a text within the JSON its quotes would be escaped.
    name = f'"{field}": '
    database = ledger.database
    query = (
        f"SELECT DISTINCT substr(request, {database.position}(request, ?) + {len(name)}, {_DIGITS})"
        f" FROM replies WHERE model = ? AND {database.position}(request, ?) > 0"
    )
    rows = database.transact(
        lambda: database.execute(query, (name, ledger.model, name)).fetchall(), writes=False
    )
    begun = (re.match("[0-9]+", str(text)) for (text,) in rows)
    return {int(digits[0]) for digits in begun if digits}
