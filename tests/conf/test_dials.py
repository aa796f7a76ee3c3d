"""Every number has a range, every name is filled, no list repeats itself: dial by dial.

The dials are taken from the config classes themselves, so a new one is in these tests as soon as
it is written, and fails them until it says what it may be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import Enum
from functools import cache
from math import inf, nan, nextafter
from typing import Any, get_args, get_origin

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from caft.dials import ANY_FINITE, Filled, Range, check_dials, read_hint
from caft.errors import UserError
from caft.hydra_bridge import build_run_config, compose
from caft.hydra_bridge.error_text import explain
from caft.run_config import RunConfig
from caft.teachers.config import OpenAITeacherConfig
from every_dial import ALL_DIALS, Dial

# What the kinds of a group share stands in each of them, and is tried once.
DIALS = list({(dial.path, str(dial.kind), dial.rules): dial for dial in ALL_DIALS}.values())
NUMBERS = [dial for dial in DIALS if dial.kind in (int, float)]
LISTS = [dial for dial in DIALS if get_origin(dial.kind) is list]
TEXTS = [dial for dial in DIALS if dial.kind is str]

MAY_BE_EMPTY = ("dataset.prompt.",)
"""Wordings: a prompt without a system turn is a prompt."""
BUT_THIS = "dataset.prompt.short_rationale"
"""Without it a short rationale would be asked for, and kept, as any other."""
OF_THEIR_OWN = (".kind", "teacher.api_key_env", "score.judge.api_key_env")
"""Texts that have a rule of their own, with its own tests."""

WITH = {"dataset.largest_operand": {"dataset.highest": 99}}
"""What must be set beside a dial, so that its end of the range means something."""


def refusal(dial: Dial, value: object) -> str:
    """The refusal where `dial` is `value`, as the command line would; "" where it is taken."""
    composed: Any = OmegaConf.create(_plain(dial.words))
    return _refusal(dial, value, composed, lambda: build_run_config(composed))


def quick_refusal(dial: Dial, value: object) -> str:
    """The same of a config whose other groups are built once: a quarter of the time."""
    group, inner, _ = dial.path.partition(".")
    if not inner:
        return refusal(dial, value)
    plain = _plain(dial.words)
    composed: Any = OmegaConf.create({group: plain[group]})
    return _refusal(dial, value, composed, lambda: _rebuild(dial.words, group, composed))


def _refusal(dial: Dial, value: object, composed: Any, build: Callable[[], object]) -> str:
    try:
        for path, given in {**WITH.get(dial.path, {}), dial.path: value}.items():
            _put(composed, path, given)
        build()
    except (UserError, OmegaConfBaseException) as error:
        return explain(error)
    return ""


@cache
def _built(words: tuple[str, ...]) -> RunConfig:
    return compose(words)


@cache
def _plain(words: tuple[str, ...]) -> Any:
    """Plain values, which Hydra hands over: their types are looked up again."""
    return OmegaConf.to_container(OmegaConf.structured(_built(words)), enum_to_str=True)


def _rebuild(words: tuple[str, ...], group: str, composed: Any) -> RunConfig:
    whole = _built(words)
    typed = _type(group, type(getattr(whole, group)))
    built: Any = OmegaConf.to_object(OmegaConf.merge(typed, composed))
    return replace(whole, **built)


@cache
def _type(group: str, schema: type) -> Any:
    return OmegaConf.create({group: OmegaConf.structured(schema)})


def _put(composed: Any, path: str, value: object) -> None:
    owner, _, name = path.rpartition(".")
    if name == "0":
        OmegaConf.update(composed, owner, [value, 0.75] if "quantiles" in owner else [value])
    else:
        OmegaConf.update(composed, path, value, force_add=True)


def just_outside(within: Range, kind: type) -> Iterator[float]:
    step = (lambda end, way: end + (1 if way > 0 else -1)) if kind is int else nextafter
    if within.low > -inf:
        yield within.low if within.above else step(within.low, -inf)
    if within.high < inf:
        yield within.high if within.below else step(within.high, inf)


def just_inside(within: Range, kind: type) -> Iterator[float]:
    if kind is int:
        yield from (within.low, within.high)
        return
    yield nextafter(within.low, inf) if within.above else within.low
    yield nextafter(within.high, -inf) if within.below else within.high


def test_the_walk_reaches_every_kind_of_place() -> None:
    paths = {dial.path for dial in NUMBERS}
    assert {
        "seed",
        "tuning.lora.dropout",
        "method.epochs.some",
        "method.stages.0.epochs",
        "split.quantiles.0",
        "teacher.prices.some.prompt",
        "score.judge.budget_usd",
        "dataset.first_index",
    } <= paths
    assert len(paths) > 60


@pytest.mark.parametrize("dial", NUMBERS, ids=lambda dial: dial.name)
def test_a_number_has_a_range_and_nothing_beyond_gets_through(dial: Dial) -> None:
    ranges = [rule for rule in dial.rules if isinstance(rule, Range)]
    assert len(ranges) == 1, f"{dial.path} says no range: see caft.dials"
    beyond = [nan, inf, -inf] if dial.kind is float else [nan]
    tried = [*beyond, *just_outside(ranges[0], dial.kind)]
    # One on the way of a command line, to show that it leads to this range.
    for value, asked in [(nan, refusal), *((value, quick_refusal) for value in tried[1:])]:
        message = asked(dial, value)
        named = name_refused(message)
        # OmegaConf names what stands in a list by its last part.
        assert named, (value, message)
        assert dial.path.endswith(named), (value, message)
        assert "; give " in message, (value, message)
    for value in just_inside(ranges[0], dial.kind):
        message = quick_refusal(dial, value)
        assert name_refused(message) != dial.path, (value, message)


def name_refused(message: str) -> str:
    """The setting whose value is refused, if it is that."""
    found = re.match(r"invalid value for (\S+): |(\S+) is ", message)
    return found[1] or found[2] if found else ""


@pytest.mark.parametrize("dial", TEXTS, ids=lambda dial: dial.name)
def test_a_name_is_filled(dial: Dial) -> None:
    wording = dial.path.startswith(MAY_BE_EMPTY) and dial.path != BUT_THIS
    if wording or dial.path.endswith(OF_THEIR_OWN):
        assert not dial.rules
        return
    for value, asked in (("", refusal), ("  ", quick_refusal)):
        message = asked(dial, value)
        assert dial.path.removesuffix(".0") in message, (value, message)
    assert any(isinstance(rule, Filled) for rule in dial.rules) or dial.path.endswith(".0")


WORDS = {"split.classes": ["a", "b", "a"], "score.estimators": ["answer_entropy"] * 2}


@pytest.mark.parametrize("dial", LISTS, ids=lambda dial: dial.name)
def test_a_list_names_nothing_twice(dial: Dial) -> None:
    (of,) = get_args(dial.kind)
    kind, _, _ = read_hint(of)
    if not isinstance(kind, type) or not issubclass(kind, str | Enum):
        return
    word = next(iter(kind)).name if issubclass(kind, Enum) else "x"
    message = refusal(dial, WORDS.get(dial.path, [word, word]))
    assert message.startswith(f"{dial.path} names "), message
    assert "2 times; name it once" in message


def test_tables_of_ones_own_hold_finite_numbers_only() -> None:
    for value in (nan, inf, {"deep": [1.0, nan]}):
        with pytest.raises(UserError, match=r"^teacher\.extra\.top_k[.\w]* is (nan|inf); give a f"):
            OpenAITeacherConfig(name="t", extra={"top_k": value})
    repeated = {"stop": ["a", "a"], "top_k": 2**70}
    assert OpenAITeacherConfig(name="t", extra=repeated).extra == repeated


COMMANDS = {
    "nan": ("teacher=openai teacher.budget_usd=nan", "teacher.budget_usd is nan; give 0 to"),
    "in quotes": ("tuning.weight_decay='nan'", "tuning.weight_decay is nan; give 0 or more"),
    "NaN": ("tuning.lora.dropout=NaN", "tuning.lora.dropout is nan; give 0 or more, below 1"),
    "infinity": (
        "tuning.clip=infinity",
        "tuning.clip is inf; give more than 0, and",
    ),
    "negative": (
        "tuning.lora.dropout=-0.1",
        "tuning.lora.dropout is -0.1; give 0 or more, below 1",
    ),
    "beyond a float": ("tuning.clip=1e400", "tuning.clip is inf; give more than 0, and finite"),
    "rounds to one": (
        "evaluation.confidence=0.9999999999999999",
        "evaluation.confidence is 0.9999999999999999; give 0.5 to 0.9999",
    ),
    "beyond 32 bits": ("seed=4294967296", "seed is 4294967296; give 0 to 4,294,967,295"),
    "beyond 63 bits": (f"dataset.train={2**63}", f"dataset.train is {2**63}; give 1 to"),
    "beyond 64 bits": (f"seed={2**64}", f"seed is {2**64}; give 0 to"),
    "a thousand digits": (f"seed={'9' * 1000}", "... (1,000 characters); give 0 to"),
    "5,000 digits": (f"seed={'9' * 5000}", "seed has a number of more than 4,000 digits"),
    "5,000 digits in quotes": (
        f"seed='{'9' * 5000}'",
        "seed has a number of more than 4,000 digits",
    ),
    "a truth for a count": ("seed=true", "invalid value for seed: 'True'; give a whole number"),
    "a truth for a number": ("tuning.clip=true", "invalid value for tuning.clip", "give a number"),
    "a word for a number": ("tuning.clip=.nan", "invalid value for tuning.clip", "give a number"),
    "no store": ("store.path=''", "store.path is '', which names nothing; give a name"),
    "nobody's folder": (
        'store.path="~no-such-user/x"',
        "store.path is ~no-such-user/x, and this system has no such user; give the whole path",
    ),
    "no cache": ("model.cache=''", "model.cache is '', which names nothing; give a name, or null"),
    "a filter of the likeliest token": (
        "evaluation.sampling.top_p=0.9",
        "evaluation.sampling.top_p=0.9 does nothing while evaluation.sampling.temperature=0 takes",
    ),
    "a local teacher's filter": (
        "teacher=local_model teacher.min_p=0.1",
        "teacher.min_p=0.1 does nothing while teacher.temperature=0 takes the likeliest token",
    ),
    "samples that do not differ": (
        "score.samples.temperature=0",
        "score.samples.temperature is 0.0; give more than 0, up to 10",
    ),
    "a mode twice": ("evaluation.modes=[answer,answer]", "evaluation.modes names 'answer' 2 times"),
}


@pytest.mark.parametrize(
    ("given", "parts"), [(case[0], case[1:]) for case in COMMANDS.values()], ids=list(COMMANDS)
)
def test_the_command_line_says_what_is_allowed(given: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:
        compose(given.split(" "))
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Range(1, 9), "1 to 9"),
        (Range(0, 1, above=True), "more than 0, up to 1"),
        (Range(0, 1, below=True), "0 or more, below 1"),
        (Range(0, inf, above=True, below=True), "more than 0, and finite"),
        (Range(0, inf, below=True), "0 or more, and finite"),
        (ANY_FINITE, "a finite number"),
        (Range(0.5, 0.9999), "0.5 to 0.9999"),
    ],
)
def test_a_range_in_words(given: Range, message: str) -> None:
    assert str(given) == message


def test_parts_of_a_config_are_checked_where_they_stand() -> None:
    config = OpenAITeacherConfig(name="t")
    config.budget_usd = -1
    with pytest.raises(UserError, match=r"^elsewhere\.budget_usd is -1; give 0 to"):
        check_dials(config, "elsewhere")


def test_a_trainers_words_are_checked_with_its_numbers() -> None:
    with pytest.raises(UserError, match=r"trainer\.accelerator is 'abacus'.*auto"):
        compose(["trainer.accelerator=abacus"])


@pytest.mark.parametrize("dial", ["model.path", "dataset.name", "tuning.start_from", "store.path"])
def test_a_name_that_no_file_can_have_is_refused_short(dial: str) -> None:
    with pytest.raises(UserError, match=rf"^{dial} is x+\.\.\. \(5,002 characters\)") as error:
        compose([f"{dial}=" + "x" * 5000 + "/a"])
    assert len(str(error.value)) < 200
