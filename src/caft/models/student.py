"""The model that is tuned: its folder, its identity in the store, and how it is loaded."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from caft.errors import UserError
from caft.kernels.memory import release_memory
from caft.models.adapters import BaseModel, is_adapter, load_adapter
from caft.models.chat_template import TEMPLATE_DATE
from caft.models.config import Dtype, ModelConfig
from caft.models.encoding import end_of_turn
from caft.models.fingerprint import model_fingerprint
from caft.models.loading import (
    load_model,
    load_tokenizer,
    name_dtype,
    quiet_transformers,
    read_context,
)
from caft.models.sources.folder import GENERATION_CONFIG, read_header, read_settings, weight_files
from caft.protocols import CausalLM, Tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Student:
    """A base model, and with `tuned` the folder that a tuning stage left (adapter or weights).

    Nothing is loaded before it is needed; `load` returns a new model every time, so that no stage
    sees changes by another.
    """

    config: ModelConfig
    folder: Path
    device: str
    tuned: Path | None = None
    tuned_fingerprint: str | None = None
    _opened: dict[str, Tokenizer] = field(default_factory=dict, repr=False, compare=False)
    _told: set[str] = field(default_factory=set, repr=False, compare=False)

    @cached_property
    def fingerprint(self) -> str:
        """The base model's fingerprint, sixteen hexadecimal digits."""
        return model_fingerprint(self.folder, self.config)

    @property
    def key(self) -> dict[str, str | None]:
        """What outputs of this model depend on, for the store."""
        return {
            "model": self.fingerprint,
            "dtype": self.dtype,
            "template_date": TEMPLATE_DATE.date().isoformat(),
            "tuned": self.tuned_fingerprint,
        }

    @property
    def dtype(self) -> str:
        """The dtype of the base model's products, such as "bfloat16"."""
        return name_dtype(self.config, self.device)

    @cached_property
    def parameters(self) -> int:
        """Weights of the base model, read off the headers of its safetensors files."""
        return sum(map(_count_weights, weight_files(self.folder, "the model")))

    @property
    def revision(self) -> str | None:
        """The commit of a hub model, which is the name of its snapshot folder; else None."""
        is_snapshot = self.config.kind == "hub" and self.config.path is None
        return self.folder.name if is_snapshot else None

    @property
    def base(self) -> BaseModel:
        """What is recorded of an adapter's base model."""
        return {
            "id": self.config.path or self.config.id,
            "revision": self.revision,
            "fingerprint": self.fingerprint,
        }

    @property
    def tokenizer(self) -> Tokenizer:
        """The base model's tokenizer, read once."""
        if "tokenizer" not in self._opened:
            self._opened["tokenizer"] = load_tokenizer(self.folder, self.config)
        return self._opened["tokenizer"]

    @cached_property
    def context(self) -> int | None:
        """The model's context length in tokens, if its config has it."""
        return read_context(self.folder, self.config)

    def end_ids(self, *, chat: bool) -> tuple[int, ...]:
        """Tokens that end a reply, sorted: of a text, of a turn, and the generation config's own.

        Several may: Phi-3's generation config has the end of a text and two ends of a turn.
        """
        ends = {end_of_turn(self.tokenizer, chat=kind) for kind in (chat, False)}
        named = read_settings(self.folder / GENERATION_CONFIG).get("eos_token_id")
        if named is None:
            named = []
        return tuple(sorted({*ends, *(named if isinstance(named, list) else [named])}))

    def load(
        self, *, trainable: bool = False, float32: bool = False, four_bits: bool = False
    ) -> CausalLM:
        """A new causal LM on the device, in eval mode; tuned where this student is.

        `float32` has weights of that type whatever the config says: training needs them, since
        small updates are lost in bfloat16. `four_bits` quantises the base model (CUDA).
        """
        release_memory()
        config = replace(self.config, dtype=Dtype.float32) if float32 else self.config
        if self.tuned is not None and not is_adapter(self.tuned):
            return self._settled(load_model(self.tuned, config, self.device))
        base = self._settled(load_model(self.folder, config, self.device, four_bits=four_bits))
        if self.tuned is None:
            return base
        return load_adapter(base, self.tuned, trainable=trainable)

    def _settled(self, model: CausalLM) -> CausalLM:
        from caft.kernels.settling import settle_packing

        with quiet_transformers():
            reason = settle_packing(model)
        if reason and "alone" not in self._told:
            self._told.add("alone")
            log.warning(
                "%s runs one row at a time, the plain and slow way: %s", self.base["id"], reason
            )
        return model

    def load_for_inference(self) -> CausalLM:
        """A new causal LM as `load` returns it, faster on a CPU.

        It takes no gradients, and can neither be tuned nor merged nor saved.
        """
        from caft.kernels.linear import reorder_weights

        model = self.load()
        reorder_weights(model)
        return model

    def after_tuning(self, folder: Path, fingerprint: str) -> Student:
        """The same student as a tuning stage left it."""
        return replace(self, tuned=folder, tuned_fingerprint=fingerprint)

    def refuse_long_prompts(
        self,
        lengths: dict[str, int],
        reply_tokens: int,
        settings: Mapping[str, int | None],
        shots: str = "dataset.prompt.shots",
    ) -> None:
        """UserError if a prompt (tokens by question id) is too long for the reply to follow.

        `settings` are those that `reply_tokens` is made of, with their values, and `shots` is the
        name of the one that makes prompts long.
        """
        if self.context is None:
            return
        too_long = {name: n for name, n in lengths.items() if n + reply_tokens > self.context}
        if too_long:
            name, length = max(too_long.items(), key=lambda item: item[1])
            excess = length + reply_tokens - self.context
            lower = (
                f"set {setting}={value - excess} or less, "
                for setting, value in settings.items()
                if value is not None and value > excess
            )
            more = f", and {len(too_long) - 1} more" if len(too_long) > 1 else ""
            raise UserError(
                f"question {name} makes a prompt of {length} tokens, which leaves less than "
                f"{reply_tokens} of the model's {self.context}{more}; {next(lower, '')}use fewer "
                f"{shots}, drop the rows or use a model with a longer context"
            )


def _count_weights(file: Path) -> int:
    return sum(math.prod(tensor["shape"]) for tensor in read_header(file, "the model").values())
