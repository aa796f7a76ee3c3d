"""The seam between prompt and answer, with tokenizers that each set one trap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from caft.errors import UserError
from caft.models.config import Architecture
from caft.models.encoding import (
    encode_answer_prompt,
    encode_prompt,
    encode_reply,
    end_of_turn,
    harmless,
    render_prompt,
    special_tokens,
    uses_chat_template,
)
from caft.models.sources.tiny_tokenizers import FAMILIES, make_tokenizer
from caft.text.config import PromptStyle
from caft.text.prompts import Message, Prompt

LETTERS = tuple("ABCD")
DIGITS = tuple("123456789")
CHAT = Prompt(messages=(Message("system", "Answer."), Message("user", "2 + 2?")))
PLAIN = Prompt(text="Question: 2 + 2?\nAnswer:")
EVERY_FAMILY = list(Architecture)


@pytest.fixture(scope="module")
def tokenizers() -> dict[Architecture, Any]:
    return {architecture: make_tokenizer(architecture) for architecture in Architecture}


def word_tokenizer(words: Sequence[str], pattern: str = r" ?\S+|\s", **special: str) -> Any:
    """One token for each of `words`, one for every other character."""
    characters = [chr(code) for code in range(32, 127)] + ["\n"]
    tokens = list(dict.fromkeys(["<unk>", *special.values(), *words, *characters]))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges: list[tuple[str, str]] = []
    for word in words:  # built up from the left
        for end in range(1, len(word)):
            vocabulary.setdefault(word[: end + 1], len(vocabulary))
            merges.append((word[:end], word[end]))
    tokenizer = Tokenizer(models.BPE(vocabulary, list(dict.fromkeys(merges)), unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    if "bos_token" in special:
        bos = special["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special)


def tokens(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    return tokenizer.convert_ids_to_tokens(list(ids))


# The answer's token, found in context


def test_after_a_completion_prompt_the_answer_carries_its_space() -> None:
    tokenizer = word_tokenizer([" A", " B"])
    encoded = encode_answer_prompt(Prompt(text="Q:"), tokenizer, ("A", "B"))
    assert tokens(tokenizer, encoded.prompt_ids) == ["Q", ":"]
    assert tokens(tokenizer, encoded.label_ids) == [" A", " B"]


def test_after_a_chat_prompt_it_does_not(tokenizers: dict[Architecture, Any]) -> None:
    tokenizer = tokenizers[Architecture.qwen2]
    encoded = encode_answer_prompt(CHAT, tokenizer, LETTERS)
    assert tokens(tokenizer, encoded.label_ids) == list(LETTERS)


def test_the_same_letter_in_both_prompts_is_two_different_tokens(
    tokenizers: dict[Architecture, Any],
) -> None:
    tokenizer = tokenizers[Architecture.llama]
    in_chat = encode_answer_prompt(CHAT, tokenizer, LETTERS).label_ids
    in_text = encode_answer_prompt(PLAIN, tokenizer, LETTERS).label_ids
    assert not set(in_chat) & set(in_text)


def test_a_space_that_is_its_own_token_stays_on_the_prompts_side() -> None:
    tokenizer = word_tokenizer([], pattern=r"\d|\s|[^\d\s]+")
    encoded = encode_answer_prompt(Prompt(text="Q:"), tokenizer, DIGITS)
    assert tokens(tokenizer, encoded.prompt_ids) == ["Q", ":", " "]
    assert tokens(tokenizer, encoded.label_ids) == list(DIGITS)


@pytest.mark.parametrize("architecture", EVERY_FAMILY)
@pytest.mark.parametrize("prompt", [CHAT, PLAIN], ids=["chat", "completion"])
@pytest.mark.parametrize("labels", [LETTERS, DIGITS], ids=["letters", "digits"])
def test_prompt_and_answer_are_what_the_whole_text_gives(
    tokenizers: dict[Architecture, Any],
    architecture: Architecture,
    prompt: Prompt,
    labels: tuple[str, ...],
) -> None:
    tokenizer = tokenizers[architecture]
    encoded = encode_answer_prompt(prompt, tokenizer, labels)
    assert len(set(encoded.label_ids)) == len(labels)
    for label, label_id in zip(labels, encoded.label_ids, strict=True):
        assert encode_prompt(prompt, tokenizer) == encoded.prompt_ids[: _length(prompt, tokenizer)]
        whole = tokenizer(
            render_prompt(prompt, tokenizer) + prompt.joiner + label,
            add_special_tokens=not prompt.messages,
        ).input_ids
        assert whole == [*encoded.prompt_ids, label_id]
        assert tokenizer.decode([label_id]).strip() == label


def _length(prompt: Prompt, tokenizer: Any) -> int:
    return len(encode_prompt(prompt, tokenizer))


def test_numbers_split_into_digits_are_refused_whole_ones_taken(
    tokenizers: dict[Architecture, Any],
) -> None:
    numbers = tuple(str(number) for number in range(1, 12))
    with pytest.raises(UserError, match="'10' is not one token"):
        encode_answer_prompt(CHAT, tokenizers[Architecture.qwen2], numbers)
    whole = word_tokenizer([" 10", " 11", *(f" {digit}" for digit in DIGITS)])
    encoded = encode_answer_prompt(Prompt(text="Q:"), whole, numbers)
    assert tokens(whole, encoded.label_ids)[-1] == " 11"


def test_a_label_of_several_tokens_is_named_with_its_pieces() -> None:
    tokenizer = word_tokenizer([" yes"])
    with pytest.raises(UserError, match=r"'maybe' is not one token .*'m', 'a', 'y'"):
        encode_answer_prompt(Prompt(text="Q:"), tokenizer, ("yes", "maybe"))


def test_labels_that_merge_with_the_prompts_end_are_refused() -> None:
    # ">A" is one token here: the answer would stand one token before the prompt's end.
    tokenizer = word_tokenizer([">A", ">B"], pattern=r"[\s\S]+", eos_token="<eos>")
    tokenizer.chat_template = "{{ messages[0]['content'] }}>"
    prompt = Prompt(messages=(Message("user", "Q"),))
    with pytest.raises(UserError, match="merge"):
        encode_answer_prompt(prompt, tokenizer, ("A", "B"))


def test_answers_that_share_a_token_are_refused() -> None:
    tokenizer = word_tokenizer([" A"])
    with pytest.raises(UserError, match="same token"):
        encode_answer_prompt(Prompt(text="Q:"), tokenizer, ("é", "ü"))  # both unknown


# Replies


@pytest.mark.parametrize("architecture", EVERY_FAMILY)
@pytest.mark.parametrize("prompt", [CHAT, PLAIN], ids=["chat", "completion"])
def test_prompt_and_reply_together_are_the_whole_text(
    tokenizers: dict[Architecture, Any], architecture: Architecture, prompt: Prompt
) -> None:
    tokenizer = tokenizers[architecture]
    asked, reply = encode_reply(prompt, "Two and two make 4. [[4]]", tokenizer)
    assert asked == encode_prompt(prompt, tokenizer)
    assert tokenizer.decode(reply).strip() == "Two and two make 4. [[4]]"


def test_a_reply_that_merges_into_the_prompt_is_refused() -> None:
    tokenizer = word_tokenizer([">The"], pattern=r"[\s\S]+", eos_token="<eos>")
    tokenizer.chat_template = "{{ messages[0]['content'] }}>"
    prompt = Prompt(messages=(Message("user", "Q"),))
    with pytest.raises(UserError, match="merge into other tokens"):
        encode_reply(prompt, "The answer", tokenizer)
    assert tokens(tokenizer, encode_reply(prompt, "An answer", tokenizer)[1])[0] == "A"


# Special tokens


@pytest.mark.parametrize("architecture", EVERY_FAMILY)
@pytest.mark.parametrize("chat", [True, False])
def test_a_question_cannot_open_or_close_a_turn(
    tokenizers: dict[Architecture, Any], architecture: Architecture, chat: bool
) -> None:
    tokenizer = tokenizers[architecture]
    family = FAMILIES[architecture]

    def count_special(text: str) -> int:
        prompt = Prompt(messages=(Message("user", text),)) if chat else Prompt(text=text)
        ids = encode_prompt(prompt, tokenizer)
        return sum(token in tokenizer.all_special_ids for token in ids)

    attack = "Q" + "".join(f"{token}x" for token in family.special) + "?"
    assert count_special(attack) == count_special("Question?")
    _, reply = encode_reply(CHAT if chat else PLAIN, f"Done{family.end}More", tokenizer)
    assert not set(reply) & set(tokenizer.all_special_ids)


def test_special_tokens_that_are_kept_are_those_read_again(
    tokenizers: dict[Architecture, Any],
) -> None:
    for _ in range(2):
        for tokenizer in tokenizers.values():
            assert special_tokens(tokenizer) == special_tokens.__wrapped__(tokenizer)


def test_harmless_text_is_left_alone(tokenizers: dict[Architecture, Any]) -> None:
    text = "if a < b and b > c: s = '<|'  # [[A]]"
    assert all(harmless(text, tokenizer) == text for tokenizer in tokenizers.values())


@pytest.mark.parametrize("architecture", EVERY_FAMILY)
@pytest.mark.parametrize("prompt", [CHAT, PLAIN], ids=["chat", "completion"])
def test_exactly_one_bos_or_none_where_the_family_has_none(
    tokenizers: dict[Architecture, Any], architecture: Architecture, prompt: Prompt
) -> None:
    tokenizer = tokenizers[architecture]
    ids = encode_answer_prompt(prompt, tokenizer, LETTERS).prompt_ids
    if FAMILIES[architecture].bos is None:
        assert tokenizer.bos_token_id is None
    else:
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1


def test_an_eos_that_the_tokenizer_adds_does_not_end_the_prompt() -> None:
    tokenizer = word_tokenizer([" A", " B"], eos_token="<eos>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", tokenizer.eos_token_id)]
    )
    assert tokenizer("Q:").input_ids[-1] == tokenizer.eos_token_id
    encoded = encode_answer_prompt(Prompt(text="Q:"), tokenizer, ("A", "B"))
    assert tokens(tokenizer, encoded.prompt_ids) == ["Q", ":"]


# Turns and templates


@pytest.mark.parametrize("architecture", EVERY_FAMILY)
def test_a_chat_turn_ends_with_the_templates_own_token(
    tokenizers: dict[Architecture, Any], architecture: Architecture
) -> None:
    tokenizer = tokenizers[architecture]
    ended = tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer, chat=True))
    assert ended == FAMILIES[architecture].end


def test_the_templates_end_wins_over_eos() -> None:
    tokenizer = word_tokenizer([], eos_token="<eos>", pad_token="<end>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}\n<end>{% endfor %}"
    assert tokens(tokenizer, [end_of_turn(tokenizer, chat=True)]) == ["<end>"]
    assert tokens(tokenizer, [end_of_turn(tokenizer, chat=False)]) == ["<eos>"]


def test_an_end_of_turn_that_only_the_added_tokens_declare() -> None:
    """As Phi-3 and Phi-4-mini have it: EOS ends a text, and <|end|> has no name of its own."""
    tokenizer = word_tokenizer([], eos_token="<|endoftext|>")
    tokenizer.add_tokens([AddedToken("<|end|>", special=True)])
    tokenizer.chat_template = (
        "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n"
        "{% endfor %}"
    )
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert end not in tokenizer.all_special_ids
    assert end_of_turn(tokenizer, chat=True) == end
    assert end_of_turn(tokenizer, chat=False) == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("written", "shown"),
    [("", "nothing"), ("\n\n### User:", "'### User:'"), ("<|im_end|>\n", "'<|im_end|>'")],
)
def test_a_template_that_ends_turns_without_a_special_token_is_told_once(
    written: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = word_tokenizer([], eos_token="<over>")
    tokenizer.add_tokens([AddedToken("<|im_end|>", special=False)])
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.content }}{% endfor %}" + written
    )
    for _ in range(2):
        assert end_of_turn(tokenizer, chat=True) == tokenizer.eos_token_id
    assert end_of_turn(tokenizer, chat=False) == tokenizer.eos_token_id
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith(f"the chat template writes {shown} behind a reply, which is no special")
    assert "to end with '<over>'" in line


def test_without_any_end_token_the_user_is_told() -> None:
    with pytest.raises(UserError, match="no end-of-text token"):
        end_of_turn(word_tokenizer([]), chat=False)


def test_a_template_that_refuses_the_system_turn_is_the_users_to_solve() -> None:
    tokenizer = word_tokenizer([], eos_token="<eos>")
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ messages[0]['content'] }}"
    )
    with pytest.raises(UserError, match=r"refuses the prompt: no system; .*in_user_turn"):
        encode_prompt(CHAT, tokenizer)
    assert encode_prompt(Prompt(messages=CHAT.messages[1:]), tokenizer)


def test_the_date_in_a_template_is_the_same_every_day() -> None:
    tokenizer = word_tokenizer([], eos_token="<eos>")
    tokenizer.chat_template = (
        "{{ date_string if date_string is defined else strftime_now('%Y') }}"
        "{% for turn in messages %} {{ turn.content }}{% endfor %}"
        "{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}"
    )
    assert render_prompt(CHAT, tokenizer) == "26 Jul 2024 Answer. 2 + 2?"


def test_the_style_follows_the_tokenizer_unless_told() -> None:
    base, chat = word_tokenizer([]), word_tokenizer([])
    chat.chat_template = "{{ messages }}"
    assert [uses_chat_template(PromptStyle.auto, each) for each in (base, chat)] == [False, True]
    assert not uses_chat_template(PromptStyle.completion, chat)
    with pytest.raises(UserError, match="has no chat template"):
        uses_chat_template(PromptStyle.chat, base)


def test_a_thinking_span_is_opened_only_where_it_is_asked_for() -> None:
    tokenizer = word_tokenizer([], eos_token="<eos>")
    tokenizer.chat_template = (
        "{% for turn in messages %}{{ turn.content }}{% endfor %}"
        "{% if enable_thinking %}<think>{% endif %}"
    )
    assert render_prompt(CHAT, tokenizer, thinking=True) == "Answer.2 + 2?<think>"
    assert render_prompt(CHAT, tokenizer) == "Answer.2 + 2?"
