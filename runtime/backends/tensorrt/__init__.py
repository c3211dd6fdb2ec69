"""TensorRT 10 and 11 on NVIDIA GPUs: a strongly typed engine, run inside the chain's one CUDA graph."""

from mrs.runtime.backends.tensorrt.backend import TensorRt

__all__ = ["TensorRt"]
