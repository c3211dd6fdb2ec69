"""What our sources ask of TensorRT, found by reading them: every class, method, argument and value of an enumeration.

The type of a name is followed from `trt.Class(...)`, from annotations such as `trt.ICudaEngine`, and from what the
signatures in the facts say that a method gives.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.runtime.backends.tensorrt.signatures import Signature

MODULE = "trt"


@dataclass(frozen=True)
class Use:
    """One place: a member of a class ("" for the class alone), and with which arguments it is called, if it is."""

    where: str
    kind: str
    member: str
    count: int | None = None
    names: tuple[str, ...] = ()
    assigned: bool = False

    def problem(self, facts: dict[str, Any]) -> str | None:
        """What a version does not have of it."""
        members = facts.get(self.kind)
        if not isinstance(members, dict):
            return f"{self.where}: no class {self.kind}"
        known = members.get(self.member)
        if not self.member:
            return None
        if known is None:
            return f"{self.where}: {self.kind} has no {self.member}"
        if self.assigned and known != "write":
            return f"{self.where}: {self.kind}.{self.member} cannot be set"
        if self.count is None:
            return None
        if not isinstance(known, list):
            return f"{self.where}: {self.kind}.{self.member} cannot be called"
        named = dict.fromkeys(self.names)
        ways = [Signature.parse(text) for text in known]
        if any(way.bound([None] * self.count, named) is not None for way in ways):
            return None
        return f"{self.where}: {self.kind}.{self.member} takes other arguments"


def uses(folder: Path, facts: dict[str, Any]) -> list[Use]:
    """All uses in the files of a folder; `facts` tell what methods give."""
    found: list[Use] = []
    for path in sorted(folder.glob("*.py")):
        reader = _Reader(path.name, facts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # Attributes of self may be set behind where they are used.
        for _ in range(2):
            reader.found = []
            reader.visit(tree)
        found += reader.found
    return found


@dataclass
class _Reader(ast.NodeVisitor):
    file: str
    facts: dict[str, Any]
    found: list[Use] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer = dict(self.types)
        for argument in node.args.args:
            self.types.pop(argument.arg, None)
            self._declare(argument.arg, argument.annotation)
        returned = _annotated(node.returns)
        self.generic_visit(node)
        # What self is given is known in other methods; so is what a method gives.
        self.types = {**outer, **{name: kind for name, kind in self.types.items() if "." in name}}
        if returned:
            self.types[f"{node.name}()"] = returned

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._declare(ast.unparse(node.target), node.annotation)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        kind = self._type(node.value)
        for target in node.targets:
            if isinstance(target, ast.Attribute) and (owner := self._type(target.value)):
                self._add(target, owner, target.attr, assigned=True)
            elif kind:
                self.types[ast.unparse(target)] = kind

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        function = node.func
        names = tuple(word.arg for word in node.keywords if word.arg)
        if isinstance(function, ast.Attribute):
            if _is_module(function.value) and function.attr in self.facts:
                self._add(node, function.attr, "__init__", len(node.args), names)
            elif owner := self._type(function.value):
                self._add(node, owner, function.attr, len(node.args), names)
            elif (kind := _annotated(function.value)) and function.attr == "__init__":
                # Of a base class, with self written out.
                self._add(node, kind, "__init__", len(node.args) - 1, names)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        if _is_module(node.value):
            if node.attr != "__version__":
                self._add(node, node.attr, "")
            return
        owner = _annotated(node.value) or self._type(node.value)
        if owner and isinstance(node.ctx, ast.Load) and node.attr != "__init__":
            self._add(node, owner, node.attr)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            if kind := _annotated(base):
                for method in node.body:
                    if isinstance(method, ast.FunctionDef):
                        count = len(method.args.args) - 1
                        self._add(method, kind, method.name, count)
        self.generic_visit(node)

    def _add(self, node: Any, kind: str, member: str, *rest: Any, **more: Any) -> None:
        self.found.append(Use(f"{self.file}:{node.lineno}", kind, member, *rest, **more))

    def _declare(self, name: str, annotation: ast.expr | None) -> None:
        if kind := _annotated(annotation):
            self.types[name] = kind

    def _type(self, node: ast.expr) -> str | None:
        """The class of an expression, where it is TensorRT's."""
        if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in self.types:
            return self.types[ast.unparse(node)]
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            return None
        if kind := _annotated(node.func):
            return kind
        if ast.unparse(node.func.value) == "self":
            return self.types.get(f"{node.func.attr}()")
        owner = self._type(node.func.value)
        known = self.facts.get(owner, {}).get(node.func.attr) if owner else None
        result = Signature.parse(known[0]).result if isinstance(known, list) else None
        return result if result in self.facts else None


def _is_module(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == MODULE


def _annotated(node: ast.expr | None) -> str | None:
    """`Class` of `trt.Class`."""
    return node.attr if isinstance(node, ast.Attribute) and _is_module(node.value) else None


def pairs(found: list[Use]) -> Iterator[tuple[str, str]]:
    """(class, member)."""
    for use in found:
        yield use.kind, use.member
