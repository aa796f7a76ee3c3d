"""Finish reasons, reasons of refusal, and advice for each. Pure.

The protocol has four words for how a reply ends; servers also pass on those of the model's vendor.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import Enum

from caft.records import Rationale


class Finish(Enum):
    """What a finish reason means.

    `finished`: the model ended the reply. `cut`: it reached the token limit. `withheld`: a filter,
    or the model itself, declined for good. `failed`: the server broke down meanwhile. `called`: the
    model calls a tool. `unknown`: a word that is not in the table.
    """

    finished = "finished"
    cut = "cut"
    withheld = "withheld"
    failed = "failed"
    called = "called"
    unknown = "unknown"


_WORDS = {
    Finish.finished: (
        "stop stopped stop_token stop_sequence stop_string stop_word eos eos_token eos_found eot "
        "eot_token end end_turn end_of_turn end_token end_of_text end_of_sequence complete "
        "completion done finish finished normal natural success succeeded ok completed "
        "im_end s eos_id eot_id eom_id end_of_sentence end_of_message return endoftext "
        "matched_stop matched_token stopped_eos stopped_word hit_eos hit_stop model_stop"
    ),
    Finish.cut: (
        "length max_length model_length max_tokens max_tokens_reached max_output_tokens "
        "max_completion_tokens max_new_tokens max_total_tokens max_token token_limit "
        "token_limit_reached context_length context_length_exceeded context_window_exceeded "
        "model_context_window_exceeded limit length_limit length_capped error_limit "
        "incomplete truncated cutoff cut_off too_large"
    ),
    Finish.withheld: (
        "content_filter content_filtered content_policy content_policy_violation filter filtered "
        "safety image_safety recitation blocklist blocked prohibited_content spii language refusal "
        "image_prohibited_content model_armor refused guardrail_intervened guardrail moderation "
        "moderated sensitive toxic error_toxic"
    ),
    Finish.failed: (
        "error server_error internal_error network_error upstream_error malformed_response "
        "insufficient_system_resource failed failure abort aborted cancel cancelled canceled "
        "interrupted timeout timed_out user_cancel engine_overloaded overloaded"
    ),
    Finish.called: (
        "tool_call tool_calls tool_use function_call malformed_function_call "
        "unexpected_tool_call pause_turn"
    ),
}
_MEANING = {word: finish for finish, words in _WORDS.items() for word in words.split()}

WRONG, OVER_BUDGET, BY_CHANCE = "wrong", "over_budget", "by_chance"
_KEEP_ALL = "teacher.keep=all trains on them anyway, marked"
_LONGER = "give a larger teacher.max_tokens"
REASONING_TEACHERS = (
    "use one that sends it, as the API of DeepSeek, OpenRouter, vLLM (--reasoning-parser) and "
    "llama.cpp do, or a file with the field reasoning; or train the target rationale"
)
"""What helps where a teacher's reasoning is missing."""
_UNFIT = "read one in rationales.parquet, and use another teacher.model or dataset.prompt wording"
_ELSE = "read one in rationales.parquet; teacher.keep=all helps where only the answer is wrong"
_ADVICE = {
    WRONG: f"teacher.attempts=2 asks again; {_KEEP_ALL}",
    "unparsable": f"they name no [[answer]]; {_KEEP_ALL}",
    "cut_off": _LONGER,
    "unfinished_thinking": _LONGER,
    "empty": f"where the model thinks first, {_LONGER}; else check the server's log",
    "too_large": "give a smaller teacher.max_tokens",
    "control_characters": _UNFIT,
    "special_token": _UNFIT,
    "repeated_loop": _UNFIT,
    "no_reasoning": f"the method trains the teacher's reasoning: {REASONING_TEACHERS}",
    "bare_answer": "the teacher wrote no rationale: train the class on answers, or give another "
    "teacher.model or dataset.prompt.short_rationale",
    BY_CHANCE: "raise score.samples.count, so that more right tries can tell a solved question",
    "no_solution": "the dataset has no worked solution for them: add some, or use a teacher that "
    "writes them",
    "no_row": "add rows with their question_id to the file of teacher.path",
    "no_reply": "fix the error that the server reports, and run the same command again",
}
_FINISH_ADVICE = {
    Finish.withheld: "a filter or the model declines: use another teacher.model or endpoint",
    Finish.called: "the model calls a tool: remove the tools from teacher.extra",
}
_UNKNOWN = "where that is how this server says that a reply is finished, give teacher.keep=all"


def read_finish(reason: str) -> Finish:
    """The meaning of a finish reason, however it is spelt: STOP, endTurn, FinishReason.STOP.

    The token with which a turn ended means the same: <|im_end|>. An empty one means finished. One
    of two words means what the first means that is known: content_filter: PROHIBITED_CONTENT.
    """
    if not reason.strip():
        return Finish.finished
    first, _, second = reason.partition(":")
    meanings = (_look_up(words) for words in (reason, first, second))
    return next((each for each in meanings if each is not Finish.unknown), Finish.unknown)


def _look_up(reason: str) -> Finish:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", reason.strip(" .").rpartition(".")[2])
    word = re.sub(r"[\W_\u2581]+", "_", words).strip("_").casefold()
    word = word.removeprefix("finish_reason_").removeprefix("stop_reason_")
    return _MEANING.get(word, Finish.unknown)


def name_reason(row: Rationale) -> str:
    """The short reason of a refusal, with the server's own word if the reply did not finish.

    Empty for an accepted one.
    """
    kind = row.refusal.partition(":")[0]
    return f"{kind}: {row.finish_reason}" if kind == "not_finished" else kind


def count_reasons(rows: Iterable[Rationale]) -> dict[str, int]:
    """How many were refused for each reason, commonest first."""
    return dict(Counter(name_reason(row) for row in rows if not row.accepted).most_common())


def list_reasons(counts: Mapping[str, int]) -> str:
    """Such as "6 cut_off, 4 wrong"."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def advise(reason: str) -> str:
    """What helps against a reason as `name_reason` gives it."""
    kind, _, finish = reason.partition(": ")
    if kind != "not_finished":
        return _ADVICE.get(kind, _ELSE)
    return _FINISH_ADVICE.get(read_finish(finish), _UNKNOWN)
