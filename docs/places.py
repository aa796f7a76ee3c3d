"""Which files of the code read a setting, as far as annotations tell: for docs/reference.py."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src" / "caft"


class _Reads(ast.NodeVisitor):
    """(class, field) pairs that one file reads, as far as annotations tell the classes."""

    def __init__(self, members: dict[str, dict[str, str]]) -> None:
        self.members, self.known, self.found = members, [{}], set[tuple[str, str]]()
        self.known: list[dict[str, str]]

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._within(node, {"self": node.name})

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        named = {each.arg: _class_of(each.annotation) for each in arguments if each.annotation}
        self._within(node, named)

    def _within(self, node: ast.AST, named: dict[str, str]) -> None:
        self.known.append({**self.known[-1], **named})
        self.generic_visit(node)
        self.known.pop()

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for name in node.targets:
            if isinstance(name, ast.Name):
                self.known[-1][name.id] = self._type(node.value)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        self.found.add((self._type(node.value), node.attr))

    def _type(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return self.known[-1].get(node.id, "")
        if isinstance(node, ast.Attribute):
            return self.members.get(self._type(node.value), {}).get(node.attr, "")
        return ""


def _class_of(annotation: ast.expr) -> str:
    return re.split(r"[ |\[]", ast.unparse(annotation).strip("'\""))[0].split(".")[-1]


@cache
def read_places() -> dict[tuple[str, str], list[str]]:
    """(class, field) -> the files that read it."""
    trees = {
        file.relative_to(SOURCES).as_posix(): ast.parse(file.read_text(encoding="utf-8"))
        for file in sorted(SOURCES.rglob("*.py"))
    }
    classes = [node for tree in trees.values() for node in ast.walk(tree)
               if isinstance(node, ast.ClassDef)]  # fmt: skip
    members = {node.name: _members(node) for node in classes}
    for _ in range(3):  # inherited ones
        for node in classes:
            for base in map(_class_of, node.bases):
                members[node.name] = {**members.get(base, {}), **members[node.name]}
    places: dict[tuple[str, str], list[str]] = {}
    for file, tree in trees.items():
        reads = _Reads(members)
        reads.visit(tree)
        for read in reads.found:
            places.setdefault(read, []).append(file)
    return places


def _members(node: ast.ClassDef) -> dict[str, str]:
    named = {}
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            named[each.target.id] = _class_of(each.annotation)
        if isinstance(each, ast.FunctionDef) and each.returns:
            named[each.name] = _class_of(each.returns)
    return named
