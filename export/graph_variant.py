"""How a network's graph is written down: the same function, in the forms that engines run at different speeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

from mrs.runtime.backends import Backend
from mrs.runtime.errors import InputError

NORMS = ("layernorm", "moments", "length", "convolution", "raw")
GATES = ("weights", "split")


@dataclass(frozen=True)
class GraphVariant:
    """How the same function is written down; engines differ in what they run fastest.

    Args:
        norm: `layernorm` is one LayerNormalization node between two transpositions; `moments` spells mean and
            variance out along the channels, without moving data; `length` has the variance from the length of the
            centred vector, so that its squares are never written; `convolution` has mean and variance from a 1x1
            convolution with weights 1/C, which engines make as fast as they can; `raw` has the mean from that and the
            variance from the length of the vector as it is, so that nothing is written in between: exact in float32
            unless the mean is thousands of deviations, but half precision cancels earlier, so that `cancels` is true.
        gate: `weights` computes the two halves of a gate by two convolutions with half the weights each; `split`
            cuts one convolution's output in two.
    """

    norm: str = "layernorm"
    gate: str = "weights"

    def __str__(self) -> str:
        return f"{self.norm}-{self.gate}"

    @property
    def cancels(self) -> bool:
        """Whether a variance is a difference of two larger numbers: parity decides whether that is allowed."""
        return self.norm == "raw"

    @classmethod
    def parse(cls, text: str) -> GraphVariant:
        """The shape whose text this is.

        Raises:
            InputError: where it is none's.
        """
        for fields in product(NORMS, GATES):
            if str(cls(*fields)) == text:
                return cls(*fields)
        raise InputError(f"graph variant {text!r} is unknown")

    def __post_init__(self) -> None:
        for value, known in ((self.norm, NORMS), (self.gate, GATES)):
            if value not in known:
                raise InputError(
                    f"graph variant {self} is unknown", hint=f"use one of {', '.join(known)}, not {value!r}"
                )


def first_variant(backend: Backend) -> GraphVariant:
    """What an engine gets where nothing is measured."""
    return GraphVariant(*backend.variants[0])


def distinct(backend: Backend, graphs: Mapping[GraphVariant, bytes]) -> list[GraphVariant]:
    """The variants that an engine may run fastest, in its order; of those that are one graph the first alone."""
    found: dict[GraphVariant, bytes] = {}
    for variant in (GraphVariant(*form) for form in backend.variants):
        if variant in graphs and graphs[variant] not in found.values():
            found[variant] = graphs[variant]
    return list(found)


def variants_of(backends: Iterable[Backend]) -> set[GraphVariant]:
    """Every form that these engines may run fastest."""
    return {GraphVariant(*form) for backend in backends for form in backend.variants}
