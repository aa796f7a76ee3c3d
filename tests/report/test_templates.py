"""No template reads a field by an attribute that a dict has as a method."""

from __future__ import annotations

from importlib.resources import files

import pytest
from jinja2 import Environment, nodes

_METHODS = frozenset(name for name in dir(dict) if not name.startswith("_"))
_TEMPLATES = {
    str(path.relative_to(folder)): path.read_text(encoding="utf-8")
    for folder in [files("caft")]
    for path in sorted(folder.rglob("*.j2"))  # type: ignore[attr-defined]
}


def list_methods_read(source: str) -> list[str]:
    """Attributes that jinja2 would find as a method of a dict before the key; calls are meant."""
    tree = Environment(autoescape=True).parse(source)
    called = {id(call.node) for call in tree.find_all(nodes.Call)}
    return [
        node.attr
        for node in tree.find_all(nodes.Getattr)
        if node.attr in _METHODS and id(node) not in called
    ]


@pytest.mark.parametrize("source", ["{{ pair.clear }}", "{% if a.b.items %}{% endif %}"])
def test_a_field_that_is_a_method_is_found(source: str) -> None:
    assert len(list_methods_read(source)) == 1
    assert list_methods_read("{% for k, v in a.items() %}{{ k }}{% endfor %}") == []


def test_no_template_of_the_project_reads_one() -> None:
    assert len(_TEMPLATES) > 20
    assert {name: found for name, text in _TEMPLATES.items()
            if (found := list_methods_read(text))} == {}  # fmt: skip
