"""The floor of a restore: its evaluations alone, of the plan's graph, in a loop of the library's own interface.

Nothing of our runtime takes part: no sampler, no buffers of ours, no conditioner; the settings are the library's own
for one request at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mrs.benchmarking.rivals.gate import bar_of
from mrs.benchmarking.rivals.rival import Rival, failures
from mrs.runtime import backends
from mrs.runtime.backends import mixed, openvino
from mrs.runtime.backends.protocol import F32, Shape
from mrs.runtime.chain import Loop
from mrs.runtime.codec import codec_of
from mrs.runtime.errors import BackendError
from mrs.runtime.padding import padded_size
from mrs.runtime.plan import Plan
from mrs.runtime.system.libraries import import_onnxruntime

Size = tuple[int, int, int]
Inputs = dict[str, F32]
# Evaluates the network once on inputs by their names.
Evaluate = Callable[[Inputs], object]
LIBRARIES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}


def bare(name: str, plan: Plan, size: Size, threads: int) -> Rival:
    """A loop of one library.

    Args:
        name: of `LIBRARIES`.
        plan: whose graph and vectors it evaluates.
        size: (N, H, W) of pictures.
        threads: most threads to use.

    Raises:
        BackendError: where the library is not there, or refuses the graph.
    """
    engine = backends.get(name)
    missing = engine.missing()
    if missing is not None:
        raise BackendError(missing)
    precision = plan.facts.precision if mixed.runs(engine, plan.facts.precision) else "fp32"
    shape = _packed(plan, size)
    begin = time.perf_counter()
    with failures(LIBRARIES[name]):
        compiled = _COMPILERS[name]
        half, after = mixed.split(precision)
        made = {each: compiled(plan.graph, shape, each, threads) for each in ({half, "fp32"} if after else {half})}
        steps = [made["fp32" if step < after else half] for step in range(len(plan.modulation))]
        inputs = list(_inputs(plan, shape))
        # The first evaluation of each is slower than the others.
        for evaluate in made.values():
            evaluate(inputs[0])

    def evaluate_all() -> None:
        with failures(LIBRARIES[name]):
            _loop(steps, inputs)

    other = "" if precision == plan.facts.precision else f", which has no {plan.facts.precision} here"
    return Rival(
        name=name,
        label=f"{LIBRARIES[name]} {engine.version()}, the network alone, {precision}{other}",
        backend=name,
        precision=precision,
        evaluations=len(steps),
        setup_seconds=time.perf_counter() - begin,
        bar_db=bar_of(plan),
        evaluate=evaluate_all,
    )


def _loop(steps: Sequence[Evaluate], inputs: Sequence[Inputs]) -> None:
    for evaluate, given in zip(steps, inputs, strict=True):
        evaluate(given)


def _packed(plan: Plan, size: Size) -> Shape:
    """Shape of the network's input for pictures of a size."""
    count, height, width = size
    pictures = plan.facts.pictures
    padded = padded_size(height, width, pictures.multiple)
    return Loop(plan.table, plan.modulation, codec=codec_of(plan)).packed((count, pictures.channels, *padded))


def _inputs(plan: Plan, shape: Shape) -> Iterator[Inputs]:
    """What the network takes at each step: the plan's own vectors of time, and numbers as large as a picture's."""
    random = np.random.default_rng(0)
    packed = random.random(shape, np.float32)
    told = plan.facts.conditioner
    context = None if told is None else random.standard_normal((shape[0], told.length, 1, 1), np.float32)
    for row in plan.modulation:
        given = {"packed": packed}
        # A network of no time at all has no such input.
        if plan.modulation.shape[1]:
            given["modulation"] = row[None, :, None, None].copy()
        yield given if context is None else {**given, "context": context}


def _in_openvino(graph: bytes, shape: Shape, precision: str, threads: int) -> Evaluate:
    core = openvino.core()
    model = core.read_model(graph)
    sides = {"packed": list(shape), "context": [shape[0], -1, 1, 1]}
    names = {value.any_name for value in model.inputs}
    if "context" in names:
        sides["context"][1] = model.input("context").partial_shape[1].get_length()
    model.reshape({name: sides[name] for name in names & sides.keys()})
    settings = {
        "INFERENCE_PRECISION_HINT": openvino.PRECISIONS[precision], "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }  # fmt: skip
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda inputs: request.infer(inputs, share_inputs=True, share_outputs=True)


def _in_onnxruntime(graph: bytes, shape: Shape, precision: str, threads: int) -> Evaluate:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    for side, length in {"batch": shape[0], "height": shape[2], "width": shape[3]}.items():
        options.add_free_dimension_override_by_name(side, length)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(["output"], inputs)


_COMPILERS: dict[str, Callable[[bytes, Shape, str, int], Evaluate]] = {
    "openvino": _in_openvino,
    "onnxruntime": _in_onnxruntime,
}
