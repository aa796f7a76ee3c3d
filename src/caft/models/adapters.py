"""What is trained: low-rank adapters through peft, or every weight."""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from caft.errors import UserError, first_line
from caft.models.loading import quiet_transformers
from caft.models.sources.folder import read_settings
from caft.protocols import CausalLM

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
BASE_MODEL = "base_model.json"
_WITH_STATES = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}


class BaseModel(TypedDict):
    """What is recorded of an adapter's base model: hub id or path, commit and contents."""

    id: str
    revision: str | None
    fingerprint: str


def add_lora(
    model: CausalLM,
    *,
    r: int,
    alpha: int,
    dropout: float,
    modules: Sequence[str],
    use_dora: bool,
    use_rslora: bool,
) -> CausalLM:
    """`model` with new adapters on `modules`, or on all linear layers but the output head.

    Draws on torch's global generator. UserError if a module name matches nothing.
    """
    from peft import LoraConfig, get_peft_model

    from caft.kernels.lora import fuse_lora

    config = LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(modules) or "all-linear",
        exclude_modules=_without_adapters(model) or None,
        use_dora=use_dora,
        use_rslora=use_rslora,
        task_type="CAUSAL_LM",
    )
    try:
        adapted: CausalLM = get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"tuning.lora.modules is {list(modules)}: {first_line(error)}") from error
    fuse_lora(adapted)
    return adapted


def _without_adapters(model: CausalLM) -> list[str]:
    """Modules that text never reaches, such as the vision tower of Gemma 3, or that peft refuses.

    Mamba's own kernels read the weights of some layers past any adapter.
    """
    has_states = getattr(model.config, "model_type", "") in _WITH_STATES
    decoder = {*map(id, model.get_decoder().modules()), id(model.get_output_embeddings())}
    return [
        name
        for name, module in model.named_modules()
        if (id(module) not in decoder and not any(module.children()))
        or (has_states and name.endswith(("conv1d", "out_proj")))
    ]


@contextmanager
def compute_in_weights_dtype(
    model: CausalLM, dtype: torch.dtype | None = None, *, kept: bool = True
) -> Iterator[None]:
    """Forward passes of the body multiply in `dtype`, by default in the base model's.

    Full tuning keeps float32 weights of a model that multiplies in bfloat16. Adapters keep
    float32 weights too, since an update of a thousandth is lost in bfloat16; under autocast they
    are cast, once a pass; or in every layer, where weights are not `kept` between layers. Fused
    adapters do their own casts.
    """
    import torch

    from caft.kernels.lora import has_fused_lora

    if (dtype or model.dtype) != torch.bfloat16 or has_fused_lora(model):
        yield
        return
    cast = torch.autocast(model.device.type, dtype=torch.bfloat16, cache_enabled=kept)
    with keep_activations(model), cast:
        yield


@contextmanager
def keep_activations(model: CausalLM) -> Iterator[None]:
    """Within the body, adapters do not copy activations to float32, as peft would.

    The body must include the backward pass: checkpointed layers run again there, and must do the
    same.
    """
    if not hasattr(model, "peft_config"):
        yield
        return
    from peft.helpers import disable_input_dtype_casting

    with disable_input_dtype_casting(model):
        yield


def prepare_checkpointing(model: CausalLM) -> None:
    """Keep only the inputs of layers, and run layers again in the backward pass.

    The last layer is kept: its backward pass follows its forward pass, so that to run it again
    would save no memory. It works in training mode only, which `from_pretrained` does not return.
    UserError for an architecture that cannot.
    """
    try:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    except ValueError as error:
        kind = getattr(model.config, "model_type", type(model).__name__)
        raise UserError(
            f"tuning.gradient_checkpointing: transformers cannot run layers of {kind} again in the "
            "backward pass; set it to false (trainer.strategy=fsdp sets it where weights are cast)"
        ) from error
    model.enable_input_require_grads()
    layers = getattr(model.get_decoder(), "layers", None)
    if layers is not None:
        layers[-1].gradient_checkpointing = False


def load_adapter(model: CausalLM, folder: Path, *, trainable: bool = False) -> CausalLM:
    """`model` with the adapter that `folder` holds; UserError if it does not fit the model."""
    from peft import PeftModel

    from caft.kernels.lora import fuse_lora

    _refuse_other_shapes(model, folder)
    try:
        adapted = PeftModel.from_pretrained(model, folder, is_trainable=trainable)
    except Exception as error:
        if is_adapter(folder):
            raise
        # peft would look for a file that is gone on the hub.
        gone = str(folder / ADAPTER_CONFIG)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), gone) from error
    for config in adapted.peft_config.values():
        # With a hub id here, peft would look it up on the hub whenever the adapter is saved.
        config.base_model_name_or_path = model.name_or_path
    fused: CausalLM = adapted
    fuse_lora(fused)
    return fused


def _refuse_other_shapes(model: CausalLM, folder: Path) -> None:
    from safetensors import safe_open

    layers = dict(model.named_modules())
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
        for name in sorted(file.keys()):
            layer, found, matrix = name.removeprefix("base_model.model.").partition(".lora_")
            if not found or not matrix.startswith(("A.weight", "B.weight")):
                continue
            shape, side = file.get_slice(name).get_shape(), matrix[0]
            size = shape[1] if side == "A" else shape[0]
            attribute = "in_features" if side == "A" else "out_features"
            # The experts of a mixture are one module, of several adapters inside each other.
            module = layers.get(layer.replace(".base_layer", ""))
            given = getattr(module, attribute, None)
            # What has no such attribute (experts, GPT-2's layers) is compared by peft itself.
            if module is None or given not in (None, size):
                raise UserError(
                    f"the adapter in {folder} is one for another base model: its layer {layer} "
                    f"needs {attribute}={size}, and this model has {given}; name the model it was "
                    "trained on, or another adapter"
                )


def save_tuned(model: CausalLM, folder: Path, *, dtype: torch.dtype, base: BaseModel) -> None:
    """Write an adapter in PEFT's format, or all weights in `dtype`, which is the base model's."""
    with disk_errors_as_such(), quiet_transformers():
        if not hasattr(model, "peft_config"):
            model.to(dtype).save_pretrained(folder)
            return
        model.save_pretrained(folder, safe_serialization=True)
    # peft's own card names the folder of this machine; ours is written when the run ends.
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / ADAPTER_CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    config.update(base_model_name_or_path=base["id"], revision=base["revision"])
    # peft keeps the names as a set, whose order differs from process to process.
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    (folder / BASE_MODEL).write_text(json.dumps(dict(base), indent=1), encoding="utf-8")


@contextmanager
def disk_errors_as_such() -> Iterator[None]:
    """The system's OSError, from an error that safetensors raises instead."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        # It writes in Rust, and has the system's error number in its text only.
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), str(error)) from error


def find_adapter(start_from: str) -> Path:
    """The folder of `tuning.start_from`; UserError if it holds no adapter."""
    folder = Path(start_from).expanduser().absolute()
    if not is_adapter(folder) or not (folder / ADAPTER_WEIGHTS).is_file():
        raise UserError(
            f"tuning.start_from is {folder}, which holds no {ADAPTER_CONFIG} with "
            f"{ADAPTER_WEIGHTS}; give the adapter/ folder of a run, or one that peft saved"
        )
    return folder


def refuse_other_base(folder: Path, base: BaseModel) -> None:
    """UserError if the adapter in `folder` is for another base model.

    An adapter of ours records its base model's fingerprint, any other its name at most.
    """
    if (folder / BASE_MODEL).is_file():
        trained_on = json.loads((folder / BASE_MODEL).read_text(encoding="utf-8"))
        fits = trained_on["fingerprint"] == base["fingerprint"]
        name = trained_on["id"]
    else:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        name = config.get("base_model_name_or_path") or base["id"]
        # A folder's path does not identify a model; a hub id has one slash, and not in front.
        is_path = name.startswith(("/", ".", "~")) or name.count("/") != 1
        fits = is_path or name == base["id"]
    if not fits:
        raise UserError(
            f"the adapter in {folder} was trained on {name}, and the model is {base['id']}; "
            "choose that model, or another tuning.start_from"
        )


def read_rank(folder: Path) -> int | None:
    """The largest rank in the adapter in `folder`; None where its config has none."""
    saved = read_settings(folder / ADAPTER_CONFIG)
    pattern = saved.get("rank_pattern")
    ranks = (saved.get("r"), *(pattern.values() if isinstance(pattern, dict) else ()))
    return max((rank for rank in ranks if isinstance(rank, int)), default=None)


def uses_dora(folder: Path) -> bool:
    """Whether the adapter in `folder` is one of DoRA."""
    return read_settings(folder / ADAPTER_CONFIG).get("use_dora") is True


def merge_adapter(model: PeftModel, dtype: torch.dtype) -> CausalLM:
    """The plain model with the adapter added to its weights; summed in float32, then in `dtype`."""
    merged: CausalLM = model.float().merge_and_unload().to(dtype)
    return merged


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds an adapter rather than a whole model."""
    return (folder / ADAPTER_CONFIG).exists()


def count_parameters(model: CausalLM) -> tuple[int, int]:
    """All parameters and the trainable ones."""
    counts = [(_numbers_in(p), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in counts), sum(n for n, trained in counts if trained)


def _numbers_in(weight: torch.nn.Parameter) -> int:
    # bitsandbytes packs a weight's 4-bit numbers into bytes and keeps its shape separately.
    state = getattr(weight, "quant_state", None)
    return math.prod(state.shape) if state is not None else weight.numel()
