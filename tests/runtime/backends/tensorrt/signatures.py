"""Calls held against the signatures that the bindings' own descriptions give."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

NONE = object()


@dataclass(frozen=True)
class Parameter:
    """One argument: its name, type and whether it may be left out."""

    name: str
    kind: str
    optional: bool


@dataclass(frozen=True)
class Signature:
    """One way to call a method; `parameters` are without self."""

    parameters: tuple[Parameter, ...]
    result: str

    @staticmethod
    def parse(text: str) -> Signature:
        inside, result = text[text.index("(") + 1 :].rsplit(") -> ", 1)
        parts = [_parameter(part) for part in _split(inside)]
        return Signature(tuple(parts[1:]), result.strip())

    def bound(self, given: Sequence[Any], named: dict[str, Any]) -> dict[str, Any] | None:
        """Arguments by name; None where they are too many, too few or unknown."""
        names = [parameter.name for parameter in self.parameters]
        if len(given) > len(names) or not set(named) <= set(names[len(given) :]):
            return None
        found = {**dict(zip(names, given, strict=False)), **named}
        return found if all(p.optional or p.name in found for p in self.parameters) else None

    def fits(self, given: Sequence[Any], named: dict[str, Any], is_a: Callable[[Any, str], bool]) -> bool:
        """Whether a call has these arguments, of these types."""
        found = self.bound(given, named)
        kinds = {parameter.name: parameter.kind for parameter in self.parameters}
        return found is not None and all(is_a(value, kinds[name]) for name, value in found.items())


def is_plain(value: Any, kind: str) -> bool | None:
    """Whether a value is of one of Python's own types; None for a type that is none of these."""
    checks: dict[str, Callable[[], bool]] = {
        "typing.SupportsInt": lambda: hasattr(value, "__int__") and not isinstance(value, str),
        "str": lambda: isinstance(value, str),
        "bool": lambda: isinstance(value, bool),
        "int": lambda: isinstance(value, int),
        "tuple": lambda: isinstance(value, tuple),
        "list": lambda: isinstance(value, list),
        "object": lambda: True,
        "typing_extensions.Buffer": lambda: isinstance(value, bytes | bytearray | memoryview),
        "collections.abc.Sequence[typing.SupportsInt]": lambda: (
            isinstance(value, list | tuple) and all(isinstance(each, int) for each in value)
        ),
    }
    return checks[kind]() if kind in checks else None


def _parameter(text: str) -> Parameter:
    declared, equals, _ = text.partition(" = ")
    name, _, kind = declared.partition(":")
    return Parameter(name.strip(), kind.strip(), bool(equals))


def _split(text: str) -> list[str]:
    """At the commas that lie in no bracket."""
    parts, depth, begin = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "([{<") - (letter in ")]}>" and text[place - 1 : place + 1] != "->")
        if letter == "," and depth == 0:
            parts.append(text[begin:place])
            begin = place + 1
    return [part for part in (*parts, text[begin:]) if re.search(r"\S", part)]
