"""The part of vLLM's documented interface that is used: LLM, SamplingParams, RequestOutput."""

from dataclasses import dataclass, field

import scripted


@dataclass
class SamplingParams:
    temperature: float = 1.0
    max_tokens: int | None = 16
    stop: list[str] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False


@dataclass
class CompletionOutput:
    token_ids: tuple
    finish_reason: str
    stop_reason: object
    text: str = ""


@dataclass
class RequestOutput:
    outputs: list = field(default_factory=list)


class LLM:
    def __init__(self, model, *, tokenizer=None, dtype="auto", trust_remote_code=False,
                 gpu_memory_utilization=0.9, **kwargs):  # fmt: skip
        assert set(kwargs) <= {
            "enable_prefix_caching", "generation_config", "enable_lora", "max_lora_rank",
            "max_loras", "max_model_len", "enforce_eager",
        }  # fmt: skip
        scripted.LOADED.append({"model": model, "tokenizer": tokenizer, "dtype": dtype, **kwargs})
        if kwargs.get("max_model_len") == 1:
            raise ValueError("max_model_len is too small\nand a long trace")
        self.room = kwargs.get("max_model_len", 10**9)

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True, lora_request=None):
        scripted.CALLS.append({"prompts": prompts, "lora": lora_request})
        results = []
        for prompt, params in zip(prompts, sampling_params, strict=True):
            assert params.temperature == 0.0
            assert params.include_stop_str_in_output
            ids = prompt["prompt_token_ids"]
            if len(ids) >= self.room:
                raise ValueError(f"{len(ids)} tokens: longer than the context length\nand a trace")
            limit = min(params.max_tokens, self.room - len(ids))
            written, ended = scripted.go_on(ids, limit, params.stop_token_ids, params.stop)
            reason = "length" if ended is None else "stop"
            output = CompletionOutput(tuple(written), reason, ended)
            results.append(RequestOutput([output]))
        return results
