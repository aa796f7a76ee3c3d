"""What each tool reads of a row, and whether it makes the run's tokens of it. Pure.

Formats as documented by the tools (2026-11):
- TRL 1.16: prompt-completion rows, huggingface.co/docs/trl/dataset_formats
- axolotl: tokenised rows, docs.axolotl.ai/docs/dataset-formats/tokenized.html
- LLaMA-Factory: alpaca columns named in dataset_info.json, and the template `empty`, which adds
  nothing, github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md
- ms-swift: messages, swift.readthedocs.io/en/latest/Customization/Custom-dataset.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from caft.export.configs import (
    Plan,
    configure_axolotl,
    configure_llama_factory,
    configure_ms_swift,
    configure_trl,
)
from caft.export.rows import Row, begins_with_bos
from caft.protocols import Tokenizer

_Ids = tuple[Sequence[int], Sequence[int]]
_Settings = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool that tunes. `command` starts its stages, inside the folder of the export.

    `files` are its configs by name. `writes_tokens`: it gets a second file a stage, of token ids.
    `adds_nothing`: it tokenises prompt and completion each by itself, and writes no BOS.
    """

    files: Callable[[Plan], dict[str, str]]
    command: str
    as_messages: bool = False
    writes_tokens: bool = False
    adds_nothing: bool = False


def write_row(row: Row, tokenizer: Tokenizer, *, as_messages: bool, bos: bool) -> _Settings:
    """What a tool trains of a row. Without `bos`, the tool's tokenizer writes it."""
    prompt = row.prompt if bos else _without_bos(row.prompt, tokenizer)
    if not as_messages:
        return {"prompt": prompt, "completion": row.completion}
    # Behind a reply that is no chat, ms-swift writes the end itself.
    turns = row.turns or (("user", prompt), ("assistant", row.completion.removesuffix(row.end)))
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def write_tokens(row: Row) -> _Settings:
    """Exactly the columns that axolotl asks for; -100 is in no loss."""
    prompt, completion = row.example.prompt_ids, row.example.completion_ids
    return {
        "input_ids": [*prompt, *completion],
        "attention_mask": [1] * row.example.length,
        "labels": [-100] * len(prompt) + list(completion),
    }


def keeps_tokens(tool: Tool, row: Row, tokenizer: Tokenizer) -> bool:
    """Whether the tool trains the tokens that the run trained.

    A chat is compared as the text that the model's own template makes of it; what follows the
    end-of-turn token is in no reply that the run trained.
    """
    if tool.writes_tokens:
        return True
    if tool.as_messages and row.turns:
        turns = [{"role": role, "content": text} for role, text in row.turns]
        whole = tokenizer.apply_chat_template(turns, tokenize=False)
        return str(whole).rstrip() == f"{row.prompt}{row.completion}".rstrip()
    made = (_apart if tool.adds_nothing else _joined)(row, tokenizer)
    return tuple(map(tuple, made)) == (row.example.prompt_ids, row.example.completion_ids)


def _joined(row: Row, tokenizer: Tokenizer) -> _Ids:
    """Tokenised as one text, by a tokenizer that adds its BOS."""
    prompt = _without_bos(row.prompt, tokenizer)
    alone = tokenizer(prompt).input_ids
    whole = tokenizer(prompt + row.completion).input_ids
    return whole[: len(alone)], whole[len(alone) :]


def _apart(row: Row, tokenizer: Tokenizer) -> _Ids:
    """Prompt and completion tokenised each by itself, by a tokenizer that adds nothing."""
    made = [
        tokenizer(text, add_special_tokens=False).input_ids for text in (row.prompt, row.completion)
    ]
    return made[0], made[1]


def _without_bos(text: str, tokenizer: Tokenizer) -> str:
    return text.removeprefix(tokenizer.bos_token or "") if begins_with_bos(tokenizer) else text


TOOLS: dict[str, Tool] = {
    "trl": Tool(files=configure_trl, command="python train.py"),
    "axolotl": Tool(
        files=configure_axolotl,
        command="axolotl train {stage}.yaml",
        writes_tokens=True,
        adds_nothing=True,
    ),
    "llama_factory": Tool(
        files=configure_llama_factory,
        command="llamafactory-cli train {stage}.yaml",
        adds_nothing=True,
    ),
    "ms_swift": Tool(files=configure_ms_swift, command="sh train.sh", as_messages=True),
    "messages": Tool(files=lambda _plan: {}, command="", as_messages=True),
}
"""By the name that `--to` takes."""
