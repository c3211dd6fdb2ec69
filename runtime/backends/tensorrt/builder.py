"""From a graph to an engine: the build itself, which takes from seconds to many minutes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mrs.kernels.threads import Task, Threads, end
from mrs.runtime.backends.onnx_graph import context_length, parse, with_sides
from mrs.runtime.backends.protocol import Shape
from mrs.runtime.backends.settings import EngineOptions
from mrs.runtime.backends.tensorrt.messages import Messages, collected, logger, not_parsed
from mrs.runtime.backends.tensorrt.progress import Progress, monitor
from mrs.runtime.backends.tensorrt.timing_cache import TimingCache
from mrs.runtime.backends.typed_graph import typed_graph
from mrs.runtime.device import Device
from mrs.runtime.errors import BackendError
from mrs.runtime.system import machine

if TYPE_CHECKING:
    import tensorrt as trt

CANNOT = "tensorrt cannot build the engine"
# A thread of its own: Python threads Ctrl-C to the main thread, which would be busy in TensorRT. And a single one:
# kernels are timed during a build, and two builds of one process would spoil each other's figures.
_BUILDER = Threads(1)


def build_engine(
    graph: bytes,
    shape: Shape,
    precision: str,
    options: EngineOptions,
    device: Device,
    report: Callable[[str], None],
) -> bytes:
    """An engine for one shape, or for the options' range where that holds it.

    Ctrl-C, or whatever else a signal's handler raises, ends the build at its next step; a second one does not wait for
    that, and the next build does. Nothing is written then.

    Args:
        graph: the plan's ONNX model, float32, or the one that was quantised for the precision.
        shape: (N, 2C, H, W) of `packed`.
        precision: `fp32`, `fp16`, `bf16`, `int8` or `fp8`.
        options: of the builder.
        device: a `Cuda`.
        report: called with a line of progress now and then.

    Raises:
        BackendError: where TensorRT refuses; its hint says what to do.
        DeviceMemoryError: where the GPU's memory does not suffice.
    """
    count, _, height, width = shape
    size = count, height, width
    ranged = shape if options.covers(size) else None
    return _built(
        lambda: typed_graph(graph, precision, (None,) * 3 if ranged else size), options, ranged, device, report
    )


def build_graph(
    graph: bytes, sides: Mapping[str, int], options: EngineOptions, device: Device, report: Callable[[str], None]
) -> bytes:
    """An engine for a graph around the network, in float32; as `build_engine`.

    Args:
        graph: an ONNX model, float32.
        sides: lengths of the sides that it leaves open, by their names.
        options, device, report: as of `build_engine`.

    Raises:
        BackendError: where TensorRT refuses; its hint says what to do.
        DeviceMemoryError: where the GPU's memory does not suffice.
    """
    return _built(lambda: with_sides(graph, sides), options, None, device, report)


def _built(
    model: Callable[[], bytes],
    options: EngineOptions,
    ranged: Shape | None,
    device: Device,
    report: Callable[[str], None],
) -> bytes:
    """Build on the builder's thread.

    Args:
        model: gives the typed graph.
        options: of the builder.
        ranged: shape of `packed` whose batch and channels the options' range is for; None for fixed sizes.
        device: a `Cuda`.
        report: called with a line of progress now and then.
    """
    progress = Progress(report)

    def work() -> bytes:
        # A thread begins on the first GPU and the default stream.
        with device.on(device.stream()), collected() as messages:
            return _serialized(model(), options, ranged, progress, messages)

    build = Task(work)
    try:
        _BUILDER.submit(build)
        return build.result()
    except BaseException:
        progress.cancelled = True
        end([build])
        raise


def _serialized(
    typed: bytes, options: EngineOptions, ranged: Shape | None, progress: Progress, messages: Messages
) -> bytes:
    import tensorrt as trt

    try:
        builder = trt.Builder(logger())
    except TypeError as error:
        # Its factory gave nothing.
        raise messages.error(CANNOT) from error
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if major(trt.__version__) < 11 else 0
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger())
    if not parser.parse(typed):
        raise not_parsed(parser, messages)
    config = builder.create_builder_config()
    # What TensorRT refers to stays referred to here until the build has ended.
    watch = monitor(progress)
    config.progress_monitor = watch
    _configure(config, options)
    if ranged is not None:
        _add_range(builder, config, options, ranged, context_length(parse(typed)))
    cache = TimingCache(machine.gpu(), trt.__version__)
    cache.attach(config)
    messages.clear()
    engine = builder.build_serialized_network(network, config)
    if progress.failure is not None:
        raise progress.failure
    if engine is None:
        if progress.cancelled:
            raise BackendError(f"{CANNOT}: it was interrupted")
        raise messages.error(CANNOT)
    if not progress.cancelled:
        cache.keep(config)
    return bytes(engine)


def _configure(config: trt.IBuilderConfig, options: EngineOptions) -> None:
    import tensorrt as trt

    # On by default: tensor cores would round float32 to 10 bits.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.builder_optimization_level = options.optimization_level
    config.max_aux_streams = options.auxiliary_streams
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.hardware == "capability":
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
    elif options.hardware == "ampere":
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS


def _add_range(
    builder: trt.Builder, config: trt.IBuilderConfig, options: EngineOptions, shape: Shape, context: int
) -> None:
    """Let all inputs but the modulation have any size of the range; `context` is that input's length, if any."""
    import tensorrt as trt

    assert options.size_range is not None
    low, best, high = (trt.Dims((count, shape[1], *sides)) for count, *sides in options.size_range)
    profile = builder.create_optimization_profile()
    profile.set_shape("packed", low, best, high)
    if context:
        low, best, high = (trt.Dims((count, context, 1, 1)) for count, *_ in options.size_range)
        profile.set_shape("context", low, best, high)
    if config.add_optimization_profile(profile) < 0:
        raise BackendError(f"{CANNOT} for sizes from {options.size_range[0]} to {options.size_range[2]}")


def major(version: str) -> int:
    """Of a version such as `10.16.1.11`; 0 where it has none."""
    first = version.partition(".")[0]
    return int(first) if first.isdigit() else 0
