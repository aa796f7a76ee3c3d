"""Wrong input is refused before anything runs: status 2, one line, the nearest valid name."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

FrontDoor = Callable[..., int]

REFUSED = {
    "unknown option": (
        "method=sftt",
        "no method 'sftt'; there are answer_and_rationale, base,",
        "did you mean sft?",
    ),
    "unknown group": ("modle=phi3", "no setting modle", "did you mean model?"),
    "unknown added group": ("+modle=phi3", "no setting modle", "did you mean model?"),
    "unknown added key": ("+foo=1", "no setting foo"),
    "misspelt key": (
        "tuning.learning_rat=1",
        "tuning.learning_rat;",
        "mean learning_rate? (tuning has",
    ),
    "misspelt added key": ("+tuning.learning_rat=1", "tuning.learning_rat;", "learning_rate?"),
    "misspelt deep key": ("tuning.lora.rr=1", "tuning.lora.rr;", "did you mean r?"),
    "misspelt key in a list": ("method.stages.0.epocs=1", "did you mean epochs?"),
    "unknown key": (
        "trainer.nodes=2",
        "trainer.nodes; did you mean num_nodes? (trainer has accelerator, devices, num_nodes,",
    ),
    "misspelt sweep": ("multirun_sweeps=method", "did you mean methods?"),
    "key of another kind": ("teacher.base_url=x", "teacher of kind openai has it"),
    "batches of a teacher that is no endpoint": (
        "teacher.batch=true",
        "no setting teacher.batch; teacher of kind openai has it, such as teacher=openai",
    ),
    "unknown kind": ("dataset.kind=locl", "dataset.kind is 'locl'", "did you mean local?"),
    "kind of another option": ("dataset.kind=local", "dataset.kind=local cannot change"),
    "text for a number": (
        "tuning.learning_rate=abc",
        "invalid value for tuning.learning_rate: 'abc'; give a number",
    ),
    "fraction for a count": ("seed=1.5", "invalid value for seed: '1.5'; give a whole number"),
    "nothing for a number": ("seed=", "invalid value for seed"),
    "null for a text": ("name=null", "invalid value for name: null; give a text"),
    "null for a number": ("evaluation.sampling.temperature=null", ": null; give a number"),
    "null for a count": ("evaluation.max_new_tokens=null", ": null; give a whole number"),
    "null for a list": (
        "evaluation.modes=null",
        ": null; give a list",
        "evaluation.modes=[answer,rationale]",
    ),
    "null for a table": ("evaluation.sampling=null", "holds several settings", "temperature=..."),
    "list for settings": ("evaluation.sampling=[]", "holds several settings", "temperature=..."),
    "word for a switch": ("evaluation.thinking=maybe", "'maybe'", "give true or false"),
    "word for a stage's switch": (
        "method.stages.1.rescore=epok",
        "rescore is epok; give false (never), true (stage: before the stage) or epoch",
        "did you mean epoch?",
    ),
    "plus before what is there": (
        "+method.stages.1.rescore=true",
        "method.stages.1.rescore is there already; set it without +",
    ),
    "stage behind the last one": (
        "method.stages.2.rescore=true",
        "method.stages has no member 2; write the whole list, as in 'method.stages=[{targets:",
    ),
    "stage with a name": (
        "method.stages.x.rescore=epoch",
        "x names no member of a list, whose members have numbers from 0; give one instead",
        "(in method.stages.x.rescore=epoch)",
    ),
    "nothing for a stage's switch": ("method.stages.1.rescore=", "rescore is ''; give false"),
    "nothing for a list": ("evaluation.also=", "evaluation.also: it is no list; give a list"),
    "number behind the last one": (
        "split.quantiles.5=1",
        "split.quantiles has no member 5; write the whole list, as in 'split.quantiles=[0.25,0.75]",
    ),
    "key of a deeper table": (
        "evaluation.temperature=0.7",
        "did you mean evaluation.sampling.temperature?",
    ),
    "braces that a shell took apart": (
        "method.stages=[targets:{hard:thinking}]",
        "in single quotes: 'method.stages=[{targets:{easy:answer},epochs:1}]'",
    ),
    "unknown word": (
        "until=scor",
        "invalid value for until: 'scor'; give one of data, score, split,",
    ),
    "unknown target": (
        "method.stages.0.targets.easy=answe",
        "method.stages.0.targets.easy is answe; give one of answer, rationale, short_rationale,",
        "as in {rationale: 0.7, answer: 0.3}; did you mean answer?",
    ),
    "value for a table": ("tuning.lora=3", "tuning.lora holds several settings", "lora.r=..."),
    "a span of numbers": (
        "seed=1..3",
        "seed: '1..3'; give a whole number, or several with -m: 'seed=range(1,4)'\n",
    ),
    "value for own names": ("method.epochs=3", "method.epochs holds several", "epochs.first=..."),
    "list for a table": ("+tuning.lora=[1]", "+tuning.lora=[1]"),
    "number for a group": (
        "tuning=3",
        "invalid value for tuning: 3; give one of full, lora, qlora",
    ),
    "null for a group": (
        "engine=null",
        "engine is null, and a run needs one; give engine= one of own,",
    ),
    "nothing for a group": ("split=", "split is empty, and a run needs one"),
    "null for a part that may be left out": ("experiment=null", "chooses nothing; leave it out"),
    "another tool's name": (
        "tuning.lr=1",
        "no setting tuning.lr; did you mean tuning.learning_rate?",
    ),
    "another tool's name alone": ("lora_r=8", "did you mean tuning.lora.r?"),
    "name of two groups": ("evaluation.batch=8", "did you mean evaluation.batch_size?"),
    "setting without its group": ("shots=3", "did you mean dataset.prompt.shots?"),
    "model of the hub": (
        "model=openai-community/gpt2",
        "model=phi3 model.id=openai-community/gpt2",
    ),
    "file for a dataset": ("dataset=mine.csv", "dataset=local dataset.train_path=mine.csv"),
    "hub's name for a dataset": ("dataset=a/b", "one of the hub is dataset=hub dataset.id=a/b"),
    "group taken away": ("~model", "no model is chosen", "smollm2"),
    "missing reference": ("name=${foo.bar}", "name is ${foo.bar}, which", "'foo.bar' not found"),
    "reference to itself": ("name=${name}", "name is ${name}, which leads back to name itself"),
    "references in a ring": (
        ["model.id=${model.revision}", "model.revision=${model.id}"],
        "model.id is ${model.revision}, which leads back",
    ),
    "reference in a list": ("split.quantiles=[${seeed},1]", "split.quantiles.0 is ${seeed}"),
    "empty variable": ("seed=${oc.env:NO_SUCH}", "seed is ${oc.env:NO_SUCH}", "variable 'NO_SUCH'"),
    "unknown resolver": ("seed=${foo:1}", "seed is ${foo:1}", "interpolation type foo"),
    "reference of another type": ("seed=${model.name}", "invalid value for seed", "'smollm2'"),
    "reference of hydra": ("hydra.run.dir=${nope}", "'nope' not found (in hydra.run.dir=${nope})"),
    "data taken away": ("~dataset", "no dataset is chosen; give dataset= one of arc, arithmetic,"),
    "store taken away": ("~store", "no store is chosen; leave out ~store or store=null"),
    "store of nothing": ("store=null", "no store is chosen; leave out ~store or store=null"),
    "setting taken away": (
        "~evaluation.modes",
        "a setting cannot be taken away; give it a value instead (in ~evaluation.modes)",
    ),
    "names in a list": (
        "hydra.sweeper.cases=[[method=sft],[method=base]]",
        """all of it single ones: 'hydra.sweeper.cases=[["method=sft"],["method=base"]]'""",
    ),
    "blanks around =": ("method = sft", "write it as method=sft\n"),
    "the same, quoted": ('method =" sft"', "write it as method=sft\n"),
    "bracket for a number": ("dataset.prompt.shots=[", "'dataset.prompt.shots=['; give a"),
    "a folder for an option": (
        "model=mine/small",
        "no model 'mine/small'; any other model is a folder",
    ),
    "an id that has a name": (
        "model=Qwen/Qwen2.5-3B-Instruct",
        "no model 'Qwen/Qwen2.5-3B-Instruct'; that is model=qwen2_5_3b\n",
    ),
    "a data set's id that has a name": ("dataset=cais/mmlu", "that is dataset=mmlu\n"),
    "a family": (
        "model=qwen3",
        "did you mean qwen3_0_6b, qwen3_14b, qwen3_1_7b, qwen3_4b or qwen3_8b?",
    ),
    "another kind's setting": (
        "teacher.budget=5",
        "did you mean teacher.budget_usd? teacher of kind openai has it, such as teacher=openai (",
    ),
    "capitals": ("model=TINY", "did you mean tiny?"),
    "no key=value": ("foo", "cannot read 'foo'", "key=value"),
    "a setting without =": ("until", "cannot read 'until'; write until=VALUE, without spaces\n"),
    "a flag": ("--until", "settings have no dashes: until=VALUE\n"),
    "a flag with a value": ("-dataset=text", "settings have no dashes: dataset=text\n"),
    "an option added to another": ("+model=tiny", "choose another without +, as in model=...\n"),
    "an option forced": ("++model=tiny", "choose another without +, as in model=...\n"),
    "an estimator's second word": ("score.estimators=entropy", "did you mean answer_entropy?"),
    "a flag of two words": ("--dry-run", "settings have no dashes: dry_run=true\n"),
    "a flag before its value": (["--seed", "1"], "settings have no dashes: seed=1\n"),
    "a flag before another setting": (["--seed", "a=1"], "settings have no dashes: seed=VALUE\n"),
    "a flag of other tools": (
        "--learning-rate=1e-4",
        "no flag --learning-rate, and settings have no dashes; did you mean tuning.learning_rate?",
    ),
    "a setting for what needs none": (
        "resume=true",
        "no setting resume; nothing is to be set: the same command goes on",
    ),
    "an option alone": (["seed=1", "sft"], "cannot read 'sft'; write method=sft\n"),
    "a value beside its name": (["seed", "1"], "cannot read 'seed'; write seed=1, without spaces"),
    "options with blanks": (["method=sft", "base"], "write method=sft,base, and -m to sweep"),
    "options with blanks and commas": (["method=sft,", "base"], "write method=sft,base, and -m"),
    "blanks before commas": (["seed=1", ",2", ",", "3"], "write seed=1,2,3, and -m to sweep"),
    "a list with blanks": (["split.quantiles=.1", ".9"], "write split.quantiles=.1,.9\n"),
    "a bracketed list with blanks": (
        ["evaluation.modes=[", "answer,", "rationale", "]", "dry-run"],
        "write evaluation.modes=[answer,rationale]\n",
    ),
    "options in a list with blanks": (
        ["evaluation.also=mmlu,", "sciq"],
        "write evaluation.also=mmlu,sciq\n",
    ),
    "a table with blanks": (
        ["method.stages=[{targets:", "{easy:", "answer},", "epochs:", "1}]"],
        "write 'method.stages=[{targets: {easy: answer}, epochs: 1}]'\n",
    ),
    "a setting behind an option": (["model=tiny", "dry-run"], "write dry_run=true, without"),
    "a switch alone": (["dry_run", "sft"], "cannot read 'dry_run'; write dry_run=true, without"),
    "a flag of two words before an option": (["--dry-run", "sft"], "dashes: dry_run=true\n"),
    "a flag that is switched off": (["--dry-run", "false"], "dashes: dry_run=false\n"),
    "an option of two other groups": (
        ["model=tiny", "vllm"],
        "cannot read 'vllm'; write teacher=vllm or engine=vllm\n",
    ),
    "a word that no group has": (["model=tiny", "large"], "cannot read 'large'; write key=value\n"),
    "a word that no setting takes": (["until=score", "loudly"], "'loudly'; write key=value\n"),
    "blanks around = of a setting": (["method", "=", "sft"], "'method'; write method=sft, without"),
    "a comma for a point": (
        "tuning.learning_rate=0,3",
        "learning_rate=0,3 is two values, 0 and 3; write 0.3 for a decimal, or add -m to sweep",
    ),
    "a comma for thousands": ("dataset.train=1,000", "write 1000 for a number of thousands, or"),
    "open bracket": ("split.quantiles=[0.1", "cannot read 'split.quantiles=[0.1'"),
    "unknown flag": ("--foo", "unrecognized arguments: --foo", "--help"),
    "several values without -m": ("method=sft,distill", "add -m"),
    "sweep without -m": ("multirun_sweeps=methods", "-m is missing"),
    "quantiles out of order": ("split.quantiles=[0.9,0.1]", "cut points must rise"),
    "class the split lacks": ("+method.stages.0.targets.simple=answer", "easy, middle, hard"),
    "epochs of zero": ("method.stages.0.epochs=0", "method.stages.0.epochs is 0; give 1 to"),
    "frozen draw": (
        ["split=sampled", "split.temperature=0"],
        "split.temperature is 0.0; give more",
    ),
    "budget at no temperature": (
        ["split=random", "split.match=tokens", "split.temperature=-1"],
        "split.temperature is -1.0; give more than 0, and finite, or null",
    ),
    "class without loss": (
        ["method=hard_only", "+method.stages.0.weights.hard=0"],
        "method.stages.0.weights.hard is 0.0; give more than 0",
    ),
    "weight of another class": (
        ["method=hard_only", "+method.stages.0.weights.easy=2"],
        "method.stages.0.weights names the class 'easy', which the stage does not train",
    ),
    "rescoring of nothing": (
        "method.stages.0.rescore=true",
        "method.stages.0.rescore=stage, but nothing is tuned before the first stage",
    ),
    "rescoring of published scores": (
        [
            "method.stages.1.rescore=true",
            "score=published",
            "score.entropy_column=e",
            "score.correct_column=c",
        ],
        "method.stages.1.rescore=true, but score=published has no scores of a tuned student; use "
        "score=model, or set method.stages.1.rescore=false",
    ),
    "rescoring of a random split": (
        ["method.stages.1.rescore=true", "split=random"],
        "split=random reads no score; use split=entropy or split=sampled, for their control "
        "split.pool without split.match, or set method.stages.1.",
    ),
    "the best of one epoch": (
        ["method=hard_only", "method.stages.0.rescore=epoch", "tuning.select=best"],
        "method.stages.0.rescore=epoch, but tuning.select=best and tuning.patience compare",
    ),
    "fixed cuts of estimates that move every epoch": (
        ["method=hard_only", "method.stages.0.rescore=epoch", "split=entropy_threshold"],
        "method.stages.0.rescore=epoch, but split=entropy_threshold cuts at fixed values",
    ),
    "rescoring by drawn chains": (
        ["method.stages.1.rescore=true", "split.estimator=pass_rate"],
        "split.estimator=pass_rate takes more than the one forward pass",
    ),
    "rescoring of written answers": (
        ["method.stages.1.rescore=true", "tuning.answer_target=bracketed"],
        "tuning.answer_target=bracketed trains answers without a one-token entropy",
    ),
    "own rationales after rescoring": (
        "method.stages=[{targets:{hard:answer}},{targets:{easy:answer},rescore:true},"
        "{targets:{hard:[answer,own_rationale]}}]",
        "method.stages.2 trains the class hard on own_rationale, whose chains are drawn before",
    ),
    "draw of nothing": (["method=redraw", "method.draws.hard=0"], "is 0; give 1 to"),
    "a target twice": (
        "method.stages=[{targets:{hard:[answer,answer]}}]",
        "method.stages.0.targets.hard names answer more than once; name it once",
    ),
    "a target without loss": (
        "method.stages.0.targets.easy={answer:1,rationale:0}",
        "method.stages.0.targets.easy.rationale is 0; give more than 0, and finite",
    ),
    "a share that is a word": (
        "method.stages.0.targets.easy={answer:most}",
        "method.stages.0.targets.easy.answer is most; give more than 0, and finite",
    ),
    "no target": ("method.stages.0.targets.easy=[]", "targets.easy is []; give one of answer,"),
    "list of draws": (
        ["method=hard_only", "+method.stages.0.draw.hard=[3]"],
        "give a whole number",
    ),
    "list of weights": (
        "method.stages=[{targets:{hard:rationale},weights:{hard:[2]}}]",
        "method.stages.0.weights.hard is [2]; give one number",
    ),
    "list of cut points": ("split.quantiles=[[0.1],0.5]", "split.quantiles.0 is [0.1]; give one"),
    "no draw": (
        "method.stages=[{targets:{hard:rationale},draw:null}]",
        "draw: null; give a value, or leave it out",
    ),
    "draw without a class": (
        "method.stages=[{targets:{hard:rationale},draw:3}]",
        "draw: give a table, as in {name: value}",
    ),
    "setting that a stage lacks": (
        "method.stages=[{targets:{hard:rationale},drawn:{hard:3}}]",
        "there is no setting drawn; a stage has targets, epochs, draw, weights, rescore; did you "
        "mean draw?",
    ),
    "stages that are names": ("method.stages=[sft]", "it holds sft; give a table there"),
    "targets that are names": ("method.stages=[{targets:[hard]}]", "a list stands where a table"),
    "class named by a number": ("method.stages=[{targets:{1:answer}}]", "the name 1 is no text"),
    "draw of a class without one": (
        "method.stages.0.draw.easy=3",
        "put + before it: +method.stages.0.draw.easy=",
    ),
    # Added with a plus, it would change nothing.
    "epochs that no stage names": (
        ["method=sft", "method.epochs.first=2"],
        "there is no setting method.epochs.first; method.epochs has alone\n",
    ),
    "draws that no stage names": ("method.draws.easy=2", "method.draws has none\n"),
    "rule of no budget": (
        ["split=random", "split.within=subject"],
        "split.within=subject does nothing with split=random split.match=sizes",
        "add split.match=calls",
    ),
    "temperature of no budget": (
        ["split=random", "split.temperature=0.3"],
        "split.temperature=0.3 does nothing",
    ),
    "strategy of another name": (
        "trainer.strategy=fdsp",
        "invalid value for trainer.strategy: 'fdsp'; give one of ddp, fsdp",
    ),
    "parts of weights of 4 bits": (
        ["tuning=qlora", "trainer.devices=2", "trainer.strategy=fsdp"],
        "trainer.strategy=fsdp cannot divide weights of 4 bits; use tuning=lora, or leave",
    ),
    "unknown launcher": ("hydra/launcher=foo", "there are", "basic"),
    "unknown key of hydra": ("hydra.foo=1", "no setting hydra.foo"),
    "wrong value with --cfg": (["--cfg", "job", "seed=a"], "invalid value for seed"),
    "no such folder": (["-cd", "nowhere"], "nowhere is not a folder"),
}


def wrote_one_line(captured: Any, *parts: str) -> bool:
    lines = captured.err.splitlines()
    missing = [part for part in parts if part not in captured.err]
    assert len(lines) == 1, captured.err
    assert not missing, captured.err
    return "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("given", "parts"), [(case[0], case[1:]) for case in REFUSED.values()], ids=list(REFUSED)
)
def test_refused_with_one_line(
    front_door: FrontDoor,
    started: list[Any],
    capsys: pytest.CaptureFixture[str],
    given: str | list[str],
    parts: tuple[str, ...],
) -> None:
    assert front_door(*([given] if isinstance(given, str) else given)) == 2
    assert wrote_one_line(capsys.readouterr(), *parts)
    assert not started
    assert not Path("outputs").exists()


IN_A_SWEEP = {
    "option of the last job": (["method=sft,distil"], "did you mean distill?"),
    "value of the last job": (["method=sft,distill", "seed=1,a"], "invalid value for seed"),
    "null for a group": (["engine=own,null"], "engine is null, and a run needs one"),
    "rule of the last job": (["split.quantiles=[0.1,0.9],[0.9,0.1]"], "must rise"),
    "reference to itself": (["seed=1,2", "name=${name}"], "(in name=${name})"),
    "added key": (["method=sft,distill", "+foo=1"], "no setting foo"),
    "range that never ends": (["seed=interval(0,1)"], "has no end of values; list them"),
    "unknown sweep": (["multirun_sweeps=nope"], "no multirun_sweeps 'nope'"),
    "misspelt launcher": (["hydra/launcher=baisc"], "did you mean basic?"),
    "case that cannot be": (['hydra.sweeper.cases=[["method=sft"],["method=sftt"]]'], "mean sft?"),
    "wrong key in a case": (['hydra.sweeper.cases=[["sede=1"]]'], "no setting sede"),
    "cases that are no list": (["hydra.sweeper.cases=3"], "hydra.sweeper.cases"),
    "wrong value of a search": (["multirun_sweeps=tune_lr", "seed=a"], "invalid value for seed"),
}


@pytest.mark.parametrize(("given", "part"), list(IN_A_SWEEP.values()), ids=list(IN_A_SWEEP))
def test_a_sweep_is_refused_before_its_first_job(
    front_door: FrontDoor,
    started: list[Any],
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    part: str,
) -> None:
    assert front_door("-m", *given) == 2
    assert wrote_one_line(capsys.readouterr(), part)
    assert not started
    assert not Path("outputs").exists()


YAMLS = {
    "misspelt key": (
        "defaults: [/schema/method@_here_, _self_]\nname: mine\nstagess: []\n",
        "no setting method.stagess; did you mean stages? (method has name, epochs, draws, stages) "
        "(in method/mine.yaml)",
    ),
    "no schema named": ("name: mine\nstagess: []\n", "did you mean stages?"),
    "no YAML": ("name: mine\n  stages: [}\n", "method/mine.yaml, line 2, is not valid YAML"),
    "wrong type": ("name: mine\nstages: 3\n", "invalid value for method.stages"),
    "name left out": (
        "stages: []\n",
        "there is no method.name, which name refers to; add it to the YAML file that method= names",
    ),
}


@pytest.mark.parametrize(("text", "part"), list(YAMLS.values()), ids=list(YAMLS))
def test_a_users_own_file_is_refused_by_name(
    front_door: FrontDoor, capsys: pytest.CaptureFixture[str], text: str, part: str
) -> None:
    Path("mine/method").mkdir(parents=True)
    Path("mine/method/mine.yaml").write_text(text)
    assert front_door("-cd", "mine", "method=mine") == 2
    assert wrote_one_line(capsys.readouterr(), part)


def test_a_file_with_another_ending_is_named(
    front_door: FrontDoor, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("caft/method").mkdir(parents=True)
    Path("caft/method/mine.yml").write_text("name: mine\nstages: []\n")
    assert front_door("method=mine") == 2
    assert wrote_one_line(capsys.readouterr(), "caft/method/mine.yml is not read", "rename it")


def test_the_version_is_ours(front_door: FrontDoor, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        front_door("--version")
    assert capsys.readouterr().out == f"caft {version('caft')}\n"


def test_a_users_own_file_is_an_option(front_door: FrontDoor, started: list[Any]) -> None:
    Path("mine/method").mkdir(parents=True)
    Path("mine/method/mine.yaml").write_text("name: mine\nstages: []\n")
    assert front_door("-cd", "mine", "method=mine") == 0
    assert started[0][0].method.name == "mine"
