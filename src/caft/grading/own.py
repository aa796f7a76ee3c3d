"""A grader of the user's own: `module:function`, of the current folder or an installed package."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from caft.errors import UserError

_FORM = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_own(name: str) -> bool:
    """Whether `name` has the form module:function."""
    return _FORM.fullmatch(name) is not None


def load_own(name: str) -> Callable[..., object]:
    """The function. UserError if it cannot be imported, or takes other arguments."""
    module_name, _, function_name = name.partition(":")
    try:
        module = _import(module_name)
    except (Exception, SystemExit) as error:
        raise UserError(
            f"dataset.grader is {name}, and {module_name} cannot be imported "
            f"({type(error).__name__}: {' '.join(str(error).split())}); give module:function of a "
            "file in the current folder, or of an installed package"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(
            f"dataset.grader is {name}, and {module_name} has no function {function_name}; give "
            "one that it has"
        )
    if not _takes_three(function):
        raise UserError(
            f"dataset.grader is {name}, which cannot be called with (answer, gold, question); "
            f"write def {function_name}(answer, gold, question)"
        )
    return function  # type: ignore[no-any-return]


def version_of(function: Callable[..., object]) -> str:
    """12 hexadecimal digits over the function's file: an edited grader grades anew.

    For an object that can be called, the file of its class; nothing for what is built in.
    """
    inner = inspect.unwrap(function)
    while isinstance(inner, partial):
        inner = inner.func
    file = getattr(inspect.getmodule(inner), "__file__", None)
    source = Path(file).read_bytes() if file else b""
    return hashlib.sha256(source).hexdigest()[:12]


def _import(name: str) -> object:
    # The installed command does not look into the current folder, and train.py only into its own.
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(here)


def _takes_three(function: Callable[..., object]) -> bool:
    try:
        inspect.signature(function).bind(None, None, None)
    except TypeError:
        return False
    except ValueError:  # built in, without a signature
        return True
    return True
