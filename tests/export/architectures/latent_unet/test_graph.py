"""The latent pair's two graphs give the published latents, hidden states and pictures, for any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from mrs.export.architectures.latent_unet import Autoencoder, LatentUNet, read_autoencoder
from mrs.export.architectures.latent_unet.graph import decoder_graph, encoder_graph
from mrs.export.architectures.unet.module import mirrored
from tests.golden.networks import TOLERANCE, golden, weights

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(6)]

ENGINES = ["onnxruntime", "openvino"]


def run(engine: str, model: onnx.ModelProto, feed: dict[str, Any]) -> dict[str, Any]:
    """What a model makes of its inputs, by name."""
    names = [port.name for port in model.graph.output]
    content = model.SerializeToString()
    if engine == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return dict(zip(names, session.run(names, feed), strict=True))
    import openvino

    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(content, b""), "CPU", options)
    made = compiled([feed[port.name] for port in model.graph.input])
    return {name: np.array(made[name]) for name in names}


def graphs(net: LatentUNet) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    return encoder_graph(state, net.arch), decoder_graph(state, net.arch)


@pytest.mark.parametrize("engine", ENGINES)
def test_published_outputs(engine: str, tmp_path: Path) -> None:
    arrays = golden("latent_unet")
    encoder, decoder = graphs(read_autoencoder(weights("latent_unet.pth", tmp_path)).module())
    picture = mirrored(torch.tensor(arrays["lq"]), 8).numpy()
    made = run(engine, encoder, {"picture": picture})
    assert list(made) == ["latent", *(f"hidden_{index}" for index in range(7))]
    np.testing.assert_allclose(made["latent"], arrays["latent"], rtol=0, atol=TOLERANCE)
    for index in range(7):
        np.testing.assert_allclose(made[f"hidden_{index}"][:1], arrays[f"hidden_{index}"], rtol=0, atol=TOLERANCE)
    for latent, expected in ((made["latent"], "recon"), (arrays["latent_changed"], "decoded_changed")):
        output = run(engine, decoder, {**made, "latent": latent})["output"]
        np.testing.assert_allclose(output[..., :37, :45], arrays[expected], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("arch", "size"),
    [
        (Autoencoder((4, 6), 2, 1), (6, 4)),
        (Autoencoder((4, 8, 8, 6, 12), 8), (16, 48)),
        (Autoencoder((6,) * 4, 4), (8, 8)),
    ],
    ids=["one level", "four levels", "equal widths"],
)
def test_other_pairs_and_sizes(arch: Autoencoder, size: tuple[int, int], engine: str) -> None:
    with torch.no_grad():
        torch.manual_seed(0)
        net = LatentUNet(arch).eval()
        picture = torch.rand(3, arch.channels, *size)
        latent, hidden = net.encode(picture)
        expected = net.decode(latent, hidden)
    encoder, decoder = graphs(net)
    made = run(engine, encoder, {"picture": picture.numpy()})
    np.testing.assert_allclose(made["latent"], latent.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(run(engine, decoder, made)["output"], expected.numpy(), rtol=0, atol=1e-5)


def test_sides_of_inputs_and_outputs(tmp_path: Path) -> None:
    encoder, decoder = graphs(read_autoencoder(weights("latent_unet.pth", tmp_path)).module())

    def described(ports: Any) -> dict[str, list[Any]]:
        return {
            port.name: [dim.dim_param or dim.dim_value for dim in port.type.tensor_type.shape.dim] for port in ports
        }

    made = described(encoder.graph.output)
    assert described(encoder.graph.input) == {"picture": ["batch", 3, "height", "width"]}
    assert described(decoder.graph.output) == {"output": ["batch", 3, "height", "width"]}
    assert described(decoder.graph.input) == made
    assert made["latent"] == ["batch", 4, "height_4", "width_4"]
    assert made["hidden_2"] == ["batch", 8, "height", "width"]
    assert made["hidden_4"] == ["batch", 8, "height_2", "width_2"]
    assert made["hidden_6"] == ["batch", 16, "height_4", "width_4"]
    for model in (encoder, decoder):
        onnx.checker.check_model(model, full_check=True)
