"""NVIDIA ModelOpt's double: the signature of the real one, quantisation by ONNX Runtime, on which that rests too.

It takes no argument that ModelOpt 0.47 lacks, and leaves out convolutions with fewer channels than `least`, as ModelOpt
does. With the real one installed, a test compares both.
"""

from __future__ import annotations

import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

# The arguments of modelopt.onnx.quantization.quantize in 0.47.0.
ARGUMENTS = {
    "onnx_path", "quantize_mode", "calibration_data", "calibration_method", "calibration_cache_path",
    "calibration_data_reader", "calibration_shapes", "calibration_eps", "override_shapes", "op_types_to_quantize",
    "op_types_to_exclude", "op_types_to_exclude_fp16", "nodes_to_quantize", "nodes_to_exclude",
    "use_external_data_format", "keep_intermediate_files", "output_path", "log_level", "log_file", "trt_plugins",
    "trt_plugins_precision", "high_precision_dtype", "mha_accumulation_dtype", "disable_mha_qdq", "dq_only",
    "block_size", "use_zero_point", "passes", "simplify", "calibrate_per_node", "input_shapes_profile", "model_id",
    "trust_remote_code", "direct_io_types", "opset", "target_dla", "autotune", "autotune_output_dir",
    "autotune_num_schemes_per_region", "autotune_pattern_cache_file", "autotune_state_file",
    "autotune_qdq_baseline", "autotune_node_filter_list", "autotune_verbose", "autotune_use_trtexec",
    "autotune_timing_cache", "autotune_warmup_runs", "autotune_timing_runs", "autotune_trtexec_args",
    "trt_rtx_backend",
}  # fmt: skip
# Largest values of both types: an fp8 scale is the int8 scale times their ratio.
INT8, FP8 = 127.0, 448.0


class ModelOpt:
    """What `install` puts in place.

    Attributes:
        calls: the arguments of each call.
        least: channels below which a convolution is left out.
        fails: what the next call raises.
    """

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.least = 0
        self.fails: BaseException | None = None

    def quantize(self, onnx_path: str, **given: Any) -> None:
        unknown = given.keys() - ARGUMENTS
        if unknown:
            raise TypeError(f"unexpected {unknown}")
        assert given["quantize_mode"] in ("int8", "fp8")
        assert given["calibration_method"] in ("entropy", "max")
        assert given["high_precision_dtype"] in ("fp32", "fp16", "bf16")
        assert set(given["calibration_eps"]) <= {"cpu", "cuda:0", "trt"}
        assert onnx_path.endswith(".onnx")
        self.calls.append(given)
        if self.fails is not None:
            raise self.fails
        model = onnx.version_converter.convert_version(onnx.load(onnx_path), 19)
        sizes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
        chosen = [
            node.name
            for node in model.graph.node
            if any(re.match(pattern, node.name) for pattern in given["nodes_to_quantize"])
            and node.op_type in given["op_types_to_quantize"]
            and min(sizes[node.input[1]][:2]) >= self.least
        ]
        if chosen:
            source, target = Path(onnx_path).with_suffix(".19.onnx"), given["output_path"]
            onnx.save(model, source)
            quantize_static(
                source, target, given["calibration_data_reader"], quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, nodes_to_quantize=chosen,
                op_types_to_quantize=["Conv"], calibrate_method=CalibrationMethod.MinMax,
                extra_options={
                    "QuantizeBias": False, "ActivationSymmetric": True, "AddQDQPairToWeight": True,
                    "OpTypesToExcludeOutputQuantization": ["Conv"], "ForceQuantizeNoInputCheck": True,
                },
            )  # fmt: skip
            model = onnx.load(target)
        if given["quantize_mode"] == "fp8":
            _to_fp8(model)
        onnx.save(model, given["output_path"])


def _to_fp8(model: onnx.ModelProto) -> None:
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = {
        tuple(node.input[1:])
        for node in model.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    }  # fmt: skip
    for scale, zero in pairs:
        values = numpy_helper.to_array(known[scale]) * np.float32(INT8 / FP8)
        known[scale].CopyFrom(numpy_helper.from_array(values.astype(np.float32), scale))
        dims = list(known[zero].dims)
        content = bytes(int(np.prod(dims)))
        known[zero].CopyFrom(onnx.helper.make_tensor(zero, onnx.TensorProto.FLOAT8E4M3FN, dims, content, raw=True))
    del model.graph.value_info[:]


def install(monkeypatch: pytest.MonkeyPatch) -> ModelOpt:
    """ModelOpt, installed."""
    made = ModelOpt()
    names = ("modelopt", "modelopt.onnx", "modelopt.onnx.quantization")
    modules = {name: ModuleType(name) for name in names}
    for name, module in modules.items():
        module.__spec__ = ModuleSpec(name, None)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
    modules[names[2]].quantize = made.quantize  # type: ignore[attr-defined]
    return made
