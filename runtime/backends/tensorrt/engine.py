"""A compiled engine: loaded, with its context, its memory and its addresses, and one enqueue per evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from mrs.kernels.threads import Task, Threads, end
from mrs.runtime.backends.tensorrt.messages import Messages, collected, logger
from mrs.runtime.device import Device, Stream
from mrs.runtime.errors import BackendError

if TYPE_CHECKING:
    import tensorrt as trt

T = TypeVar("T")
Shapes = Mapping[str, tuple[int, ...]]

CANNOT = "tensorrt cannot load its engine"
# What TensorRT asks of an address.
ALIGNMENT = 256


class Engine:
    """All memory of a run is made here, by the device that works on it: an enqueue allocates nothing, so that it can be
    captured.

    Args:
        content: as the builder gave it. It is native code: whoever gives it has checked where it comes from.
        device: a `Cuda`.
        check: raises for an engine that is not the one wanted, and gives the shapes of inputs that are not fixed; of
            others they have no effect.

    Raises:
        BackendError: for an engine of another version or GPU, or that does not take the shapes.
        DeviceMemoryError: where the GPU's memory does not suffice.
    """

    def __init__(self, content: bytes, device: Device, check: Callable[[trt.ICudaEngine], Shapes]) -> None:
        self._device = device
        self._context: trt.IExecutionContext
        self._engine: trt.ICudaEngine
        # The context goes first, then the engine, then what it was made with.
        self._context, self._engine, self._runtime = _apart(device, lambda: _loaded(content, check))
        # For any size that the engine serves: TensorRT takes no less.
        size = max(self._engine.device_memory_size_v2, ALIGNMENT)
        self._memory = device.memory(size)
        self._context.set_device_memory(self._memory.data_ptr(), size)
        # For whoever works on the default stream, on which TensorRT would wait for the whole device.
        self._own = device.stream()

    @property
    def names(self) -> set[str]:
        """Of inputs and outputs."""
        return names_of(self._engine)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of an input or output; -1 for a side that is not fixed."""
        return tuple(self._engine.get_tensor_shape(name))

    def bind(self, name: str, address: int) -> None:
        """Let an input or output lie there."""
        with collected() as messages:
            if not self._context.set_tensor_address(name, address):
                raise messages.error(f"tensorrt refuses the address of {name}")

    def run(self, failed: str) -> None:
        """Give one evaluation to the current stream.

        Args:
            failed: how an error begins.
        """
        current = self._device.current()
        if self._device.handle(current):
            self._enqueue(failed, current)
            return
        self._device.follow(self._own, current)
        self._enqueue(failed, self._own)
        self._device.follow(current, self._own)

    def _enqueue(self, failed: str, stream: Stream) -> None:
        with collected() as messages:
            if not self._context.execute_async_v3(self._device.handle(stream)):
                raise messages.error(failed)


def _apart(device: Device, load: Callable[[], T]) -> T:
    """Call something on a thread of its own, on the current stream.

    Python runs the handlers of signals in the main thread, in whatever code of Python comes next. While an engine is
    loaded that is our logger, and TensorRT's bindings drop what is raised in there: Ctrl-C would be lost.
    """
    stream = device.current()

    def work() -> T:
        with device.on(stream):
            return load()

    threads, task = Threads(1), Task(work)
    try:
        threads.submit(task)
        return task.result()
    except BaseException:
        end([task])
        raise


def _loaded(
    content: bytes, check: Callable[[trt.ICudaEngine], Shapes]
) -> tuple[trt.IExecutionContext, trt.ICudaEngine, trt.Runtime]:
    with collected() as messages:
        runtime = _runtime(messages)
        engine = _deserialized(runtime, content, messages)
        return _made(engine, check(engine), messages), engine, runtime


def _runtime(messages: Messages) -> trt.Runtime:
    import tensorrt as trt

    try:
        return trt.Runtime(logger())
    except TypeError as error:
        # Its factory gave nothing.
        raise messages.error(CANNOT) from error


def _deserialized(runtime: trt.Runtime, content: bytes, messages: Messages) -> trt.ICudaEngine:
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise messages.error(CANNOT)
    return engine


def _made(engine: trt.ICudaEngine, shapes: Shapes, messages: Messages) -> trt.IExecutionContext:
    import tensorrt as trt

    context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    if context is None:
        raise messages.error(CANNOT)
    if not all(context.set_input_shape(name, sides) for name, sides in shapes.items()):
        raise BackendError(f"{CANNOT} for {next(iter(shapes.values()))}: it is for other sizes")
    return context


def names_of(engine: trt.ICudaEngine) -> set[str]:
    """Of inputs and outputs."""
    return {engine.get_tensor_name(number) for number in range(engine.num_io_tensors)}
