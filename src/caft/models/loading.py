"""From a model folder to a tokenizer and a causal LM in memory."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partialmethod
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caft.errors import UserError, count_of
from caft.kernels.memory import (
    memory_may_end,
    multiplies_bfloat16,
    settle_cpu_memory,
    spare_imports,
)
from caft.models.config import Dtype, ModelConfig
from caft.models.sources.folder import explain_unused, read_settings, text_settings, without_buffers
from caft.program import install_hint
from caft.protocols import CausalLM, Tokenizer

if TYPE_CHECKING:
    import torch


def load_tokenizer(folder: Path, config: ModelConfig) -> Tokenizer:
    """The tokenizer that `folder` holds, which is nobody's to change: jobs of a process share it.

    Raises UserError if it cannot be read.
    """
    try:
        tokenizer = _read_tokenizer(folder, config.trust_remote_code, _file_state(folder))
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise _unloadable("tokenizer", folder, error, config) from error
    _refuse_tokens_without_weights(tokenizer, folder)
    return tokenizer


def _file_state(folder: Path) -> tuple[Hashable, ...]:
    found: list[Hashable] = []
    for path in sorted(folder.iterdir()):
        with suppress(OSError):  # a link whose target is gone, as of weights that were deleted
            s = path.stat()
            found.append((path.name, s.st_ino, s.st_size, s.st_mtime_ns))
    return tuple(found)


@lru_cache(maxsize=2)  # the student's and a local teacher's
def _read_tokenizer(folder: Path, trust_remote_code: bool, _state: Hashable) -> Tokenizer:
    from transformers import AutoTokenizer

    with quiet_transformers():
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trust_remote_code
        )
        tokenizer("a")  # some settings are wrong only for its use, as a text for a length is
    return tokenizer


def _refuse_tokens_without_weights(tokenizer: Tokenizer, folder: Path) -> None:
    values = read_settings(folder / "config.json")
    size = values.get("vocab_size") or text_settings(values).get("vocab_size")
    if not isinstance(size, int) or not size:
        return
    outside = [token for token, number in tokenizer.get_vocab().items() if number >= size]
    # An unused special token may be outside the vocabulary, as the image token of Gemma 3 (1B) is.
    written = {str(token) for token in tokenizer.special_tokens_map.values()}
    special = {str(one) for one in tokenizer.added_tokens_decoder.values() if one.special}
    template = str(tokenizer.chat_template or "")
    needed = [
        token for token in outside if token not in special or token in written or token in template
    ]
    if needed:
        raise UserError(
            f"the tokenizer in {folder} has {count_of(len(needed), 'token')} beyond the "
            f"model's vocabulary of {size} (vocab_size in config.json), such as {needed[0]!r}; "
            "give the tokenizer that the model was trained with"
        )


def read_context(folder: Path, config: ModelConfig) -> int | None:
    """The context length in tokens that the config in `folder` has; None if it has none."""
    values = read_settings(folder / "config.json")
    settings = text_settings(values)
    # GPT-2 has a name of its own.
    context = settings.get("max_position_embeddings") or settings.get("n_positions")
    if settings is not values and not context:  # left out, as the hub's Gemma 3 leaves defaults
        from transformers import AutoConfig

        with suppress(OSError, ValueError, ImportError, KeyError), quiet_transformers():
            whole = AutoConfig.from_pretrained(folder, trust_remote_code=config.trust_remote_code)
            context = getattr(whole.get_text_config(), "max_position_embeddings", None)
    return int(context) if isinstance(context, int | float) and context else None


def load_model(
    folder: Path, config: ModelConfig, device: str = "cpu", *, four_bits: bool = False
) -> CausalLM:
    """The causal LM that `folder` holds, in the config's dtype, on `device`, in eval mode.

    With `four_bits` its linear layers are quantised to NF4 (bitsandbytes, CUDA only). UserError
    if the folder cannot be loaded, such as an architecture whose code is in the folder while
    trust_remote_code is off, or if weights do not fit config.json: missing, of other shapes, or
    unused by the model.
    """
    from safetensors import SafetensorError

    from caft.kernels.rms_norm import fuse_rms_norms
    from caft.kernels.swiglu import fuse_swiglu

    too_large = (
        f"the model in {folder} does not fit into the memory of {device}; use "
        + ("model.dtype=bfloat16 or " if config.group == "model" else "")
        + f"a smaller {config.group}"
    )
    spare_imports()
    if device == "cpu":
        settle_cpu_memory()
    # A UserError is a ValueError.
    with memory_may_end(lambda: too_large):
        try:
            with quiet_transformers():
                model, report = _read(
                    folder,
                    dtype=resolve_dtype(config, device),
                    trust_remote_code=config.trust_remote_code,
                    use_safetensors=True,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                    **(_quantised(config, device) if four_bits else {}),
                )
                if not four_bits:
                    model = model.to(device)
        except (OSError, ValueError, ImportError, KeyError, SafetensorError) as error:
            raise _unloadable("model", folder, error, config) from error
    missing = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    _refuse_unfit_weights(folder, missing, report["unexpected_keys"])
    # Lightning and peft use deprecated names of the model throughout, and we switch checkpointing
    # on by the name that every version 5 has.
    warnings.filterwarnings("ignore", message=r"`\w*gradient_checkpointing\w*` is deprecated")
    loaded: CausalLM = model.eval()
    fuse_rms_norms(loaded)
    fuse_swiglu(loaded)
    return loaded


def _read(folder: Path, **how: object) -> Any:
    """Torch's attention; written out where an architecture has what that lacks, such as sinks."""
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa", **how)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", **how)


def build_empty(folder: Path, config: ModelConfig) -> CausalLM:
    """The model's architecture, without reading a weight. UserError if it cannot be loaded."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    code = {"trust_remote_code": config.trust_remote_code}
    try:
        with quiet_transformers(), torch.device("meta"):
            settings = AutoConfig.from_pretrained(folder, **code)
            model: CausalLM = AutoModelForCausalLM.from_config(settings, **code)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise _unloadable("model", folder, error, config) from error
    return model


def refuse_missing_quantisation() -> None:
    """UserError unless this machine can hold a model in 4 bits."""
    if find_spec("bitsandbytes") is None:
        raise UserError(
            "tuning.adapter=qlora needs bitsandbytes, which is not installed; "
            f"{install_hint('qlora')}, or use tuning.adapter=lora"
        )
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            "tuning.adapter=qlora needs a CUDA device, which this machine lacks; "
            "use tuning.adapter=lora"
        )


def _quantised(config: ModelConfig, device: str) -> dict[str, object]:
    # Dettmers et al. 2023 (QLoRA): NF4 weights, quantised scales, products in the model's dtype.
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=resolve_dtype(config, device),
    )
    return {"quantization_config": settings, "device_map": {"": device}}


def resolve_dtype(config: ModelConfig, device: str) -> torch.dtype:
    """`model.dtype` as torch names it; `auto` asks the device."""
    import torch

    if config.dtype is Dtype.auto:
        return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32
    return {Dtype.bfloat16: torch.bfloat16, Dtype.float32: torch.float32}[config.dtype]


def name_dtype(config: ModelConfig, device: str) -> str:
    """The same as people write it, such as "bfloat16"."""
    return str(resolve_dtype(config, device)).removeprefix("torch.")


def _refuse_unfit_weights(folder: Path, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    # transformers draws such weights at random and only warns.
    random = sorted(missing)
    if random:
        raise UserError(
            f"the model in {folder} lacks weights of the shape that config.json asks for "
            f"({len(random)}, such as {random[0]}); save config and weights together again"
        )
    # Weights that the architecture itself declares to be unused are not in the report.
    unused = list(without_buffers(unexpected))
    if unused:
        raise explain_unused(f"the model in {folder}", unused)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Loading and saving in the body print nothing: no bars, no tables of warnings.

    What matters in them becomes one line of ours, which must be clear on its own.
    """
    from tqdm import tqdm
    from transformers.utils import logging

    before, open_bar = logging.get_verbosity(), tqdm.__init__
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # Some parts open bars of their own, such as the one that reads GGUF files.
    tqdm.__init__ = partialmethod(open_bar, disable=True)
    try:
        yield
    finally:
        tqdm.__init__ = open_bar
        logging.set_verbosity(before)
        # It also switched off the progress bars of downloads, which are wanted.
        logging.enable_progress_bar()


def _unloadable(part: str, folder: Path, error: Exception, config: ModelConfig) -> UserError:
    # A teacher's own code is never run.
    or_code = "or, where the folder's own code is meant, model.trust_remote_code=true"
    way_out = or_code if config.group == "model" else f"or {config.group}.id"
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return UserError(
        f"the {part} in {folder} cannot be loaded: {reason[:300]}; give another "
        f"{config.group}.path {way_out}"
    )
