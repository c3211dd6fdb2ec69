"""ONNX Runtime on NVIDIA GPUs, by its provider for CUDA or by the one for TensorRT. docs/engines.md has the reasons."""

from mrs.runtime.backends.onnxruntime_gpu.backend import OnnxRuntimeGpu

__all__ = ["OnnxRuntimeGpu"]
