"""The part of SGLang's documented interface that is used: Engine with generate and shutdown."""

import scripted


class Engine:
    def __init__(self, *, model_path, tokenizer_path=None, dtype="auto", trust_remote_code=False,
                 mem_fraction_static=None, lora_paths=None, **kwargs):  # fmt: skip
        scripted.LOADED.append(
            {"model": model_path, "tokenizer": tokenizer_path, "dtype": dtype,
             "lora_paths": lora_paths, **kwargs}
        )  # fmt: skip
        self.room = kwargs.get("context_length", 10**9)

    def generate(self, *, input_ids, sampling_params, lora_path=None):
        scripted.CALLS.append({"prompts": input_ids, "lora": lora_path})
        results = []
        for ids, params in zip(input_ids, sampling_params, strict=True):
            assert params["temperature"] == 0.0
            assert params["no_stop_trim"]
            if len(ids) >= self.room:
                raise ValueError(f"{len(ids)} tokens: longer than the context length\nand a trace")
            limit = min(params["max_new_tokens"], self.room - len(ids))
            written, ended = scripted.go_on(ids, limit, params["stop_token_ids"], params["stop"])
            reason = {"type": "length", "length": len(written)}
            if ended is not None:
                reason = {"type": "stop", "matched": ended}
            results.append({"text": "", "output_ids": written,
                            "meta_info": {"finish_reason": reason}})  # fmt: skip
        return results

    def shutdown(self):
        scripted.STOPPED.append("sglang")
