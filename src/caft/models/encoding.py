"""Prompts and replies as token ids, and the check that no token spans both.

Prompt and reply are always tokenised as one text, and the prompt's ids are what the two have in
common with the prompt alone; a tokenizer that merges across the seam is refused, never patched.
Exactly one BOS: a chat template writes its own, a completion prompt gets the tokenizer's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from caft.errors import UserError
from caft.models.chat_template import has_chat_template, render_closed_turn, render_turns
from caft.models.thinking_span import thinking_form_of
from caft.protocols import Tokenizer
from caft.text.config import PromptStyle
from caft.text.prompts import Prompt

log = logging.getLogger(__name__)
_PIECE_WINDOW = 6
# Equal ids are one object: prompts of 12,000 questions hold millions, of 32 bytes each.
_ONE_OF_EACH: dict[int, int] = {}
_ONE_TOKEN = {
    True: "use dataset.prompt.option_ids=letters, fewer options, or another prompt wording",
    False: "give a dataset.answer_set of single letters or digits and write the answers so, or "
    "set dataset.answer_set=[] with dataset=text for free text",
}
"""The advice if an option's id, or a member of an answer set, is several tokens."""


@dataclass(frozen=True, slots=True)
class AnswerPrompt:
    """A prompt whose very next token is the answer; `label_ids` holds one token a label."""

    prompt_ids: tuple[int, ...]
    label_ids: tuple[int, ...]


def uses_chat_template(style: PromptStyle, tokenizer: Tokenizer) -> bool:
    """Whether prompts use the chat template; UserError if it is required and there is none."""
    if style is PromptStyle.chat and not has_chat_template(tokenizer):
        raise UserError(
            "dataset.prompt.style is chat, but the model's tokenizer has no chat template; "
            "use dataset.prompt.style=completion or an instruction-tuned model"
        )
    return has_chat_template(tokenizer) if style is PromptStyle.auto else style is PromptStyle.chat


def render_prompt(
    prompt: Prompt, tokenizer: Tokenizer, *, thinking: bool = False, closed: bool = True
) -> str:
    """The exact text the model reads, up to where the reply's own text begins.

    `thinking` asks templates to open a thinking span; one that opens it unasked is left open
    where the prompt is not to be `closed`. UserError as in `render_turns`.
    """
    if not prompt.messages:
        return harmless(prompt.text, tokenizer)
    turns = [
        {"role": turn.role, "content": harmless(turn.content, tokenizer)}
        for turn in prompt.messages
    ]
    return render_turns(tokenizer, turns, thinking=thinking, closed=closed)


def encode_prompt(
    prompt: Prompt, tokenizer: Tokenizer, *, thinking: bool = False, closed: bool = True
) -> tuple[int, ...]:
    """Token ids of the prompt alone."""
    rendered = render_prompt(prompt, tokenizer, thinking=thinking, closed=closed)
    return _encode([rendered], prompt, tokenizer)[0]


@lru_cache(maxsize=2**16)
def token_text(tokenizer: Tokenizer, token: int) -> str:
    """The text of a token alone: quicker than that of many, to see what it may be a part of."""
    return tokenizer.decode([token])


def token_pieces(ids: Sequence[int], tokenizer: Tokenizer) -> tuple[str, ...]:
    """The text that each token adds; joined they are the whole text, special tokens included.

    Tokens that hold only a part of a character add nothing until its last one comes.
    """
    pieces, start, known = [], 0, ""
    for end in range(1, len(ids) + 1):
        # A few tokens back are enough for spaces and broken characters; to decode all of them would
        # be quadratic for a long reply.
        text = tokenizer.decode(ids[start:end], clean_up_tokenization_spaces=False)
        broken = text.endswith("\ufffd") and end < len(ids)
        pieces.append("" if broken else text[len(known) :])
        if not broken:
            start = max(start, end - _PIECE_WINDOW)
            known = tokenizer.decode(ids[start:end], clean_up_tokenization_spaces=False)
    return tuple(pieces)


def encode_answer_prompt(
    prompt: Prompt, tokenizer: Tokenizer, labels: Sequence[str], *, listed: bool = True
) -> AnswerPrompt:
    """The prompt up to the token that is the answer, and that token for every label.

    The labels are found in context: each of them follows the prompt in turn, and what they have in
    common is the prompt. A tokenizer that writes " 5" as a space and a digit thus keeps the space
    on the prompt's side. UserError if a label is not exactly one token of its own, or merges
    with the prompt's end; `listed` says whether labels are ids of options or an answer set.
    """
    rendered = render_prompt(prompt, tokenizer)
    texts = [rendered, *(rendered + prompt.joiner + label for label in labels)]
    alone, *rows = _encode(texts, prompt, tokenizer)
    shared = min(len(row) for row in rows) - 1
    if rows[0][: len(alone)] != alone or shared < len(alone):
        raise _merged(labels[0])
    for label, row in zip(labels, rows, strict=True):
        if len(row) != shared + 1 or row[:shared] != rows[0][:shared]:
            pieces = tokenizer.convert_ids_to_tokens(row[shared:])
            raise UserError(
                f"the answer {label!r} is not one token of this tokenizer here ({pieces}); "
                f"{_ONE_TOKEN[listed]}"
            )
    label_ids = tuple(row[shared] for row in rows)
    if len(set(label_ids)) < len(label_ids):
        raise UserError(
            f"this tokenizer writes two of the answers {', '.join(labels)} as the same token; "
            "give answers that differ in more than case or accents"
        )
    return AnswerPrompt(rows[0][:shared], label_ids)


def encode_reply(
    prompt: Prompt, reply: str, tokenizer: Tokenizer
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Token ids of the prompt and of the reply that follows it, tokenised as one text.

    The reply's text never has special tokens. UserError if the two merge at the seam.
    """
    rendered = render_prompt(prompt, tokenizer)
    written = prompt.joiner + harmless(reply, tokenizer)
    return _encode_written(rendered, written, prompt, tokenizer)


def encode_thinking(
    prompt: Prompt, reasoning: str, reply: str, tokenizer: Tokenizer
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """As `encode_reply`, of a reply that thinks first: both texts stand as the template has them.

    The prompt is the one that asks the model to think; the marks that it does not have yet belong
    to the reply. UserError if the model has no thinking span.
    """
    form = thinking_form_of(prompt, tokenizer)
    rendered = render_prompt(prompt, tokenizer, thinking=True)
    written = form.write(harmless(reasoning, tokenizer), harmless(reply, tokenizer))
    return _encode_written(rendered, written, prompt, tokenizer)


def _encode_written(
    rendered: str, written: str, prompt: Prompt, tokenizer: Tokenizer
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    alone, whole = _encode([rendered, rendered + written], prompt, tokenizer)
    if whole[: len(alone)] != alone or len(whole) == len(alone):
        raise _merged(written.removeprefix(prompt.joiner))
    return alone, whole[len(alone) :]


def _merged(reply: str) -> UserError:
    return UserError(
        f"prompt and reply merge into other tokens where they meet (reply {reply[:40]!r}); "
        "end dataset.prompt's wordings without a space or with a colon"
    )


def end_of_turn(tokenizer: Tokenizer, *, chat: bool) -> int:
    """The token that ends a reply: the template's own after a chat turn, else EOS.

    Logged where a template has none.
    """
    if chat:
        tail = render_closed_turn(tokenizer).strip()
        ids = tokenizer(tail, add_special_tokens=False).input_ids
        # `all_special_ids` lacks those that only the added tokens declare, such as Phi-3's <|end|>.
        if ids and tokenizer.convert_ids_to_tokens(ids[0]) in special_tokens(tokenizer):
            return int(ids[0])
        _tell_of_end(repr(tail[:60]) if tail else "nothing", str(tokenizer.eos_token))
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no end-of-text token; give a model that has one")
    return int(tokenizer.eos_token_id)


@lru_cache(maxsize=16)  # once, and not in every stage
def _tell_of_end(written: str, eos: str) -> None:
    log.warning(
        "the chat template writes %s behind a reply, which is no special token: replies are "
        "trained to end with %r; if the model ends its turns with another token, "
        "make that one special in its tokenizer_config.json",
        written,
        eos,
    )


def harmless(text: str, tokenizer: Tokenizer) -> str:
    """`text` without special tokens: each is broken by a space after its first character.

    Questions, options and teachers' replies are data; none of them may open or close a turn.
    """
    for token in special_tokens(tokenizer):
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


@lru_cache(maxsize=16)  # called for every turn; a loaded tokenizer gets no new tokens
def special_tokens(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Every text that the tokenizer reads as a special token, longest first."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    known = added | set(tokenizer.all_special_tokens)
    return tuple(sorted((token for token in known if len(token) > 1), key=len, reverse=True))


@lru_cache(maxsize=16)
def special_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens that a reply's text leaves out."""
    known = tokenizer.added_tokens_decoder.items()
    return frozenset(number for number, token in known if token.special)


def _encode(texts: list[str], prompt: Prompt, tokenizer: Tokenizer) -> list[tuple[int, ...]]:
    # verbose: the tokenizer would warn of long rows, which refuse_long_prompts reports.
    encoded = tokenizer(texts, add_special_tokens=not prompt.messages, verbose=False).input_ids
    if not prompt.messages:
        ends = [tokenizer.eos_token_id]
        encoded = [ids[:-1] if ids[-1:] == ends else ids for ids in encoded]
    return [tuple(_ONE_OF_EACH.setdefault(token, token) for token in ids) for ids in encoded]
