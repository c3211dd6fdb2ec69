"""The picture that a conditioner sees, scaled by nodes, beside the same by Pillow."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from mrs.export.onnx_writer import Emitter
from mrs.export.sampler_scaling import scaled as scaled_by_nodes
from mrs.runtime.conditioner import scaled
from tests.golden.networks import golden

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(5)]

Scale = Callable[[NDArray[Any]], NDArray[Any]]


def model_of(side: int, resize: str) -> bytes:
    emit = Emitter()
    scaled_by_nodes(emit, "levels", side, resize)
    emit("Identity", emit.nodes[-1].output[0], output="output")
    model = emit.model("scaling", {"levels": ["batch", 3, "height", "width"]}, ["batch", 3, side, side])
    return bytes(model.SerializeToString())


@cache
def on_onnxruntime(side: int, resize: str) -> Scale:
    session = onnxruntime.InferenceSession(model_of(side, resize), providers=["CPUExecutionProvider"])
    return lambda levels: np.asarray(session.run(None, {"levels": levels})[0])


@cache
def on_openvino(side: int, resize: str) -> Scale:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model_of(side, resize)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda levels: np.array(compiled({"levels": levels})["output"])


ENGINES = {"onnxruntime": on_onnxruntime, "openvino": on_openvino}


def levels_of(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("resize", ["clip", "stretch"])
@pytest.mark.parametrize(
    "size",
    [(24, 24), (61, 97), (300, 200), (23, 24), (8, 9), (7, 3), (1, 1), (2, 41), (500, 5), (37, 36)],
    ids=str,
)
def test_pictures_of_any_size_are_scaled_as_pillow_scales(size: tuple[int, int], resize: str, engine: str) -> None:
    """Enlarged, averaged, left alone, and cut where they are far longer than wide."""
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    found = ENGINES[engine](24, resize)(levels_of(picture))
    assert found.shape == (1, 3, 24, 24)
    error = 255 * np.abs(found[0] - scaled(picture, 24, resize))
    # OpenVINO has no double precision: of sums in the middle between two levels it rounds some to the other.
    rounds = (resize, engine) == ("clip", "openvino")
    assert error.max() <= (1.001 if rounds else 0.001)
    assert (error > 0.001).mean() <= 0.01


@pytest.mark.parametrize("index", range(3))
def test_published_pictures_are_scaled_as_published(index: int) -> None:
    arrays = golden("daclip_preprocess")
    found = 255 * on_onnxruntime(224, "clip")(levels_of(arrays[f"src_u8_{index}"]))[0].transpose(1, 2, 0)
    np.testing.assert_allclose(found[100:132], arrays[f"crop_u8_rows100to132_{index}"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(found[:, :8], arrays[f"crop_u8_cols0to8_{index}"], rtol=0, atol=1e-3)


def test_pictures_of_a_batch_are_scaled_each() -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (2, 3, 30, 50)).astype(np.float32)
    scale = on_onnxruntime(24, "clip")
    np.testing.assert_array_equal(scale(pictures), np.concatenate([scale(pictures[:1]), scale(pictures[1:])]))


def test_no_operator_is_new_to_engines() -> None:
    """Resize, which rounds nothing between its passes, is not among them."""
    used = {node.op_type for node in onnx.load_from_string(model_of(24, "clip")).graph.node}
    assert "Resize" not in used
    assert used <= {
        "Shape", "Min", "Max", "Mul", "Sub", "Add", "Div", "Mod", "Slice", "Squeeze", "Unsqueeze", "Range", "Cast",
        "Abs", "Clip", "ReduceSum", "MatMul", "Transpose", "Floor", "Round", "Identity",
    }  # fmt: skip
