"""Refuse a plan's network that is none of ours, without loading the onnx package.

Engines are native code and trust an ONNX file: it may name other files, hide subgraphs, read out of bounds, divide by
zero, run in a circle, take hours to compile. Here passes what `mrs.export` emits and nothing else: these fields
(wire.py, model.py), these operators on shapes that fit (operators.py), in this order, from these inputs (graph.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mrs.runtime.errors import PlanError
from mrs.runtime.onnx_guard.codec import Coder, decoder, encoder
from mrs.runtime.onnx_guard.graph import Conditioner, Network, conditioner, network
from mrs.runtime.onnx_guard.model import FLOAT8, FLOAT16, FLOAT32, INT8, INT64, Model, read_model

T = TypeVar("T")

IR_VERSION = 9
# Opset and types of weights, of a network as it is built and of one that is quantised.
KINDS = {
    "fp32": (18, frozenset({FLOAT32, INT64})),
    "int8": (19, frozenset({FLOAT32, INT64, INT8})),
    "fp8": (19, frozenset({FLOAT32, INT64, FLOAT8})),
}
# Of a conditioner, whose matrices may be too large for a file of float32.
CONDITIONER = (18, frozenset({FLOAT32, INT64, FLOAT16}))


def check_network(content: bytes, name: str, kind: str = "fp32") -> Network:
    """Judge a serialised network.

    Args:
        content: the model.
        name: of its file, for errors.
        kind: `fp32`, or `int8` or `fp8` for a network that is quantised for it.

    Raises:
        PlanError: where it is not readable, or holds anything that a network of ours does not.
    """
    return _checked(network, content, f"{name}: its network", KINDS[kind])


def check_conditioner(content: bytes, name: str) -> Conditioner:
    """Judge a serialised conditioner; see `check_network`."""
    return _checked(conditioner, content, f"{name}: its conditioner", CONDITIONER)


def check_encoder(content: bytes, name: str) -> Coder:
    """Judge a serialised encoder of pictures; see `check_network`."""
    return _checked(encoder, content, f"{name}: its encoder", KINDS["fp32"])


def check_decoder(content: bytes, name: str) -> Coder:
    """Judge a serialised decoder of latents; see `check_network`."""
    return _checked(decoder, content, f"{name}: its decoder", KINDS["fp32"])


def _checked(
    walk: Callable[[bytes, Model, frozenset[int]], T], content: bytes, what: str, kind: tuple[int, frozenset[int]]
) -> T:
    opset, types = kind
    try:
        model = read_model(content)
        if (model.ir_version, model.opset) != (IR_VERSION, opset):
            raise ValueError(f"ONNX {model.ir_version} with operators {model.opset}")
        return walk(content, model, types)
    except ValueError as error:
        # It quotes the file, which may hold lists without an end.
        raise PlanError(f"{what} is none of this program's: {error!s:.200}", hint="build it again") from None


__all__ = [
    "Coder", "Conditioner", "Network", "check_conditioner", "check_decoder", "check_encoder", "check_network",
]  # fmt: skip
