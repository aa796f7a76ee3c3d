"""Thinking marks of every form; text that only resembles one is no mark."""

from __future__ import annotations

import pytest

from caft.text.thinking import (
    closing_marks,
    drop_thinking,
    find_marks,
    find_open_mark,
    find_spoken_marks,
    find_thinking,
    is_plain_tag,
    opens_thinking,
)


@pytest.mark.parametrize(
    ("opened", "closed"),
    [
        ("<think>", "</think>"),
        ("<thinking>", "</thinking>"),
        ("<reasoning>", "</reasoning>"),
        ("<seed:think>", "</seed:think>"),
        ("<longcat_think>", "</longcat_think>"),
        ("[THINK]", "[/THINK]"),
        ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
        ("<|START_THINKING|>", "<|END_THINKING|>"),
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
        ("<|begin\u2581of\u2581thought|>", "<|end\u2581of\u2581thought|>"),
        ("<|think_start|>", "<|think_end|>"),
        ("<|channel>thought", "<channel|>"),
    ],
)
def test_a_mark_and_what_closes_it(opened: str, closed: str) -> None:
    assert find_open_mark(f"assistant\n{opened}\n") == opened
    assert closing_marks(opened)[0] == closed
    assert find_open_mark(f"{opened}Hm.{closed}\n\n") is None
    assert drop_thinking(f"[[A]]{closed}[[B]]", opened=True) == "[[B]]"
    assert find_thinking(f" [[A]]\n{closed}[[B]]", opened=True) == "[[A]]"
    # Unless the template has opened it, <reasoning> may be a reply's own heading.
    if opened != "<reasoning>":
        assert drop_thinking(f"{opened}[[A]]{closed}[[B]]") == "[[B]]"
        assert drop_thinking(f"{opened}[[A]]") is None


@pytest.mark.parametrize(
    "text",
    [
        "", "think", "[[think]]", "[think]", "[THINKING about it]", "<b>", "<|no_think|>",
        "<think_off>", "a < think > b", "</think>", "<|im_start|>assistant\n",
        "<|start|>assistant<|channel|>final<|message|>",
    ],
)  # fmt: skip
def test_no_open_mark(text: str) -> None:
    assert find_open_mark(text) is None


@pytest.mark.parametrize(
    ("prompt", "opens"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|im_start|>assistant\n<THINKING>", True),
        ("<|im_start|>assistant\n[THINK]", True),
        ("assistant<|channel|>analysis<|message|>", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("What does <think> mean?<|im_end|>\n<|im_start|>assistant\n", False),
        ("", False),
    ],
)
def test_a_prompt_that_ends_in_a_thinking_block(prompt: str, opens: bool) -> None:
    assert opens_thinking(prompt) is opens


def test_grading_takes_no_heading_for_a_thinking_span() -> None:
    for opened, closed in (
        ("<think>", "</think>"), ("<THINKING>", "</thinking>"), ("<thought>", "</thought>"),
    ):  # fmt: skip
        assert drop_thinking(f"{opened}[[A]]{closed}[[B]]") == "[[B]]"
    assert drop_thinking("[THINK][[A]][/THINK][[B]]") == "[[B]]"
    for text in (
        "<reasoning>2 + 2</reasoning>[[A]]",
        "[REASONING] 2 + 2 [[A]]",
        "I [think] of [[THINK]] and [thinking]",
        "[[A]] <|no_think|> [[B]]",
        # The end of Phi-3's turns, and of a channel of gpt-oss.
        "[[A]]<|end|>[[B]]",
    ):
        assert drop_thinking(text) == text
        assert find_thinking(text) is None


def test_a_heading_that_the_template_opened_is_a_span() -> None:
    assert drop_thinking("<reasoning>2 + 2</reasoning>[[A]]", opened=True) == "[[A]]"


def test_what_stands_between_spans_is_kept_and_what_a_template_opened_began_before() -> None:
    assert drop_thinking("a<think>x</think>b<think>y</think>c") == "abc"
    assert drop_thinking("[[A]]<think>x</think>y</think>z") == "z"
    assert find_thinking("Hm.</think>[[A]]") == "Hm."


def test_only_a_tag_of_markup_is_text() -> None:
    marks = ("<think>", "</think>", "<|think_start|>", "[THINK]", "\u25c1think\u25b7", "<b>")
    assert [is_plain_tag(mark) for mark in marks] == [True, True, False, False, False, False]


def test_a_channel_ends_a_channel_and_no_other_span() -> None:
    channel = "<|channel|>analysis<|message|>Hm. [[A]]<|end|>"
    final = "<|start|>assistant<|channel|>final<|message|>[[B]]"
    assert drop_thinking(channel + final) == final
    assert find_thinking(channel + final) == "Hm. [[A]]"
    assert find_thinking("<|channel|>analysis<|message|>Hm.") == "Hm."
    broken = channel.replace("analysis", "\nanalysis")
    assert drop_thinking(broken + final) == final
    assert [mark.opens for mark in find_marks(channel + final)] == [True, False, False]
    (closing,) = closing_marks("<|channel|>analysis")
    assert closing == "<|end|><|start|>assistant<|channel|>final<|message|>"
    assert drop_thinking("<think>[[A]]<|end|>[[B]]") is None
    assert [mark.opens for mark in find_spoken_marks("Hm.</think>x<think>y")] == [False, True]


def test_what_was_thought_is_what_grading_leaves_out() -> None:
    reply = "<think>\none\n</think>\n\nso [[A]]<think> </think><think>two"
    assert find_thinking(reply) == "one\n\ntwo"
    assert find_thinking("<think>\n\n</think>[[A]]") is None
    assert find_thinking("cut", opened=True) == "cut"


def test_a_hostile_reply_is_read_in_time_linear_in_its_length() -> None:
    """Ten times as long takes ten times the steps: unbounded, this would be hours."""
    for reply in ("<" + "think" * 200_000, "[" + "THINK" * 200_000, "<|" * 200_000 + "think"):
        assert drop_thinking(reply) == reply
