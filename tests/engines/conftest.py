"""Two tiny students with different weights, one with a tuned copy, and prompts for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caft.models.config import Architecture
from caft.models.reply_rules import ReplyRules
from caft.models.student import Student
from replies import generate_replies


@pytest.fixture(scope="session")
def make_student(tiny_student: Callable[..., Student]) -> Callable[..., Student]:
    def make(architecture: Architecture = Architecture.llama, seed: int = 0) -> Student:
        return tiny_student(architecture=architecture, weights_seed=seed)

    return make


@pytest.fixture(scope="session")
def student(make_student: Callable[..., Student]) -> Student:
    return make_student()


@pytest.fixture(scope="session")
def rules(student: Student) -> ReplyRules:
    return ReplyRules(max_new_tokens=6, end_ids=student.end_ids(chat=True))


@pytest.fixture(scope="session")
def prompts(student: Student) -> dict[str, tuple[int, ...]]:
    texts = {f"q{n}": f"What is {n} + 3?" + " Well?" * n for n in range(4)}
    return {name: tuple(student.tokenizer(text).input_ids) for name, text in texts.items()}


@pytest.fixture(scope="session")
def own_replies(
    student: Student, rules: ReplyRules, prompts: dict[str, tuple[int, ...]]
) -> dict[str, tuple[str, int]]:
    """What our own generator writes: text and tokens."""
    written = generate_replies(student.load(), student.tokenizer, list(prompts.values()), rules)
    return {name: (r.text, r.tokens) for name, r in zip(prompts, written, strict=True)}


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, student: Student) -> Any:
    """vLLM and SGLang as far as they are documented and used, and what they are told to write."""
    import sys

    for name in ("vllm", "vllm.lora", "vllm.lora.request", "sglang", "scripted"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "fakes"))
    import scripted

    scripted.DECODE.append(student.tokenizer.decode)
    yield scripted
    for name in ("vllm", "vllm.lora", "vllm.lora.request", "sglang", "scripted"):
        sys.modules.pop(name, None)
