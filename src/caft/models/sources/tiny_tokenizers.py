"""Small tokenizers, one a family, each with its family's pitfall; trained on text in this file.

- Llama: byte-level BPE, up to three digits in one token, and a BOS that the tokenizer adds and the
  chat template writes too: a rendered template that is tokenised with default settings has it
  twice.
- Qwen2: byte-level BPE, every digit a token of its own, no BOS at all.
- Phi3: SentencePiece's kind. Words carry their leading space, and a text's first word gets one that
  is not in the text: "A" at the start of a turn is the same token as " A". Newlines and all
  characters beyond ASCII are byte tokens. Its turn tokens swallow the white space after them.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from caft import protocols
from caft.models.config import Architecture

if TYPE_CHECKING:
    from tokenizers import Tokenizer, models

CONTEXT = 2048
LEARNT_TOKENS = 640
"""Tokens beyond special ones and bytes: the letters of ASCII, and what is merged from them."""

_WORDS = r" ?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+"
WHOLE_NUMBERS = _WORDS + r"|\p{N}{1,3}" + _REST
SINGLE_DIGITS = _WORDS + r"|\p{N}" + _REST

_LLAMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_QWEN2_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    "<|im_start|>system\nYou answer questions.<|im_end|>\n{% endif %}"
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_PHI3_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

_PHRASES = (
    ("You", "The teacher", "A student", "Our model", "This machine", "Every careful reader"),
    ("answer", "solve", "write down", "check", "think about", "reply with"),
    (
        "multiple choice questions about {subject}",
        "the id of the correct option",
        "a short worked solution",
        "general knowledge, history, law and physics",
        "which of the following statements is true",
        "what remains of the number",
    ),
    (
        "step by step",
        "at once and nothing else",
        "in double square brackets [[A]]",
        "because the first part follows from the second",
        "before the end of the day",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Special tokens and chat template of a family; `end` closes a turn, `stop` a document."""

    bos: str | None
    end: str
    stop: str
    pad: str
    others: tuple[str, ...] = ()
    unknown: str | None = None
    template: str

    @property
    def special(self) -> list[str]:
        """Every special token, each once, in the order of their ids."""
        named = (self.unknown, self.bos, self.stop, self.end, self.pad, *self.others)
        return list(dict.fromkeys(token for token in named if token))


FAMILIES = {
    Architecture.llama: Family(
        bos="<|begin_of_text|>",
        end="<|eot_id|>",
        stop="<|end_of_text|>",
        pad="<|pad|>",
        others=("<|start_header_id|>", "<|end_header_id|>"),
        template=_LLAMA_TEMPLATE,
    ),
    Architecture.qwen2: Family(
        bos=None,
        end="<|im_end|>",
        stop="<|endoftext|>",
        pad="<|endoftext|>",
        others=("<|im_start|>",),
        template=_QWEN2_TEMPLATE,
    ),
    Architecture.phi3: Family(
        bos="<s>",
        end="<|end|>",
        stop="</s>",
        pad="<|endoftext|>",
        others=("<|system|>", "<|user|>", "<|assistant|>"),
        unknown="<unk>",
        template=_PHI3_TEMPLATE,
    ),
}


def make_tokenizer(architecture: Architecture) -> protocols.Tokenizer:
    """A transformers tokenizer of the family's kind; the same one every time."""
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[architecture]
    tokenizer: protocols.Tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_train(architecture, family),
        bos_token=family.bos,
        eos_token=family.end,
        pad_token=family.pad,
        unk_token=family.unknown,
        model_max_length=CONTEXT,
    )
    tokenizer.chat_template = family.template
    return tokenizer


def _train(architecture: Architecture, family: Family) -> Tokenizer:
    if architecture is Architecture.phi3:
        return train_sentencepiece_like(family)
    whole = architecture is Architecture.llama
    return train_byte_level(family, WHOLE_NUMBERS if whole else SINGLE_DIGITS)


def practice_text() -> Iterator[str]:
    """Lines with the words, option ids and numbers that tests ask about."""
    for who, does, what, how in product(*_PHRASES):
        yield f"{who} {does} {what} {how}.\n\n"
    for role in ("system", "user", "assistant"):
        yield from [role, f"The {role} says"] * 50
    for letter in string.ascii_uppercase:
        yield from [f"Answer: {letter}", f"Option {letter} is right", f"{letter}. a word"] * 20
    for first, second in product(range(100), range(1, 20)):
        yield f"Question: {first} + {second} - 1 = {first + second - 1}"


def train_byte_level(family: Family, pattern: str) -> Tokenizer:
    """Byte-level BPE whose words are cut by `pattern`; adds the family's BOS, if there is one."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + len(family.special) + LEARNT_TOKENS,
        special_tokens=family.special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(practice_text(), trainer)
    return _add_bos(tokenizer, family)


def train_sentencepiece_like(family: Family) -> Tokenizer:
    """BPE over words with their leading space, with a byte token for all that is not ASCII."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=family.unknown))
    spaces = pre_tokenizers.Metaspace(prepend_scheme="always")
    punctuation = pre_tokenizers.Split(Regex(r"▁?[^\p{L}\p{N}▁]+"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([spaces, punctuation])
    trainer = trainers.BpeTrainer(
        vocab_size=LEARNT_TOKENS,
        initial_alphabet=sorted({*string.printable.strip(), "▁"}),
        show_progress=False,
    )
    tokenizer.train_from_iterator((line.strip() for line in practice_text()), trainer)
    # As in SentencePiece, punctuation steers the training only: no piece joins it to a word.
    tokenizer.pre_tokenizer = spaces
    tokenizer.model = _add_byte_tokens(tokenizer, family.special)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    tokenizer.add_special_tokens(
        [AddedToken(token, rstrip=token.startswith("<|")) for token in family.special]
    )
    return _add_bos(tokenizer, family)


def _add_byte_tokens(tokenizer: Tokenizer, special: Sequence[str]) -> models.BPE:
    # The trainer would make the byte tokens special: "<0x41>" in a text would then be the byte.
    from tokenizers import models

    trained = json.loads(tokenizer.to_str())["model"]
    learnt = sorted(trained["vocab"], key=trained["vocab"].__getitem__)
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *learnt]
    return models.BPE(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[tuple(pair) for pair in trained["merges"]],
        unk_token=special[0],
        fuse_unk=True,
        byte_fallback=True,
    )


def _add_bos(tokenizer: Tokenizer, family: Family) -> Tokenizer:
    from tokenizers import processors

    if family.bos is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A",
            pair=f"{family.bos} $A $B:1",
            special_tokens=[(family.bos, tokenizer.token_to_id(family.bos))],
        )
    return tokenizer
