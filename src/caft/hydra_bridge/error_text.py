"""Errors of Hydra and OmegaConf in one line: what was given, what is allowed, a suggestion."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    GrammarParseError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)
from yaml import MarkedYAMLError

from caft.errors import UserError, did_you_mean, first_line
from caft.hydra_bridge.groups import BESIDE_A_RUN, OWN_CONFIGS, list_options_of
from caft.hydra_bridge.overrides import (
    dial_types,
    holds_text,
    is_quoted,
    list_example,
    member_type,
    show_form,
)
from caft.hydra_bridge.suggestions import (
    name_by_id,
    suggest_begun,
    suggest_option,
    suggest_setting,
)
from caft.program import install_hint
from caft.run_config import KINDS, RunConfig

_WITH_EXTRA_SWEEP = ("joblib", "submitit_local", "submitit_slurm", "optuna")
_LONGEST_LINE = 300
_KINDS_OF_VALUES: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
}
_CONVERTED = {
    "Integer": _KINDS_OF_VALUES[int],
    "Float": _KINDS_OF_VALUES[float],
    "bool": _KINDS_OF_VALUES[bool],
}
_ALREADY = re.compile(r"Could not append to config. An item is already at '(.+)'\.")
_CHOSEN = re.compile(
    r"Multiple values for (\w+)\..*|force-add of config groups is not supported: '\+\+(\w+)=.*"
)
_SPAN = re.compile(r"Value '(\d{1,9})(?:\.\.|[:-])(\d{1,9})' .* converted to Integer")
_NO_NULL = re.compile("is not Optional|Incompatible value 'None'")
_PLAIN = {
    r"Invalid value '(.*)', expected one of \[(.*)\]": r"'\1'; give one of \2",
    r"Value '(.*)' of type '\w+' could not be converted to \w+": r"'\1'",
    r"Value '(.*)' is not a valid bool \(type \w+\)": r"'\1'",
    r"Invalid value assigned: \w+ is not a ListConfig, list or tuple\.": "it is no list",
    r"field '.*' is not Optional": "it cannot be null",
    r"Cannot assign \w+ to Dict\[.*": "give a table, as in {name: value}",
    r"Invalid type assigned: \w+ is not a subclass of \w+. value: (.*)":
        r"it holds \1; give a table there, as in {name: value}",
    r"Value (.*) \((?:list|dict)\) is not a valid input for <enum .*>":
        r"it is \1; give one name",
    r"Cannot merge DictConfig with ListConfig":
        "a list stands where a table belongs; write it as in {name: value}",
    r"Cannot merge ListConfig with DictConfig":
        "a table stands where a list belongs; write it as in [A,B]",
    r"Key (\S+) \(\w+\) is incompatible with \(str\)":
        r"the name \1 is no text; give one that begins with a letter",
    r"\w+ \(DictConfig\) does not support deletion":
        "a setting cannot be taken away; give it a value instead",
}  # fmt: skip
"""What OmegaConf says in the words of Python's types, as patterns, and the same for its users."""


def explain(error: BaseException) -> str:
    """What was given, what is allowed and, if a name is similar, what was probably meant."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, HydraException):
        return _explain_hydra(error)
    if isinstance(error, OmegaConfBaseException):
        return _explain_omegaconf(error)
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}, is not valid YAML: {error.problem}"
    return _first_line(error)


def _explain_hydra(error: HydraException) -> str:
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OmegaConfBaseException):
        return _explain_override(cause, _where(str(error)))
    match error:
        case MissingConfigException():
            return _explain_choice(error)
        case OverrideParseException():
            return f"cannot read {error.override!r}; {_show_readable(str(error.override))}"
        case ConfigCompositionException() if "--multirun" in str(error):
            return _explain_several(_first_line(error))
    if chosen := _CHOSEN.match(_first_line(error)):
        group = chosen[1] or chosen[2]
        return f"{group} has an option already; choose another without +, as in {group}=..."
    there = r"\1 is there already; set it without +, as in \1=..."
    return _ALREADY.sub(there, _first_line(error))


def _explain_override(cause: OmegaConfBaseException, where: str) -> str:
    """What is wrong in the override, or the file, that `where` names."""
    key = where.removeprefix(" (in ").lstrip("+").partition("=")[0]
    if _first_line(cause) == "list index out of range":
        return f"{_name_absent(key)}{where}"
    if "Cannot merge DictConfig with ListConfig" in str(cause):
        return f"{_name_settings(key) or _in_plain_words(cause)}{where}"
    return f"{_explain_omegaconf(cause)}{where}"


def _show_readable(override: str) -> str:
    """The form in which Hydra can read what `override` is meant to set."""
    key, equals, value = (part.strip() for part in override.partition("="))
    if not equals or not key or not override.isprintable():
        return "write key=value"
    if "[" in key:  # as Python and OmegaConf write it
        dotted = re.sub(r"\[(\w+)\]", r".\1", key)
        return f"write {dotted}={value}" if "[" not in dotted else "write key=value"
    if member_type(key.lstrip("+")) is not None:
        example = list_example(key.lstrip("+"))
        if "{" in example:
            return f"a shell takes braces apart, so write all of it in single quotes: '{example}'"
        return f"write a list as in {example}, and a member with other signs in double quotes"
    if value.startswith("[") and "=" in value:
        quoted = re.sub(r'[^\[\],"\s]+=[^\[\],"]*', r'"\g<0>"', value)
        return f"members with = need double quotes, and all of it single ones: '{key}={quoted}'"
    return _show_one(key, value[1:-1] if is_quoted(value) else value)


def _show_one(key: str, text: str) -> str:
    """How a setting with one value is given."""
    if re.fullmatch(r"[\w.-]+", text.strip()):
        return f"write it as {key}={text.strip()}"
    if key in dial_types() and not holds_text(key):
        return _what_fits(key, "").removeprefix("; ") or "write key=value"
    return f"write it as {show_form(key, text)}"


def _explain_several(line: str) -> str:
    """Values with a comma between, without -m; two numbers may be one."""
    override = line.partition("'")[2].removesuffix("'")
    key, _, value = override.partition("=")
    kinds = dial_types().get(key.lstrip("+"), set())
    whole, comma, rest = value.partition(",")
    if not (comma and whole.isdigit() and rest.isdigit()) or not kinds <= {int, float} or not kinds:
        return f"{line}; {_show_unambiguous(key, value)}"
    one = f"{whole}.{rest} for a decimal" if float in kinds else ""
    if float not in kinds and len(rest) == len("000"):
        one = f"{whole}{rest} for a number of thousands"
    if not one:
        return f"{line}; {_show_unambiguous(key, value)}"
    return (
        f"{override} is two values, {whole} and {rest}; write {one}, or add -m to sweep over both"
    )


def _show_unambiguous(key: str, value: str) -> str:
    if hint := _name_settings(key.lstrip("+")):
        return hint
    one_text = holds_text(key.lstrip("+")) and value.isprintable()
    more = f", or write one text as {show_form(key, value)}" if one_text else ""
    return f"add -m to sweep over its values{more}"


def _name_settings(key: str) -> str:
    """What to set instead of `key`, if it is no setting, or one that has settings inside."""
    known = dial_types()
    owner, _, name = key.rpartition(".")
    if not name or not any(setting.startswith(f"{owner}.") for setting in known) or not owner:
        return ""  # a group's options, a table's own names, and what is Hydra's
    inner = [setting for setting in known if setting.startswith(f"{key}.")]
    if inner:
        return f"{key} holds several settings; set each of them, as in {inner[0]}=..."
    return "" if key in known else f"there is no setting {key}{did_you_mean(key, known)}"


def _explain_omegaconf(error: OmegaConfBaseException) -> str:
    match error:
        case ConfigKeyError() | ConfigAttributeError():
            return _explain_key(error)
        case MissingMandatoryValue():
            return f"{error.full_key} is missing; give {error.full_key}=..."
        case ValidationError() if error.full_key:
            return _explain_value(error)
    return _in_plain_words(error)


def _as_typed(full_key: object) -> str:
    """A key as a command line takes it: OmegaConf writes stages[0]."""
    return re.sub(r"\[(\d+)\]", r".\1", str(full_key))


def _in_plain_words(error: OmegaConfBaseException) -> str:
    line = _first_line(error)
    plain = (re.sub(f"^{said}$", words, line) for said, words in _PLAIN.items())
    return next((words for words in plain if words != line), line)


def _explain_value(error: ValidationError) -> str:
    """A value that its setting cannot have."""
    key, said = _as_typed(error.full_key), _first_line(error)
    fits = _what_fits(key, said)
    if said.endswith("value: {}") and key.rpartition(".")[2].isdigit():
        return _name_absent(key)  # {} is what Hydra made to put a setting inside
    if inner := _list_inner(error):
        return f"{key} holds several settings; set each of them, as in {key}.{inner[0]}=..."
    if _NO_NULL.search(said):
        return f"invalid value for {key}: null{fits or '; give a value, or leave it out'}"
    span = _SPAN.search(said)
    several = f", or several with -m: '{key}=range({span[1]},{int(span[2]) + 1})'" if span else ""
    return f"invalid value for {key}: {_in_plain_words(error)}{fits}{several}"


def _name_absent(key: str) -> str:
    """A member behind a list's last one."""
    owner, _, place = key.rpartition(".")
    return f"{owner} has no member {place}; write the whole list, as in '{list_example(owner)}'"


def _list_inner(error: ValidationError) -> list[str]:
    """The settings in what was given one value: OmegaConf speaks of Python's types there."""
    parent = error.parent_node
    if not isinstance(parent, DictConfig):
        return []
    # The error may be about a key that is not there, or about none.
    group = parent._get_node(error.key, validate_access=False, validate_key=False)
    return [str(name) for name in group] if isinstance(group, DictConfig) else []


def explain_reference(path: str, raw: str, error: OmegaConfBaseException) -> str:
    """`path` holds `raw`, a reference such as ${name}, that leads nowhere or back to itself."""
    reason = _first_line(error)
    if "Recursive" in reason:
        return f"{path} is {_cut(raw)}, which leads back to {path} itself; give a value"
    absent = re.match(r"Interpolation key '(\w+)\.([\w.]+)' not found", reason)
    if absent and (options := list_options_of(absent[1])):
        return _explain_incomplete(absent[1], absent[2], path, options)
    # OmegaConf puts its own text before that of the resolver.
    reason = re.sub(r"^\w+ raised while resolving interpolation: ", "", reason).strip('"')
    literal = holds_text(path) and raw.isprintable()
    return (
        f"{path} is {_cut(raw)}, which cannot be looked up: {reason}; give a value, or refer to a "
        "setting that is there"
        + (f"; where the text itself holds ${{, write {show_form(path, raw)}" if literal else "")
    )


def _explain_incomplete(group: str, name: str, path: str, options: Sequence[str]) -> str:
    """A group's own file that lacks a setting which another one refers to."""
    return (
        f"there is no {group}.{name}, which {path} refers to; add it to the YAML file that "
        f"{group}= names, or let that begin with `defaults: [OPTION, _self_]`, where OPTION is one "
        f"of {', '.join(options)}"
    )


def name_references(error: BaseException, overrides: Sequence[str]) -> str:
    """The command line's references, where one is broken and OmegaConf does not say which."""
    if not isinstance(error, InterpolationResolutionError | GrammarParseError):
        return ""
    with_reference = [override for override in overrides if "${" in override]
    return f" (in {' '.join(with_reference)})" if with_reference else ""


def _what_fits(key: str, said: str) -> str:
    """What the setting `key` is given, in words."""
    if member_type(key) is not None:
        return f"; give a list, as in {list_example(key)}"
    kinds = dial_types().get(key, set())
    if len(kinds) == 1 and (kind := _KINDS_OF_VALUES.get(next(iter(kinds)))):
        return f"; give {kind}"
    converted = re.search(
        r"(?:could not be converted to|is not a valid) (Integer|Float|bool)", said
    )
    return f"; give {_CONVERTED[converted[1]]}" if converted else ""


def _explain_choice(error: MissingConfigException) -> str:
    named = error.missing_cfg_file or ""
    group, _, option = named.rpartition("/")
    typed = group.removeprefix("schema/")
    if typed != group and (kinds := KINDS.get(typed)):
        preset = option in list_options_of(typed)
        instead = f"; for the settings of {option}, put '- {option}' there" if preset else ""
        return f"no kind {option!r} for '/{named}@_here_'; there are {', '.join(kinds)}{instead}"
    if list_options_of(named.partition("/")[0]):  # a hub id has a slash of its own
        group, _, option = named.partition("/")
    options = sorted(error.options or list_options_of(group))
    if not options:
        return _first_line(error)
    if own := _find_other_ending(group, option):
        return f"{own} is not read, since its name does not end in .yaml; rename it"
    if meant := name_by_id(group, option):
        return f"no {group} {option!r}; that is {group}={meant}"
    form = suggest_option(group, option)
    if form and ("/" in option or os.path.isdir(option)):
        return f"no {group} {option!r}{form}; there are {', '.join(options)}"
    hint = suggest_begun(option, options) or did_you_mean(option, options) or form
    if option in _WITH_EXTRA_SWEEP:
        hint = f"; the others come with: {install_hint('sweep')}"
    return f"no {group} {option!r}; there are {', '.join(options)}{hint}"


def _find_other_ending(group: str, option: str) -> Path | None:
    """A file of the user's for this option whose name Hydra does not take."""
    files = (Path(OWN_CONFIGS) / group / f"{option}{ending}" for ending in (".yml", ".YAML"))
    return next((file for file in files if file.is_file()), None)


def _explain_key(error: OmegaConfBaseException) -> str:
    full_key, key, parent = _as_typed(error.full_key), str(error.key), error.parent_node
    names = [str(name) for name in parent if name != "hydra"] if parent is not None else []
    owner, _, _ = full_key.rpartition(".")
    if not owner and (member := _name_member(error.object_type)):
        return (
            f"there is no setting {key}; {member} has {', '.join(names)}{did_you_mean(key, names)}"
        )
    if not owner:
        names = sorted({*names, *(field.name for field in dataclasses.fields(RunConfig))})
        names += BESIDE_A_RUN
    hint = suggest_setting(owner, key, names)
    # A number that no stage refers to would change nothing.
    if owner not in {"", "method.epochs", "method.draws"} and error.object_type is dict:
        hint += f"; to add a name of your own put + before it: +{full_key}=..."
    allowed = f"{owner or 'a run'} has {', '.join(names) or 'none'}"
    return f"there is no setting {full_key}{hint}{f' ({allowed})' if hint else f'; {allowed}'}"


def _name_member(schema: object) -> str:
    """`a stage`, for a table inside a list, which OmegaConf reads before it knows its place."""
    if not isinstance(schema, type) or not dataclasses.is_dataclass(schema) or schema is RunConfig:
        return ""
    return f"a {schema.__name__.removesuffix('Config').lower()}"


def _where(message: str) -> str:
    if in_file := re.match(r"In '([^']+)'", message):
        return f" (in {in_file[1]}.yaml)"
    in_override = re.match(r"Error merging override (.+)", message)
    return f" (in {_cut(in_override[1])})" if in_override else ""


def _first_line(error: BaseException) -> str:
    return _cut(first_line(error).strip())  # what was given is quoted, however long it is


def _cut(line: str) -> str:
    half = _LONGEST_LINE // 2
    return line if len(line) <= _LONGEST_LINE else f"{line[:half]} ... {line[-half:]}"
