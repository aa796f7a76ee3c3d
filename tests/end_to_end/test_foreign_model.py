"""One whole run as others see it: a model and questions of strangers, in a process of its own.

The model is ChatML whose EOS is another token, whose template asks for the date and opens a
thinking span whatever it is told; its questions hold escape sequences and markup.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from caft.models.config import Architecture, TinyModelConfig
from caft.models.sources.locate import locate_model
from caft.models.sources.tiny_tokenizers import make_tokenizer

PROJECT = Path(__file__).parents[2]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'system' %}Today is {{ strftime_now('%d %b %Y') }}. {% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
EVIL = "\x1b]0;owned\x07\x1b[31m red \x1b[2J \x9b1m \u202e [bold]bold[/bold]"


@dataclass(frozen=True)
class Ended:
    folder: Path
    out: str
    err: str

    @property
    def log(self) -> str:
        return (self.folder / "run.log").read_text(encoding="utf-8")

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))


def write_model(folder: Path) -> None:
    tiny = TinyModelConfig(name="t", id="tiny", architecture=Architecture.qwen2)
    shutil.copytree(locate_model(tiny), folder)
    tokenizer = make_tokenizer(Architecture.qwen2)
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    settings = {"eos_token_id": tokenizer.eos_token_id, "do_sample": False, "temperature": 0.6}
    (folder / "generation_config.json").write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    place = tmp_path_factory.mktemp("foreign")
    write_model(place / "model")
    rows = [
        {"question": f"Is {n} odd? {EVIL}", "options": ["yes\x1b[0m", "no\x07"],
         "answer": "BA"[n % 2], "subject": f"sums{EVIL}"}
        for n in range(40)
    ]  # fmt: skip
    (place / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    words = [
        "model=tiny", f"model.path={place / 'model'}", "model.dtype=float32",
        "trainer.accelerator=cpu", "dataset=local", f"dataset.train_path={place / 'rows.jsonl'}",
        "method=sft", "method.stages=[{targets:{easy:answer,middle:answer,hard:answer},epochs:3}]",
        "evaluation.modes=[answer]", "tuning.learning_rate=1e-2", "tuning.merge=true",
        "tuning.batch_size=4", f"store.path={place / 'store'}", f"hydra.run.dir={place / 'run'}",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(PROJECT / "train.py"), *words],
        capture_output=True,
        env={**os.environ, "COLUMNS": "100"},
        cwd=place,
        check=False,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, out + err
    return Ended(place / "run", out, err)


def test_the_terminal_and_the_log_hold_no_escape_sequence(ended: Ended) -> None:
    for text in (ended.out, ended.err, ended.log):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    # Shown, and not left out: the reader sees what stands in the data.
    assert "\\x1b]0;owned\\x07\\x1b[31m red" in ended.out
    assert "[bold]bold[/bold]" in ended.out


def test_only_our_own_lines_reach_the_terminal(ended: Ended) -> None:
    """What libraries say is in run.log, under their names."""
    assert ended.err == ""
    dated = r"^\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ ([\w.]+): "
    _, *parts = re.split(dated, ended.log, flags=re.MULTILINE)
    said = zip(parts[::2], parts[1::2], strict=True)
    ours = "".join(text for name, text in said if name.startswith("caft."))
    assert ended.out.startswith(ours)
    assert ended.out[len(ours) :].startswith("\n/")  # the screen at the end: the model's path


def test_the_clock_and_the_closed_span_are_stated(ended: Ended) -> None:
    assert "the chat template asks for the date, and gets 2024-07-26 in every stage" in ended.log
    assert "Today is 26 Jul 2024." in ended.out
    assert "<think>\n\n</think>\n\n\u27e6" in ended.out
    model = ended.summary["model"]
    assert model["template_date"] == "2024-07-26"
    assert model["template_bridge"] == "\n</think>\n\n"
    page = (ended.folder / "report.html").read_text(encoding="utf-8")
    assert "given the date 2024-07-26 in every stage" in page


@pytest.mark.parametrize("name", ["adapter", "merged"])
def test_the_cards_code_runs_as_it_stands_and_stops(
    ended: Ended, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ended.folder / name
    monkeypatch.chdir(folder)
    card = (folder / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    told: dict[str, Any] = {}
    exec(compile(code[1], str(folder / "README.md"), "exec"), told)
    reply = told["reply"][0, told["inputs"].input_ids.shape[1] :].tolist()
    assert told["tokenizer"].convert_ids_to_tokens(reply)[-1] == "<|im_end|>"
    assert len(reply) < 512
    assert capsys.readouterr().out.strip()
    # The template that is delivered is the model's own.
    assert told["tokenizer"].chat_template == TEMPLATE
    assert "It gets a fixed date, 2024-07-26." in card
