"""Writing ONNX node by node, so that engines see what they fuse: what every graph of this project is written with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mrs.runtime.errors import CheckpointError, InputError
from mrs.runtime.onnx_guard.graph import NODES

# LayerNormalization came with opset 17; ReduceMean takes its axes as an input from 18 on.
OPSET = 18
# The newest format that the oldest supported engines read.
IR_VERSION = 9

F32 = NDArray[np.float32]


class Emitter:
    """Collects nodes and weights; every method returns the name of the value that it made.

    Args:
        state: float32 weights by their keys.
        prefix: of the names that it gives by itself.
    """

    def __init__(self, state: Mapping[str, F32] | None = None, prefix: str = "") -> None:
        self.state = state or {}
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._weights: set[str] = set()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def __call__(self, op: str, *inputs: str, output: str = "", outputs: int = 1, **attributes: Any) -> str:
        """Add a node; the name of its output, or what its outputs' names begin with: `name.0`, `name.1`, ..."""
        name = output or f"{self.prefix}{op}_{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, **attributes))
        return name

    def weight(self, name: str, value: NDArray[np.generic]) -> str:
        """Add a weight under a name of its own, once."""
        if name not in self._weights:
            self._weights.add(name)
            self.initializers.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def constant(self, value: NDArray[np.generic]) -> str:
        """Add a constant; equal ones are kept once."""
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(f"{self.prefix}constant_{len(self._constants)}", value)
        return self._constants[key]

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def whole(self, *values: int) -> str:
        """An int64 vector."""
        return self.constant(np.array(values, np.int64))

    def conv(
        self,
        x: str,
        key: str,
        *,
        pads: int = 0,
        strides: int = 1,
        group: int = 1,
        part: slice | None = None,
        scale: F32 | None = None,
        output: str = "",
    ) -> str:
        """A convolution with the weights under `key`; of its output channels only `part`, times `scale`.

        Raises:
            CheckpointError: where the product exceeds float32.
        """
        weight, bias = self.state[f"{key}.weight"], self.state.get(f"{key}.bias")
        suffix = "" if part is None else f".{part.start}"
        if part is not None:
            weight, bias = weight[part], bias[part] if bias is not None else None
        if scale is not None:
            weight = weight * scale[:, None, None, None]
            bias = bias * scale if bias is not None else None
            if not np.isfinite(weight).all() or not (bias is None or np.isfinite(bias).all()):
                raise CheckpointError(
                    f"the weights {key} times those that they are folded with exceed float32", hint="check the weights"
                )
        inputs = [x, self.weight(f"{key}.weight{suffix}", weight)]
        if bias is not None:
            inputs.append(self.weight(f"{key}.bias{suffix}", bias))
        side = weight.shape[2]
        return self(
            "Conv", *inputs, output=output,
            kernel_shape=[side, side], pads=[pads] * 4, strides=[strides] * 2, group=group,
        )  # fmt: skip

    def model(
        self,
        name: str,
        inputs: Mapping[str, Sequence[int | str]],
        outputs: Sequence[int | str] | Mapping[str, Sequence[int | str]],
    ) -> onnx.ModelProto:
        """What was collected as a checked model of float32.

        Args:
            name: of the graph.
            inputs: their sides; a name for a side that is open.
            outputs: sides of the value `output`, or of several by their names.

        Raises:
            InputError: for more nodes than a plan's reader takes.
        """
        if len(self.nodes) > NODES:
            raise InputError(
                f"the network has {len(self.nodes)} operations, more than {NODES}", hint="use fewer blocks"
            )
        given, made = (
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, list(sides)) for key, sides in each.items()]
            for each in (inputs, outputs if isinstance(outputs, Mapping) else {"output": outputs})
        )
        graph = helper.make_graph(self.nodes, name, given, made, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="mrs-trt")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return model
