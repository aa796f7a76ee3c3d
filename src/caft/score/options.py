"""A teacher's entropy over the options, from the log-probabilities that an endpoint gives.

An endpoint lists the likeliest first tokens only. An option that is not among them is less likely
than they are, so the entropy over the options has bounds, question by question.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence

from caft.errors import UserError
from caft.records import Judgement, Question
from caft.teachers.ask import ask_all, ask_live
from caft.teachers.config import EndpointConfig
from caft.teachers.ledger import Place
from caft.teachers.progress import Watcher
from caft.teachers.refusals import Finish, read_finish
from caft.teachers.replies import Request, TeacherReply
from caft.text.answers import answer_labels
from caft.text.config import OptionIds
from caft.text.prompts import Prompt

log = logging.getLogger(__name__)

OPTION_GAIN = "option_entropy_gain"

ROUNDING = 1e-3
"""A log-probability may be above 0 by that much."""

WIDEST = 0.1
"""Nats between the bounds of a teacher's entropy; a question with wider ones has no estimate."""

_MARKS_OF_SPACE = " \t\n\u2581\u0120"  # the last two are how tokenizers write a space


def ask_options(
    questions: Sequence[Question],
    prompts: Sequence[Prompt],
    *,
    option_ids: OptionIds,
    teacher: EndpointConfig,
    ledger_path: Place,
    progress: Watcher | None = None,
) -> list[Judgement]:
    """The teacher's entropy over each question's options, in nats; None where it is not known.

    `teacher` is as `for_alternatives` makes it. UserError, after one call, if the endpoint gives no
    log-probabilities, and if no question has an estimate; else as `ask_all`.
    """
    refuse_without_alternatives(prompts, teacher, ledger_path)
    replies = ask_all([Request(prompt.turns) for prompt in prompts], teacher, ledger_path, progress)
    rows = [
        _read_reply(question, reply, answer_labels(question, option_ids))
        for question, reply in zip(questions, replies, strict=True)
    ]
    if missing := sum(row.value is None for row in rows):
        line = (
            f"{missing} of {len(rows)} questions have no {OPTION_GAIN}: the likeliest first tokens "
            f"of {teacher.model} leave their entropy open by more than {WIDEST:g} nats"
        )
        if missing == len(rows):
            raise UserError(
                f"{line}; it does not begin with an option, as models that think first do not: "
                "turn thinking off in teacher.extra, or use another estimator"
            )
        log.warning("%s", line)
    return rows


def refuse_without_alternatives(
    prompts: Iterable[Prompt], teacher: EndpointConfig, ledger_path: Place
) -> None:
    """UserError if the first reply has no log-probabilities; one that a filter withheld may not."""
    for prompt in prompts:
        reply = ask_live(Request(prompt.turns), teacher, ledger_path)
        if reply is None:
            return
        if not reply.failure and read_finish(reply.finish_reason) is Finish.withheld:
            continue
        if not read_alternatives(reply.text):
            said = f" ({reply.failure})" if reply.failure else ""
            raise UserError(
                f"{teacher.model} at {teacher.base_url} gives no log-probabilities{said}, which "
                f"{OPTION_GAIN} needs, and no more was bought; use an endpoint that takes "
                "top_logprobs=20, such as teacher=vllm, or another estimator"
            )
        return


def refuse_shared_beginnings(question: Question, option_ids: OptionIds) -> None:
    """UserError if two options begin alike, as 1 and 10 do: their first token may be the same."""
    first: dict[str, str] = {}
    for label in answer_labels(question, option_ids):
        other = first.setdefault(label[:1], label)
        if other != label:
            raise UserError(
                f"{OPTION_GAIN} reads the teacher's first token, and the answers {other!r} and "
                f"{label!r} of question {question.id} may share theirs; set "
                "dataset.prompt.option_ids=letters, or use another estimator"
            )


def _read_reply(question: Question, reply: TeacherReply, labels: Sequence[str]) -> Judgement:
    alternatives = {} if reply.failure else read_alternatives(reply.text)
    low, high = bound_entropy(alternatives, labels)
    return Judgement(
        question_id=question.id,
        estimator=OPTION_GAIN,
        value=(low + high) / 2 if high - low <= WIDEST else None,
        text=reply.failure or reply.text,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        usd=reply.usd,
        # A provider does not time the rows of a batch.
        batched=not (reply.failure or reply.seconds),
    )


def read_alternatives(text: str) -> dict[str, float]:
    """Probabilities of the likeliest first tokens; empty for a text that is no such list."""
    try:
        rows: object = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    found = {}
    for row in rows if isinstance(rows, list) else ():
        token, log_p = row if isinstance(row, list) and len(row) == 2 else (None, None)
        if not isinstance(token, str) or not isinstance(log_p, float | int) or not log_p < ROUNDING:
            return {}
        found[token] = min(1.0, math.exp(log_p))
    return found


def bound_entropy(alternatives: Mapping[str, float], labels: Sequence[str]) -> tuple[float, float]:
    """The least and the greatest entropy over `labels`, in nats, that the alternatives allow.

    A label has the probability of the likeliest token that begins it. m labels that are not listed
    have together at most what the list leaves, and at most m times the second least listed
    probability: servers such as vLLM list the drawn token, however rare, in place of the last one.
    With H the entropy over the others and q the share of the m, the whole is
    (1 - q) H + h(q) + q H', h being the binary entropy and H' between 0 and ln m. This is concave
    in q: the least is at an end of its range, the greatest at q = m / (m + exp H), if inside it.
    """
    listed = [_probability_of(label, alternatives) for label in labels]
    seen = [p for p in listed if p > 0]
    if not seen:
        return 0.0, math.log(max(1, len(labels)))
    m, total = len(labels) - len(seen), sum(seen)
    entropy = sum(-p / total * math.log(p / total) for p in seen)
    if not m:
        return entropy, entropy
    ascending = sorted(alternatives.values())
    unseen = max(0.0, min(m * ascending[min(1, len(ascending) - 1)], 1 - sum(ascending)))
    most = unseen / (total + unseen)
    turn = min(most, m / (m + math.exp(entropy)))
    low = min(entropy, _mix(most, entropy, 0.0))
    return low, _mix(turn, entropy, math.log(m))


def _mix(share: float, seen: float, unseen: float) -> float:
    """The entropy of two groups of labels with these entropies, the second having this share."""
    parts = (-p * math.log(p) for p in (share, 1 - share) if p > 0)
    return (1 - share) * seen + share * unseen + sum(parts)


def _probability_of(label: str, alternatives: Mapping[str, float]) -> float:
    begins = (
        p
        for token, p in alternatives.items()
        if (word := token.strip(_MARKS_OF_SPACE)) and label.startswith(word)
    )
    return max(begins, default=0.0)
