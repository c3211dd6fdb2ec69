"""The names that `--against` takes. Nothing is loaded for them: a command knows them before it measures."""

from __future__ import annotations

# Before the name of a backend: whole restores by our runtime on it.
BACKEND = "backend:"
# Run by torch from the checkpoint.
IN_TORCH = ("eager", "compile", "published")
# Bare evaluations of the plan's graph in a loop of the library's own.
BARE = ("onnxruntime", "openvino")
# Every other backend that can run here.
BACKENDS = "backends"
NAMES = (
    *IN_TORCH, *BARE, BACKENDS, "backend:openvino", "backend:onnxruntime", "backend:tensorrt",
    "backend:onnxruntime-cuda", "backend:onnxruntime-tensorrt", "backend:torch", "backend:torch-eager",
)  # fmt: skip
