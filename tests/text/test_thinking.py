"""Thinking marks of every form; text that only resembles one is no mark."""

from __future__ import annotations

import pytest

from caft.text.thinking import (
    closing_marks,
    drop_spans,
    drop_thinking,
    find_open_mark,
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
    assert drop_spans(f"{opened}[[A]]{closed}[[B]]", opened=False) == "[[B]]"
    assert drop_spans(f"[[A]]{closed}[[B]]", opened=True) == "[[B]]"
    assert drop_spans(f"{opened}[[A]]", opened=False) is None


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


def test_grading_knows_three_tags_only() -> None:
    for opened, closed in (("<think>", "</think>"), ("<THINKING>", "</thinking>")):
        assert drop_thinking(f"{opened}[[A]]{closed}[[B]]") == "[[B]]"
    assert drop_thinking("[THINK][[A]][/THINK][[B]]") == "[[B]]"
    assert drop_thinking("<seed:think>[[A]]</seed:think>") == "<seed:think>[[A]]</seed:think>"
