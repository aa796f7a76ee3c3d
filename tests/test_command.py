"""The command `caft`: which words are commands, and what `caft doctor` tells of a machine."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from caft import doctor
from caft.__main__ import _COMMANDS, main
from caft.program import find_project, install_hint, name_command
from caft.store.config import StoreConfig

ROOT = Path(__file__).parents[1]
SECRET = "sk-a1b2c3d4e5f6g7h8"


def test_report_and_store_are_their_own_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["store", "--path", str(tmp_path), "list"]) == 0
    assert capsys.readouterr().out == "0 artefacts, 0.0 MB\n"
    assert main(["report", str(tmp_path / "gone")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def own_parser(command: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser that a command makes, which is not used."""
    made: list[argparse.ArgumentParser] = []
    module = import_module(command)
    with monkeypatch.context() as patched:
        patched.setattr(module, "run_command", lambda parser, *_: made.append(parser))
        module.main([])
    return made[0]


def all_parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from all_parsers(below)


@pytest.mark.parametrize("command", [*_COMMANDS.values(), "caft.statistics.calibrate"])
def test_wrong_words_end_every_command_and_those_below_it_in_one_line(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parsers = list(all_parsers(own_parser(command, monkeypatch)))
    for parser in parsers:
        path = parser.prog.removeprefix(parsers[0].prog).split()
        wrong = [["--nonsense"], ["one", "word", "too", "many"]]
        if any(action.required for action in parser._actions):
            wrong.append([])
        for words in wrong:
            assert import_module(command).main([*path, *words]) == 2, (parser.prog, words)
            out, errors = capsys.readouterr()
            assert (out, errors.count("\n")) == ("", 1), (parser.prog, words)
            assert errors.startswith(parsers[0].prog)
            assert errors.endswith(" --help\n")


@pytest.mark.parametrize(("name", "module"), list(_COMMANDS.items()))
def test_help_fits_a_terminal_and_names_the_command_that_was_typed(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([name, "--help"])
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "python -m caft" not in text
    with pytest.raises(SystemExit):
        import_module(module).main(["--help"])
    assert f"\ncaft {name} " not in capsys.readouterr().out


@pytest.mark.parametrize("command", [*_COMMANDS.values(), "caft.statistics.calibrate"])
def test_flags_are_typed_in_full(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for parser in all_parsers(own_parser(command, monkeypatch)):
        flags = [flag for flag in parser._option_string_actions if flag.startswith("--")]
        assert not [flag for flag in flags if parser._get_option_tuples(flag[:-1])], parser.prog


@pytest.mark.parametrize("words", [["--multi", "method=sft"], ["--hel"], ["--vers"], ["--cf=job"]])
def test_flags_of_a_run_are_typed_in_full(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, errors = capsys.readouterr()
    assert (out, errors) == (
        "",
        f"unrecognized arguments: {words[0]}; see {name_command()} --help\n",
    )


def test_the_benchmarks_read_their_flags_in_full() -> None:
    calls = [
        node
        for path in (ROOT / "benchmarks").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("ArgumentParser")
    ]
    assert calls
    assert not [each for each in calls if "allow_abbrev=False" not in ast.unparse(each)]


EMPTY = (
    "",
    "model=tiny, ",
    "report,",
    "store,--path,,list",
    "export,,--to,trl",
    "ledger,check,",
)


@pytest.mark.parametrize("words", [words.split(",") for words in EMPTY], ids=EMPTY)
def test_an_empty_word_starts_nothing(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, errors = capsys.readouterr()
    assert (out, errors.count("\n")) == ("", 1)
    assert errors.startswith("a word of the command is empty")


def test_no_command_reads_its_words_by_itself() -> None:
    sources = (ROOT / "src").rglob("*.py")
    assert not [path for path in sources if "argparse.ArgumentParser(" in path.read_text()]


def test_a_misspelt_command_is_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["raport", "outputs/multirun/methods"]) == 2
    out, errors = capsys.readouterr()
    assert (out, errors.count("\n")) == ("", 1)
    assert "did you mean report?" in errors


@pytest.mark.parametrize("words", ["sft", "method sft", "method = sft"])
def test_an_option_or_a_setting_alone_is_answered_with_what_to_type(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    out, errors = capsys.readouterr()
    assert (out, errors.count("\n")) == ("", 1)
    assert "; write method=sft" in errors


def test_a_job_without_its_config_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["job", str(tmp_path)]) == 2
    assert "is no job of a sweep" in capsys.readouterr().err


def test_advice_names_the_command_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (find_project(), name_command()) == (ROOT, "python train.py")
    assert StoreConfig().folder == ROOT / ".caft_store"
    monkeypatch.setattr("sys.argv", ["/usr/bin/caft"])
    assert name_command() == "caft"
    # As pip --target puts it into a project of the user's own.
    monkeypatch.setattr("caft.program.__file__", str(tmp_path / "lib/caft/program.py"))
    (tmp_path / "conf").mkdir()
    monkeypatch.chdir(tmp_path)
    assert (find_project(), StoreConfig().folder) == (None, tmp_path / ".caft_store")


def test_an_installed_package_has_no_commit_of_a_repository_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from caft.pipeline import outputs

    package = tmp_path / ".venv/lib/caft"
    (package / "pipeline").mkdir(parents=True)
    for words in (
        ["init"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setattr("caft.program.__file__", str(package / "program.py"))
    monkeypatch.setattr(outputs, "__file__", str(package / "pipeline/outputs.py"))
    assert outputs._git_commit() is None


@pytest.mark.parametrize("folders", [[], ["one", "two"]])
def test_a_job_is_one_folder(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", *folders]) == 2
    _, error = capsys.readouterr()
    assert error == "caft job takes one folder: that of a sweep's job\n"


def test_doctor_fits_a_screen_and_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_TEACHERS_API_KEY", SECRET)
    monkeypatch.setenv("EMPTY_API_KEY", " ")
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://me:{SECRET}@127.0.0.1:9")
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert SECRET not in text
    assert "MY_TEACHERS_API_KEY" in text
    assert "EMPTY_API_KEY" not in text
    assert "127.0.0.1 does not answer within 3 s" in text
    assert f"allowed), 1 thread store {ROOT / '.caft_store'}" in text
    assert "not known" not in text


def test_a_part_that_fails_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> str:
        raise OSError("libcudart.so: no such file")

    monkeypatch.setattr(doctor, "_PARTS", {"device": fail, "cores": lambda: "2"})
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "device      not known: OSError: libcudart.so: no such file",
        "cores       2",
    ]


@pytest.mark.parametrize(
    ("extra", "missing"),
    [("plain", []), ("inner", ["gone"]), ("newer", ["leaf"]), ("elsewhere", [])],
)
def test_an_extra_is_whole_with_the_extras_of_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str, missing: list[str]
) -> None:
    packages = {
        "root": [
            "absent-but-not-of-an-extra",
            "leaf>=1; extra == 'plain'",
            "leaf[more]; extra == 'inner'",
            "leaf>=3; extra == 'newer'",
            "gone; extra == 'elsewhere' and python_version < '3'",
        ],
        "leaf": ["gone; extra == 'more'"],
    }
    for name, needs in packages.items():
        folder = tmp_path / f"{name}-2.0.dist-info"
        folder.mkdir()
        header = [f"Name: {name}", "Version: 2.0", *(f"Requires-Dist: {need}" for need in needs)]
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *header, ""]))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert list(doctor.missing_packages("root", extra)) == missing


@pytest.mark.slow
def test_bash_completes_commands_and_configs_of_the_users_own(tmp_path: Path) -> None:
    """As bash does it: the function that `complete` names is called with the line so far."""
    command = tmp_path / "bin/caft"
    command.parent.mkdir()
    command.write_text(
        f"#!{sys.executable}\nfrom caft.__main__ import main\nraise SystemExit(main())\n"
    )
    command.chmod(0o755)
    for folder in ("caft", "more"):
        (tmp_path / folder / "model").mkdir(parents=True)
        (tmp_path / folder / "model" / f"zz_{folder}.yaml").write_text(
            "defaults:\n  - tiny\n  - _self_\nlayers: 1\n"
        )
    script = """
    eval "$(caft --shell-completion install=bash)"
    [[ $(complete -p caft) =~ -F\\ ([a-z_]+) ]]
    for COMP_LINE in "$@"; do
        COMP_POINT=${#COMP_LINE}; COMP_WORDS=($COMP_LINE); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        ${BASH_REMATCH[1]}; echo "${COMPREPLY[*]}"
    done
    """
    asked = {
        "caft method=complexity_aware_": "complexity_aware_joint complexity_aware_paper",
        "caft model=zz": "zz_caft",
        "caft expo": "export",
        "caft model=tiny tuning=q": "qlora",
    }
    done = subprocess.run(
        ["bash", "-c", script, "bash", *asked],
        cwd=tmp_path,
        env={"PATH": f"{command.parent}:/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [" ".join(word.partition("=")[2] or word for word in line.split())
             for line in done.stdout.splitlines()]  # fmt: skip
    assert found == list(asked.values()), done.stderr
    shown = subprocess.run(
        [command, "--config-dir", "more", "model=zz_more", "--cfg", "job"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "layers: 1" in shown.stdout


def read_texts() -> Iterator[tuple[Path, str]]:
    """What a user reads, but for the reference, which is written from it."""
    places = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "train.py"]
    for folder in ("src", "docs", "conf", "multirun_sweeps"):
        places += (ROOT / folder).rglob("*.*")
    for path in places:
        if path.suffix in {".py", ".md", ".yaml"} and "reference" not in path.parts:
            yield path, path.read_text("utf-8")


def test_an_extra_is_installed_by_the_names_of_its_own_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    for extra in {*extras} - {"dev"}:
        command, verb, *packages = shlex.split(install_hint(extra))
        assert (command, verb) == ("pip", "install")
        assert [*map(Requirement, packages)] == [*map(Requirement, extras[extra])]
    # Sources that nobody installed.
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert install_hint("sweep") == "pip install -e '.[sweep]'"


def test_every_extra_that_is_named_exists_and_none_is_of_the_other_project_of_our_name() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = {*tomllib.load(file)["project"]["optional-dependencies"]}
    found = []
    for path, text in read_texts():
        # On PyPI `caft` is somebody else's.
        assert not re.search(r"install\b[^\n]*[ '\"]caft\b(?!/)", text), path
        found += re.findall(r"install_hint\('(.+?)'\)|'\.\[([a-z_-]+)\]'", text)
    named = {extra for pair in found for extra in pair} - {""}
    assert len(found) > 20
    assert named <= extras
    assert {"vllm", "sglang", "sweep", "postgres", "math"} <= named
