"""ONNX Runtime's build for GPUs on the double of a GPU: the real one for CPUs computes, on the same memory.

What the real one does otherwise is refused: options that it does not read, work while a stream is captured, another
thread than the one that captured, other addresses than those that were captured. A session that is let go of while
another one captures ends the process: `died` of the module tells.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import onnxruntime

from tests.runtime.cuda.behaviour import CAPTURING, FailureError, Stream
from tests.runtime.cuda.double import Double

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"
# What ONNX Runtime 1.31 reads: onnxruntime/core/providers/cuda/cuda_execution_provider_info.cc and
# onnxruntime/core/providers/tensorrt/tensorrt_execution_provider_info.cc, as they stand in its libraries for Linux.
OPTIONS = {
    CUDA: {
        "arena_extend_strategy", "cudnn_conv1d_pad_to_nc1d", "cudnn_conv_algo_search", "cudnn_conv_use_max_workspace",
        "device_id", "do_copy_in_default_stream", "enable_cuda_graph", "enable_skip_layer_norm_strict_mode",
        "fuse_conv_bias", "gpu_external_alloc", "gpu_external_empty_cache", "gpu_external_free", "gpu_mem_limit",
        "has_user_compute_stream", "prefer_nhwc", "sdpa_kernel", "tunable_op_enable",
        "tunable_op_max_tuning_duration_ms", "tunable_op_tuning_enable", "use_ep_level_unified_stream", "use_tf32",
        "user_compute_stream",
    },
    TENSORRT: {
        "device_id", "has_user_compute_stream", "trt_auxiliary_streams", "trt_bf16_enable",
        "trt_build_heuristics_enable", "trt_builder_optimization_level", "trt_context_memory_sharing_enable",
        "trt_cuda_graph_enable", "trt_detailed_build_log", "trt_dla_core", "trt_dla_enable",
        "trt_dump_ep_context_model", "trt_dump_subgraphs", "trt_engine_cache_enable", "trt_engine_cache_path",
        "trt_engine_cache_prefix", "trt_engine_decryption_enable", "trt_engine_decryption_lib_path",
        "trt_engine_hw_compatible", "trt_ep_context_embed_mode", "trt_ep_context_file_path",
        "trt_external_data_bytestream", "trt_external_data_bytestream_size", "trt_extra_plugin_lib_paths",
        "trt_force_sequential_engine_build", "trt_force_timing_cache", "trt_fp16_enable",
        "trt_int8_calibration_table_name", "trt_int8_enable", "trt_int8_use_native_calibration_table",
        "trt_layer_norm_fp32_fallback", "trt_load_user_initializer", "trt_max_partition_iterations",
        "trt_max_workspace_size", "trt_min_subgraph_size", "trt_onnx_bytestream", "trt_onnx_bytestream_size",
        "trt_onnx_model_folder_path", "trt_op_types_to_exclude", "trt_preview_features", "trt_profile_max_shapes",
        "trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_sparsity_enable", "trt_tactic_sources",
        "trt_timing_cache_enable", "trt_timing_cache_path", "trt_weight_stripped_engine_enable", "user_compute_stream",
    },
}  # fmt: skip
NO_FALLBACK = "session.disable_cpu_ep_fallback"
ON_CPU = (
    "[ONNXRuntimeError] : 1 : FAIL : This session contains graph nodes that are assigned to the default CPU EP, "
    "but fallback to CPU EP has been explicitly disabled by the user."
)


class Gpu(Double):
    """A double that knows its streams by the numbers that CUDA has for them."""

    def __init__(self) -> None:
        super().__init__()
        self.streams: dict[int, Stream] = {}

    def stream(self) -> Stream:
        stream = super().stream()
        self.streams[self.handle(stream)] = stream
        return stream


class Options(onnxruntime.SessionOptions):
    """Keeps to itself that nothing may run on the CPU, where all runs here."""

    forbidden = False

    def add_session_config_entry(self, key: str, value: str) -> None:
        if key == NO_FALLBACK:
            self.forbidden = value == "1"
            return
        super().add_session_config_entry(key, value)


class Session:
    """As `onnxruntime.InferenceSession`; `log` of the module has what was asked."""

    def __init__(self, module: Any, graph: bytes, options: Options, providers: Any, enable_fallback: int = 1) -> None:
        self.module, self.device = module, module.gpu
        ((self.provider, given),) = providers
        unknown = set(given) - OPTIONS[self.provider]
        if unknown:
            raise RuntimeError(f"Unknown provider option: {sorted(unknown)}")
        if enable_fallback:
            raise AssertionError("it would go on without its provider")
        if module.broken is not None:
            raise module.broken
        if module.silent:
            self.provider = CPU
        elif module.on_cpu and options.forbidden:
            raise RuntimeError(ON_CPU)
        module.log.append((graph, given))
        self.stream = self.device.streams[int(given["user_compute_stream"])]
        self.real = onnxruntime.InferenceSession(graph, options, providers=[CPU])
        self.get_inputs, self.get_outputs = self.real.get_inputs, self.real.get_outputs
        self.captured: tuple[int, list[Any]] | None = None
        self.runs = 0

    def __del__(self) -> None:
        # From a destructor that may not raise: cudaGraphExecDestroy fails in a capture of any thread's.
        if self.module.capturing:
            self.module.died.append("terminate called after throwing an instance of 'OnnxRuntimeException'")

    def get_providers(self) -> list[str]:
        return list(dict.fromkeys([self.provider, CPU]))

    def io_binding(self) -> Binding:
        return Binding(self.real)

    def run_with_iobinding(self, binding: Binding, options: Any) -> None:
        if self.module.captures():
            raise FailureError(f"{CAPTURING}: cudaGraphLaunch(graph_exec, stream_)")
        # It may allocate, which another one's capture forbids.
        self.device.refuse("a run")
        if self.module.failing is not None:
            raise self.module.failing
        self.runs += 1
        here = threading.get_ident(), list(binding.bound)
        # It runs twice without a graph.
        if self.runs == 3:
            self.captured = here
            self.module.capturing.append(self)
            self.device.captured_elsewhere = True
            try:
                self.module.during()
            finally:
                self.device.captured_elsewhere = False
                self.module.capturing.remove(self)
        assert self.captured in (None, here), "another thread, or other addresses"
        with self.device.on(self.stream):
            self.device.give("network", lambda: self.real.run_with_iobinding(binding.real, options))
        if options.get_run_config_entry("disable_synchronize_execution_providers") != "1":
            self.device.wait(self.stream)


class Binding:
    """As `onnxruntime.IOBinding`; the memory of the double is the host's."""

    def __init__(self, real: Any) -> None:
        self.real, self.bound = real.io_binding(), []

    def bind_input(self, *given: Any) -> None:
        self.bound.append(given)
        self.real.bind_input(*given)

    def bind_output(self, *given: Any) -> None:
        self.bound.append(given)
        self.real.bind_output(*given)


def module_for(gpu: Gpu) -> Any:
    """A module in place of `onnxruntime`.

    Attributes:
        broken: what sessions fail with; failing: what runs fail with.
        silent: sessions go on without the provider. on_cpu: some of the graph has no kernel on the GPU.
        log: graph and options of each session.
        during: called within the capture of a session; capturing: those within. died: what ended the process.
    """
    module = SimpleNamespace(
        gpu=gpu, broken=None, failing=None, silent=False, on_cpu=False, log=[],
        during=lambda: None, capturing=[], died=[],
        captures=lambda: gpu.capturing is not None,
        SessionOptions=Options, RunOptions=onnxruntime.RunOptions,
        get_available_providers=lambda: [CUDA, CPU], __version__="1.31.1", __spec__=onnxruntime.__spec__,
    )  # fmt: skip
    module.InferenceSession = lambda *given, **named: Session(module, *given, **named)
    return module
