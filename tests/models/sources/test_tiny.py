"""Each tiny model is its architecture's real class, with a tokenizer that has its family's trap."""

from pathlib import Path
from typing import Any

import pytest

from caft.models.config import Architecture, Dtype, TinyModelConfig
from caft.models.fingerprint import model_fingerprint
from caft.models.loading import load_model, load_tokenizer
from caft.models.sources.locate import locate_model

TURNS = [
    {"role": "system", "content": "You answer questions about history."},
    {"role": "user", "content": "12 + 7 = ?\nA. 19\nB. 21"},
]
TEXT = "Question: 12 + 7 = 19\nAnswer: [[A]] ~`{}|\\ \t<0x41> é 日本"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def tiny(cache: Path, architecture: Architecture, **changes: Any) -> TinyModelConfig:
    values: dict[str, Any] = {"architecture": architecture, "cache": str(cache), **changes}
    return TinyModelConfig(name="tiny", id="tiny", dtype=Dtype.float32, **values)


def tokenizer_of(cache: Path, architecture: Architecture) -> Any:
    config = tiny(cache, architecture)
    return load_tokenizer(locate_model(config), config)


def pieces(tokenizer: Any, text: str) -> list[str]:
    ids = tokenizer(text, add_special_tokens=False).input_ids
    return list(tokenizer.convert_ids_to_tokens(ids))


@pytest.mark.parametrize(
    ("architecture", "name", "layers"),
    [
        (Architecture.llama, "LlamaForCausalLM", {"q_proj", "k_proj", "v_proj", "gate_proj"}),
        (Architecture.qwen2, "Qwen2ForCausalLM", {"q_proj", "k_proj", "v_proj", "gate_proj"}),
        (Architecture.phi3, "Phi3ForCausalLM", {"qkv_proj", "gate_up_proj"}),
    ],
)
def test_the_class_is_the_real_one(
    cache: Path, architecture: Architecture, name: str, layers: set[str]
) -> None:
    config = tiny(cache, architecture)
    model = load_model(locate_model(config), config)
    linear = {path.rsplit(".")[-1] for path, _ in model.named_modules()}
    assert type(model).__name__ == name
    assert layers <= linear
    assert not model.training
    assert 100_000 < model.num_parameters() < 300_000


def test_llama_shares_key_value_heads_and_qwen2_its_embeddings(cache: Path) -> None:
    configs = {}
    for architecture in Architecture:
        config = tiny(cache, architecture)
        configs[architecture] = load_model(locate_model(config), config).config
    llama = configs[Architecture.llama]
    assert llama.num_key_value_heads < llama.num_attention_heads
    assert [configs[name].tie_word_embeddings for name in Architecture] == [False, True, False]


@pytest.mark.parametrize("architecture", list(Architecture))
def test_any_text_comes_back(cache: Path, architecture: Architecture) -> None:
    tokenizer = tokenizer_of(cache, architecture)
    printable = "".join(map(chr, range(33, 127)))
    for text in (TEXT, printable):
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    assert 500 <= len(tokenizer) <= 1000


@pytest.mark.parametrize("architecture", list(Architecture))
def test_a_rendered_chat_begins_once_and_ends_where_the_reply_follows(
    cache: Path, architecture: Architecture
) -> None:
    tokenizer = tokenizer_of(cache, architecture)
    ids = tokenizer.apply_chat_template(TURNS, add_generation_prompt=True)["input_ids"]
    begins = 0 if architecture is Architecture.qwen2 else 1
    assert ids.count(tokenizer.bos_token_id) == begins
    assert ids.count(tokenizer.eos_token_id) == 2  # one a turn; the assistant's is open
    closed = tokenizer.apply_chat_template([*TURNS, {"role": "assistant", "content": "A"}])
    reply = tokenizer.convert_ids_to_tokens(closed["input_ids"][len(ids) :])
    assert closed["input_ids"][: len(ids)] == ids
    assert reply[:2] == [
        "▁A" if architecture is Architecture.phi3 else "A",
        tokenizer.eos_token,
    ]


@pytest.mark.parametrize(
    ("architecture", "begins"),
    [(Architecture.llama, 2), (Architecture.qwen2, 0), (Architecture.phi3, 2)],
)
def test_tokenising_a_rendered_chat_the_plain_way_doubles_bos(
    cache: Path, architecture: Architecture, begins: int
) -> None:
    tokenizer = tokenizer_of(cache, architecture)
    text = tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=True)
    assert tokenizer(text).input_ids.count(tokenizer.bos_token_id) == begins


@pytest.mark.parametrize("architecture", list(Architecture))
def test_the_end_of_turn_is_neither_padding_nor_bos(
    cache: Path, architecture: Architecture
) -> None:
    config = tiny(cache, architecture)
    folder = locate_model(config)
    tokenizer, model = load_tokenizer(folder, config), load_model(folder, config)
    special = {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id}
    assert len(special) == 3
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert model.generation_config.eos_token_id[0] == tokenizer.eos_token_id
    assert model.config.vocab_size == len(tokenizer)


def test_a_space_before_a_letter_is_another_token_except_at_phi3s_start(cache: Path) -> None:
    llama = tokenizer_of(cache, Architecture.llama)
    qwen2 = tokenizer_of(cache, Architecture.qwen2)
    phi3 = tokenizer_of(cache, Architecture.phi3)
    for tokenizer in (llama, qwen2):
        assert pieces(tokenizer, "A") == ["A"]
        assert pieces(tokenizer, " A") == ["ĠA"]
    assert pieces(phi3, "A") == pieces(phi3, " A") == ["▁A"]
    assert pieces(phi3, "[A") == ["▁", "[", "A"]


def test_digits_are_whole_or_single(cache: Path) -> None:
    expected = {
        Architecture.llama: ["Ġ", "12", "Ġ+", "Ġ", "7"],
        Architecture.qwen2: ["Ġ", "1", "2", "Ġ+", "Ġ", "7"],
        Architecture.phi3: ["▁12", "▁+", "▁7"],
    }
    for architecture, tokens in expected.items():
        assert pieces(tokenizer_of(cache, architecture), " 12 + 7") == tokens


@pytest.mark.parametrize("architecture", list(Architecture))
def test_every_option_letter_is_one_token_after_a_colon(
    cache: Path, architecture: Architecture
) -> None:
    tokenizer = tokenizer_of(cache, architecture)
    before = pieces(tokenizer, "Answer:")
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        after = pieces(tokenizer, f"Answer: {letter}")
        assert after[:-1] == before, letter


def test_byte_tokens_in_a_text_are_text(cache: Path) -> None:
    tokenizer = tokenizer_of(cache, Architecture.phi3)
    assert "<0x41>" not in pieces(tokenizer, "<0x41>")
    assert pieces(tokenizer, "\n") == ["▁", "<0x0A>"]


@pytest.mark.parametrize("architecture", list(Architecture))
def test_the_same_config_gives_the_same_model_everywhere(
    cache: Path, tmp_path: Path, architecture: Architecture
) -> None:
    here, there = tiny(cache, architecture), tiny(tmp_path, architecture)
    assert locate_model(here) != locate_model(there)
    assert model_fingerprint(locate_model(here), here) == model_fingerprint(
        locate_model(there), there
    )


def test_every_dial_makes_another_model(cache: Path) -> None:
    configs = [
        tiny(cache, Architecture.llama),
        tiny(cache, Architecture.llama, weights_seed=1),
        tiny(cache, Architecture.llama, layers=1),
        tiny(cache, Architecture.llama, hidden_size=32),
    ]
    assert len({model_fingerprint(locate_model(config), config) for config in configs}) == 4


def test_making_one_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    locate_model(tiny(tmp_path, Architecture.qwen2, layers=1))
    assert torch.equal(torch.rand(3), expected)


def test_questions_get_different_entropies(cache: Path) -> None:
    import torch

    config = tiny(cache, Architecture.llama)
    folder = locate_model(config)
    model, tokenizer = load_model(folder, config), load_tokenizer(folder, config)
    entropies = []
    for text in ("1 + 2 =", "7 - 5 =", "Answer:"):
        ids = torch.tensor([tokenizer(text).input_ids])
        with torch.no_grad():
            logp = model(ids).logits[0, -1].log_softmax(-1)
        entropies.append(float(-(logp.exp() * logp).sum()))
    assert max(entropies) - min(entropies) > 0.05
