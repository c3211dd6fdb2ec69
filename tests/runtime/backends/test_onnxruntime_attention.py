"""Attention as one node of ONNX Runtime's: the same numbers, without one for each pair of pixels."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

import mrs
from mrs.export.architectures.unet.graph import build_graph
from mrs.runtime.backends import onnxruntime_attention as attention
from mrs.runtime.backends.onnxruntime_attention import fused, is_linear
from tests.golden.networks import weights

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(6)]

# How many attentions of all to all there are, beside linear ones.
NETWORKS = {"daclip_unet_full": 3, "daclip_unet_wild": 3, "unet_denoising": 1}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes, int]:
    """Its name, its graph and the length of its vector of a picture."""
    net: Any = mrs.load_checkpoint(weights(f"{request.param}.pth", tmp_path_factory.mktemp("networks")))
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    return request.param, bytes(build_graph(state, net.arch).SerializeToString()), net.arch.multiple


def output_of(graph: bytes, size: tuple[int, int]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    feeds = {}
    for given in session.get_inputs():
        sides = {"batch": 2, "height": size[0], "width": size[1]}
        feeds[given.name] = random.standard_normal([sides.get(side, side) for side in given.shape], np.float32)
    return np.asarray(session.run(None, feeds)[0])


def test_the_numbers_are_the_same(network: tuple[str, bytes, int]) -> None:
    name, graph, multiple = network
    made = onnx.load_from_string(fused(graph)).graph
    kinds = Counter(node.op_type for node in made.node)
    assert kinds["MultiHeadAttention"] == NETWORKS[name]
    before = Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)
    assert before["Softmax"] - kinds["Softmax"] == NETWORKS[name]
    # Nothing is left that nothing reads, of which ONNX Runtime would warn.
    read = {each for node in made.node for each in node.input} | {value.name for value in made.output}
    assert {tensor.name for tensor in made.initializer} <= read
    assert {each for node in made.node for each in node.output} <= read
    for size in ((multiple, 3 * multiple), (5 * multiple, 4 * multiple)):
        expected = output_of(graph, size)
        np.testing.assert_allclose(output_of(fused(graph), size), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def scores(changed: str = "") -> bytes:
    """An attention of four heads, or what is nearly one."""
    helper, numbers = onnx.helper, onnx.numpy_helper.from_array
    perms = {"q": [0, 2, 1, 3], "k": [0, 2, 3, 1], "v": [0, 2, 1, 3]}
    nodes = [node for name, perm in perms.items() for node in (
        helper.make_node("Reshape", [name, f"{name}.shape"], [f"{name}.heads"], name=f"{name}.heads"),
        helper.make_node("Transpose", [f"{name}.heads"], [f"{name}.apart"], name=f"{name}.apart", perm=perm),
    )]  # fmt: skip
    nodes += [
        helper.make_node("MatMul", ["q.apart", "k.apart"], ["scores"], name="scores"),
        helper.make_node("Softmax", ["scores"], ["shares"], name="shares", axis=2 if changed == "axis" else -1),
        helper.make_node("MatMul", ["shares", "v.apart"], ["mean"], name="mean"),
        helper.make_node("Transpose", ["mean"], ["joined"], name="joined", perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["joined", "rows"], ["output"], name="output"),
    ]
    outputs = ["output", *([changed] if changed in ("scores", "shares", "k.heads") else [])]
    shapes = {f"{name}.shape": np.array([0, -1, 4, 8]) for name in perms} | {"rows": np.array([0, 1, -1, 32])}
    if changed == "values":
        shapes["v.shape"] = np.array([0, -1, 8, 4])
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "attention", [value(name, onnx.TensorProto.FLOAT, ["batch", 1, None, 32]) for name in perms],
        [value(name, onnx.TensorProto.FLOAT, None) for name in outputs],
        [numbers(shape, name) for name, shape in shapes.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("changed", ["axis", "scores", "shares", "k.heads", "values"])
def test_what_is_no_attention_stays(changed: str) -> None:
    """Along another axis, or read by another as well, or with other heads."""
    assert b"MultiHeadAttention" in fused(scores())
    graph = scores(changed)
    assert fused(graph) is graph


@pytest.mark.parametrize("why", ["no onnx", "cache unknown", "no cache asked for", "large"])
def test_where_nothing_is_won_a_graph_stays(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    def unknown(name: int) -> int:
        assert name == attention.LEVEL2_CACHE_SIZE
        if why == "cache unknown":
            return 0
        raise ValueError("no such name")

    graph = scores()
    if why == "no onnx":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    elif why == "large":
        monkeypatch.setattr(attention, "LARGEST", len(graph) - 1)
    else:
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(os, "sysconf", unknown)
    assert is_linear() == (why == "large")
    assert fused(graph) is graph
    if why.endswith(("unknown", "for")):
        monkeypatch.setattr(sys, "platform", "win32")
        assert is_linear()


def test_a_graph_without_softmax_is_not_even_read() -> None:
    graph = b"no graph at all"
    assert fused(graph) is graph


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from Linux")
def test_no_number_is_written_for_each_pair(tmp_path: Path) -> None:
    """4000 tokens of four heads: 256 MB of scores, of which nothing may be seen in the peak of a process."""
    import subprocess

    files = [tmp_path / "fused.onnx", tmp_path / "plain.onnx"]
    for file, graph in zip(files, (fused(scores()), scores()), strict=True):
        file.write_bytes(graph)
    code = (
        "import sys, numpy as np, onnxruntime\n"
        "feeds = {name: np.ones((1, 1, 4000, 32), np.float32) for name in 'qkv'}\n"
        "for path in sys.argv[1:]:\n"
        "    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])\n"
        "    session.run(None, feeds)\n"
        "    print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, files)], capture_output=True, timeout=120, check=True)
    in_blocks, written = map(int, done.stdout.split())
    assert written - in_blocks > 200_000
