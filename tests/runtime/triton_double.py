"""A double of what NVIDIA Triton Inference Server gives to a Python model, and of how it runs one.

Names, arguments and checks are those of the bindings in src/pb_stub.cc and src/resources/triton_python_backend_utils.py
of github.com/triton-inference-server/python_backend (2025); nothing that these do not define is here.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

MODULE = "triton_python_backend_utils"
Code = Enum("Code", "UNKNOWN INTERNAL NOT_FOUND INVALID_ARG UNAVAILABLE UNSUPPORTED ALREADY_EXISTS CANCELLED")


class TritonModelException(Exception):
    pass


class TritonError:
    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, CANCELLED = Code

    def __init__(self, message: str, code: Code = Code.INTERNAL) -> None:
        assert type(message) is str
        assert type(code) is Code
        self._message, self._code = message, code

    def message(self) -> str:
        return self._message

    def code(self) -> Code:
        return self._code


class Tensor:
    def __init__(self, name: str, numpy_array: NDArray[Any]) -> None:
        assert type(name) is str
        assert type(numpy_array) is np.ndarray
        self._name, self._array = name, numpy_array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> NDArray[Any]:
        return self._array


class InferenceRequest:
    """As the server makes it; models make others, with more arguments."""

    def __init__(self, inputs: Sequence[Tensor], cancelled: bool = False) -> None:
        self._inputs, self._cancelled = list(inputs), cancelled

    def inputs(self) -> list[Tensor]:
        return self._inputs

    def is_cancelled(self) -> bool:
        return self._cancelled


class InferenceResponse:
    def __init__(
        self, output_tensors: Sequence[Tensor] = (), error: TritonError | None = None, parameters: Any = None
    ) -> None:
        assert all(type(tensor) is Tensor for tensor in output_tensors)
        assert type(error) in (TritonError, type(None))
        self._tensors, self._error = list(output_tensors), error

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error


class Logger:
    lines: ClassVar[list[str]] = []

    @staticmethod
    def log_error(message: str) -> None:
        assert type(message) is str
        Logger.lines.append(message)


def get_input_tensor_by_name(inference_request: InferenceRequest, name: str) -> Tensor | None:
    return next((tensor for tensor in inference_request.inputs() if tensor.name() == name), None)


@contextmanager
def serving(model: Path, version: int = 1, config: Any = (), **args: str) -> Iterator[Callable[..., list[Any]]]:
    """Run a version of a model as the server's process does; gives `execute`, checked as it checks.

    Args:
        model: the folder with config.pbtxt.
        version: what is run.
        config: the configuration as JSON values.
        args: others than those of an instance on a CPU.
    """
    module = ModuleType(MODULE)
    for public in (TritonError, TritonModelException, Tensor, InferenceRequest, InferenceResponse, Logger,
                   get_input_tensor_by_name):  # fmt: skip
        setattr(module, public.__name__, public)
    known, path = set(sys.modules), list(sys.path)
    sys.modules[MODULE] = module
    sys.path += [str(model / str(version)), str(model)]
    # The last run's folders would still be those of the package.
    importlib.invalidate_caches()
    try:
        instance = importlib.import_module(f"{version}.model").TritonPythonModel()
        instance.initialize({
            "model_config": json.dumps(dict(config)), "model_instance_kind": "CPU", "model_instance_device_id": "0",
            "model_repository": str(model), "model_version": str(version), "model_name": model.name, **args,
        })  # fmt: skip

        def execute(*requests: InferenceRequest) -> list[InferenceResponse]:
            responses = instance.execute(list(requests))
            assert type(responses) is list
            assert [type(response) for response in responses] == [InferenceResponse] * len(requests)
            return responses

        yield execute
        instance.finalize()
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - known:
            if name.partition(".")[0] in (MODULE, str(version)):
                del sys.modules[name]
