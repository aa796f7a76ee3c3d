"""Paid teachers: asking an OpenAI-protocol endpoint so that no reply is lost or bought twice.

In: Requests and an OpenAITeacherConfig. Out: Replies, and their rows in the ledger. What can go
wrong ends in a UserError that keeps every reply: a cap is reached, the endpoint is down, the key
is refused, the ledger cannot be written.
"""

from caft.teachers.api_key import check_endpoint
from caft.teachers.ask import ask_all
from caft.teachers.asks import prepare
from caft.teachers.caps import Spending
from caft.teachers.ledger import Ledger
from caft.teachers.prices import find_price
from caft.teachers.progress import AskProgress, Watcher
from caft.teachers.replies import Request, TeacherReply

__all__ = [
    "AskProgress",
    "Ledger",
    "TeacherReply",
    "Request",
    "Spending",
    "Watcher",
    "ask_all",
    "check_endpoint",
    "find_price",
    "prepare",
]
