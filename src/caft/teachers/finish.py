"""How servers say that a reply has ended. Pure: one word in, what it means out.

The protocol knows four words; servers and routers hand on those of the model's own maker.
"""

from __future__ import annotations

import re
from enum import Enum


class Finish(Enum):
    """What a finish reason means.

    `finished`: the model ended by itself. `cut`: it ran out of room. `withheld`: a filter, or the
    model itself, declined for good. `failed`: the server broke down meanwhile. `called`: the model
    wants a tool. `unknown`: nobody told us this word.
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
        "refused guardrail_intervened guardrail moderation moderated sensitive toxic error_toxic"
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


def read_finish(reason: str) -> Finish:
    """The meaning of a finish reason, however it is spelt: STOP, endTurn, FinishReason.STOP.

    Servers that hand on the token with which a turn ended mean the same: <|im_end|>. An empty one
    is that of a server that says nothing, and means finished.
    """
    if not reason.strip():
        return Finish.finished
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", reason.strip(" .").rpartition(".")[2])
    word = re.sub(r"[\W_\u2581]+", "_", words).strip("_").casefold()
    word = word.removeprefix("finish_reason_").removeprefix("stop_reason_")
    return _MEANING.get(word, Finish.unknown)
