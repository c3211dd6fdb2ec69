"""Graphs for int8 and fp8: explicit QuantizeLinear and DequantizeLinear nodes from NVIDIA ModelOpt.

Quantised are the convolutions that are most of the work, a NAFNet's 1x1 and a UNet's 3x3 in their blocks and the
strided ones between levels: weights per output channel, inputs per tensor. Ranges are the largest over every evaluation
of the calibration pictures' restores, because activations of a diffusion network depend on the time (Q-Diffusion, arXiv
2302.04304). The rest stays as it is: the first convolution and the last, depthwise and transposed ones, attention,
norms, residuals, and what has few channels, which costs most of the quality and gains least (docs/engines.md).
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from mrs.export.onnx_writer import IR_VERSION
from mrs.runtime.backends.protocol import QUANTISED
from mrs.runtime.errors import BackendError
from mrs.runtime.system.libraries import first_line

INSTALL = "pip install 'mrs-trt[modelopt]'"
CONVOLUTIONS = re.compile(
    # NAFNets, between their levels too; UNets, whose decoders' convolutions are in two parts.
    r"\.conv[1345]\.weight|^downs\.\d+\.weight|\.(block[12]\.proj|res_conv)(\.x|\.skip)?\.weight$|^downs\.\d+\.3\.weight$"
)
# Channels into a convolution and out of it; ModelOpt has the same bound for fp8, whatever it is asked for.
LEAST = 32
Feed = dict[str, NDArray[np.float32]]


def missing(precision: str) -> str | None:
    """Why no graph can be made for a precision and what to do about it, in one line; None where one can."""
    if precision in QUANTISED and importlib.util.find_spec("modelopt") is None:
        return f"{precision} needs NVIDIA ModelOpt, which is not installed: {INSTALL}"
    return None


def quantised(graph: bytes, precision: str, feeds: Sequence[Feed]) -> bytes:
    """A graph with explicit quantisation, all else float32.

    Args:
        graph: an ONNX model from `build_graph`.
        precision: `int8` or `fp8`.
        feeds: values of the inputs at every evaluation to calibrate on.

    Raises:
        BackendError: where ModelOpt is missing, fails, or quantises nothing.
    """
    reason = missing(precision)
    if reason is not None:
        raise BackendError(reason)
    model = onnx.load_from_string(graph)
    channels = {tensor.name: min(tensor.dims[:2]) for tensor in model.graph.initializer if len(tensor.dims) == 4}
    # ModelOpt takes patterns.
    names = [
        f"{re.escape(node.name)}$"
        for node in model.graph.node
        if node.op_type == "Conv" and CONVOLUTIONS.search(node.input[1]) and channels[node.input[1]] >= LEAST
    ]
    if not names:
        raise BackendError(f"this network has no convolution of {LEAST} channels for {precision}")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "network.onnx", Path(folder) / "quantised.onnx"
        source.write_bytes(graph)
        try:
            from modelopt.onnx.quantization import quantize

            quantize(
                str(source),
                quantize_mode=precision,
                # What it does for fp8 holds for the largest values alone, and clipping costs a restore more than steps.
                calibration_method="max",
                calibration_data_reader=Reader(feeds),
                # Its ONNX Runtime may have no other.
                calibration_eps=["cpu"],
                op_types_to_quantize=["Conv"],
                nodes_to_quantize=names,
                output_path=str(target),
                log_level="ERROR",
                # Types are given by runtime/backends/typed_graph.py.
                high_precision_dtype="fp32",
            )
            made = onnx.load(target)
        except Exception as error:
            # What it and the libraries below raise is written down nowhere.
            raise BackendError(f"ModelOpt cannot quantise for {precision}: {first_line(error)}") from error
    if not any(node.op_type == "QuantizeLinear" for node in made.graph.node):
        raise BackendError(f"ModelOpt finds no convolution in this network for {precision}")
    _leave_residuals(made)
    return bytes(_plain(made).SerializeToString())


def _leave_residuals(model: onnx.ModelProto) -> None:
    """Let only convolutions read what was quantised for them: a UNet's residuals are their inputs, too."""
    makers = {node.output[0]: node for node in model.graph.node}
    for node in model.graph.node:
        reads = [(place, makers.get(name)) for place, name in enumerate(node.input)]
        quantised = {
            place: maker for place, maker in reads if maker is not None and maker.op_type == "DequantizeLinear"
        }
        # A quantised convolution reads its weight so, too.
        if node.op_type == "Conv" and 1 in quantised:
            continue
        for place, maker in quantised.items():
            node.input[place] = makers[maker.input[0]].input[0]


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model written as `build_graph` writes one, which is all that a plan's reader takes."""
    # Float32 here, other types when the graph is typed.
    del model.graph.value_info[:], model.metadata_props[:]
    model.ClearField("producer_version")
    model.ir_version = IR_VERSION
    for tensor in model.graph.initializer:
        if not tensor.HasField("raw_data"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    return model


class Reader:
    """Feeds one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        """The next; None after the last."""
        return next(self._feeds, None)
