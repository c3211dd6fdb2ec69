"""A plan served by NVIDIA Triton Inference Server, whose Python backend calls the class of a model's `model.py`.

`mrs.building.inference_server` writes that file; docs/serving.md describes inputs, outputs and errors. The server gives
its module `triton_python_backend_utils` to nobody but the processes that it starts.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from mrs.runtime.errors import InputError, MrsError
from mrs.runtime.manifest import JsonObject
from mrs.runtime.session import load
from mrs.runtime.system import machine

# What the server's module makes; it publishes no types.
Triton: TypeAlias = Any


class PlanServer:
    """One instance of a served plan, in a process of its own.

    Attributes:
        plan: the plan file.
    """

    plan: ClassVar[Path]

    def initialize(self, args: dict[str, str]) -> None:
        """Load the plan; the server calls it once.

        Args:
            args: of the server: `model_config` (JSON), `model_instance_kind` (CPU, GPU), `model_instance_device_id`.

        Raises:
            TritonModelException: where the plan cannot be loaded here; the server logs its text.
        """
        import triton_python_backend_utils

        self._server = triton_python_backend_utils
        try:
            threads = threads_of(json.loads(args["model_config"]))
            if args["model_instance_kind"] == "GPU":
                _use_gpu(int(args["model_instance_device_id"]))
            self._restorer = load(self.plan, threads=threads)
        except MrsError as error:
            raise self._server.TritonModelException(str(error)) from None

    def execute(self, requests: Sequence[Triton]) -> list[Triton]:
        """A response for each request, in their order; one that fails does not harm the others."""
        return [self._respond(request) for request in requests]

    def finalize(self) -> None:
        """Release the plan; the server calls it once."""
        self._restorer.close()

    def _respond(self, request: Triton) -> Triton:
        server, codes = self._server, self._server.TritonError
        if request.is_cancelled():
            return self._failure("the request was cancelled before its restore", codes.CANCELLED)
        try:
            picture = server.get_input_tensor_by_name(request, "picture").as_numpy()
            restored = self._restorer.restore(picture, _seed(server.get_input_tensor_by_name(request, "seed")))
        except InputError as error:
            return self._failure(str(error), codes.INVALID_ARG)
        except MrsError as error:
            return self._failure(str(error), codes.INTERNAL)
        except Exception as error:  # noqa: BLE001 (raised further, the server would fail all requests of the call)
            server.Logger.log_error(traceback.format_exc())
            return self._failure(f"mrs-trt failed: {type(error).__name__}: {error}", codes.INTERNAL)
        return server.InferenceResponse(output_tensors=[server.Tensor("restored", restored)])

    def _failure(self, message: str, code: Triton) -> Triton:
        return self._server.InferenceResponse(error=self._server.TritonError(message, code))


def threads_of(config: JsonObject) -> int:
    """Threads of one instance: the parameter `threads`, else its share of the processors, which others run on too.

    Args:
        config: the model's configuration as JSON values.

    Raises:
        InputError: where the parameter is no whole number of at least 1.
    """
    asked = config.get("parameters", {}).get("threads", {}).get("string_value")
    if asked is None:
        groups = config.get("instance_group", [])
        instances = sum(int(group.get("count", 1)) for group in groups if group.get("kind") == "KIND_CPU")
        return max(1, machine.threads() // max(1, instances))
    if not (asked.isascii() and asked.isdigit() and int(asked) > 0):
        raise InputError(
            f"the parameter threads is {asked!r}", hint="give a whole number of at least 1 in config.pbtxt"
        )
    return int(asked)


def _seed(tensor: Triton) -> int:
    if tensor is None:
        return 0
    values = tensor.as_numpy()
    if values.size != 1:
        raise InputError(f"seed has {values.size} values", hint="give one for each request")
    return int(values.item())


def _use_gpu(number: int) -> None:
    """Make a GPU the current one of this thread, which calls `execute` too.

    The environment's CUDA_VISIBLE_DEVICES would come too late: the server's process has initialised CUDA already.
    """
    try:
        import torch
    except (ImportError, OSError):
        # Loading the plan says what is missing, or goes on without a GPU.
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(number)
