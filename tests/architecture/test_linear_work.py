"""No loop over questions builds the same container again for every question.

The test reads the source: a property that makes a container costs its whole length at each access,
and in a loop the square of it, which took a night with 100,000 questions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parents[2] / "src" / "caft").rglob("*.py"))
BUILDERS = {"dict", "list", "set", "sorted", "tuple", "frozenset", "Counter"}
COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
BUILT = ast.ListComp | ast.SetComp | ast.DictComp | ast.List | ast.Dict


def _builds(node: ast.AST) -> bool:
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return isinstance(node, BUILT) or (called and node.func.id in BUILDERS)  # type: ignore[attr-defined]


def find_building_properties(tree: ast.AST) -> Iterator[str]:
    """Names of properties, not of cached ones, that return a container made on the spot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and "property" in map(
            ast.unparse, node.decorator_list
        ):
            returned = [part.value for part in ast.walk(node) if isinstance(part, ast.Return)]
            if any(value is not None and _builds(value) for value in returned):
                yield node.name


def _field_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def find_repeated_work(tree: ast.AST, properties: set[str]) -> Iterator[tuple[int, str]]:
    """Line and text of what each round of a loop builds again without depending on the round."""
    for node in ast.walk(tree):
        if isinstance(node, COMPREHENSIONS):
            bound = _names(*(loop.target for loop in node.generators))
            inside = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            inside += [loop.iter for loop in node.generators[1:]]
            conditions = [condition for loop in node.generators for condition in loop.ifs]
            yield from _repeated(inside, bound, properties, calls=False)
            yield from _repeated(conditions, bound, properties, calls=True)
        elif isinstance(node, ast.For):
            bound = _names(node.target) | _assigned(node)
            yield from _repeated(node.body, bound, properties, calls=False)


def _repeated(
    parts: list[ast.expr] | list[ast.stmt], bound: set[str], properties: set[str], *, calls: bool
) -> Iterator[tuple[int, str]]:
    nodes = [inner for part in parts for inner in ast.walk(part)]
    # Loops within this one are looked at by themselves.
    within = (
        loop.target
        for node in nodes
        if isinstance(node, COMPREHENSIONS)
        for loop in node.generators
    )
    bound = bound | _names(*within)
    for node in nodes:
        attribute = isinstance(node, ast.Attribute) and node.attr in properties
        call = calls and isinstance(node, ast.Call) and _builds(node) and node.args
        if (attribute or call) and not _names(node) & bound:
            yield node.lineno, ast.unparse(node)  # type: ignore[attr-defined]


def _names(*nodes: ast.AST) -> set[str]:
    return {part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name)}


def _assigned(loop: ast.For) -> set[str]:
    stores = (node for node in ast.walk(loop) if isinstance(node, ast.Name))
    return {node.id for node in stores if isinstance(node.ctx, ast.Store)}


def test_no_loop_builds_the_same_container_in_every_round() -> None:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
    properties = {name for tree in trees.values() for name in find_building_properties(tree)}
    # Where a field of another class has the same name, the source does not tell which is meant.
    properties -= {name for tree in trees.values() for name in _field_names(tree)}
    assert properties  # the search finds some
    found = [
        f"{path.name}:{line}: {text}"
        for path, tree in trees.items()
        for line, text in find_repeated_work(tree, properties)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "[split.complexity_of[q.id] for q in train]",
        "[q for q in train if q.id in set(asked)]",
        "sum(1 for q in train if q < sorted(values)[0])",
        "for q in train:\n    print(split.complexity_of[q.id])",
        "{q: 1 for q in train for c in place.complexity_of}",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert list(find_repeated_work(ast.parse(source), {"complexity_of"}))


@pytest.mark.parametrize(
    "source",
    [
        "[c for c in split.complexity_of]",
        "[sorted(row.values) for row in rows]",
        "for job in jobs:\n    print(job.complexity_of)",
    ],
)
def test_the_search_leaves_alone_what_each_round_needs(source: str) -> None:
    assert not list(find_repeated_work(ast.parse(source), {"complexity_of"}))
