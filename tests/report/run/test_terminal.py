import io
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console

from caft.report.advice import suggest_next
from caft.report.run.terminal import print_summary
from caft.report.run.timing import add_rates


def show(summary: dict[str, Any], folder: Path) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    print_summary(summary, folder, console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_one_screen_says_it_all(sample: Any) -> None:
    lines = show(sample.summary, Path("outputs"))
    screen = "\n".join(lines)
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    order = (
        "Did tuning help? Yes · 19.7% → 70.7%",
        "Did routing help? Not tested here · no control",
        "predict this model's mistakes? Yes · AUC 0.69",
        "188 teacher calls",
        "19.0% (15.0 to 23.8)*",
        "70.7% (65.3 to 75.5)*",
        "Next    Test the routing against its control:",
        "Report  ",
    )
    places = [screen.index(words) for words in order]
    assert places == sorted(places)


def test_the_next_command_can_be_pasted_whatever_its_length(sample: Any) -> None:
    words = [f"dataset.prompt.note='say {n} \\ \"times\"'" for n in range(9)] + [
        f"dataset.files=[{','.join(f'part-{n}.jsonl' for n in range(30))}]"
    ]
    sample.summary["run"]["overrides"] += words
    lines = show(sample.summary, Path("outputs"))
    start = next(n for n, line in enumerate(lines) if line.startswith("python train.py -m"))
    # A shell joins lines that end with a backslash.
    told = shlex.split("\n".join(lines[start:-1]).replace("\\\n", ""))
    assert told == shlex.split(suggest_next(sample.summary).command)
    assert [word for word in told if word in words] == words
    assert max(map(len, lines)) <= 80


def test_the_time_of_every_stage_still_fits_the_screen(sample: Any) -> None:
    sample.summary["run"]["seconds"] = 329.0
    stages = [{**stage, "tokens_written": 12_000} for stage in sample.summary["stages"]]
    sample.summary["stages"] = add_rates(stages, 329.0)
    lines = show(sample.summary, Path("outputs"))
    assert len(lines) <= 24
    told = " ".join(" ".join(lines).split())
    # 151 of 329 seconds, 12,000 tokens; what took less than 0.5% is left out.
    assert "Time score 0.1 s (cached); distill 41.5 s (13%, 289 tok/s); tune 2 min 31 s" in told
    assert "(46%, 79 tok/s)" in told
    assert "the rest 48.3 s (15%) Next" in told


def test_names_the_report_where_there_is_one(sample: Any, tmp_path: Path) -> None:
    assert any("summary.json" in line for line in show(sample.summary, tmp_path))
    (tmp_path / "report.html").touch()
    (line,) = [line for line in show(sample.summary, tmp_path) if line.startswith("Report")]
    assert line.endswith(str(tmp_path / "report.html"))


def test_a_run_that_stopped_early_prints_what_it_has(sample: Any) -> None:
    sample.summary.update(split=None, accuracy=None)
    screen = "\n".join(show(sample.summary, Path("outputs")))
    assert "test accuracy" not in screen
    assert "Does answer entropy predict" in screen
    sample.summary.update(score=None)
    assert "entropy predict" not in "\n".join(show(sample.summary, Path("outputs")))


def test_markup_in_a_name_is_only_text(sample: Any) -> None:
    sample.summary["model"]["id"] = "[red]odd[/red]"
    assert "[red]odd[/red] on arithmetic" in "\n".join(show(sample.summary, Path("outputs")))
