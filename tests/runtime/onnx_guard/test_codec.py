"""An encoder or a decoder that is none of ours is refused: ports, sides and what is made otherwise than it is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mrs.export.architectures.latent_unet.config import Autoencoder
from mrs.export.architectures.latent_unet.graph import decoder_graph, encoder_graph
from mrs.runtime.errors import PlanError
from mrs.runtime.onnx_guard import Coder, check_decoder, check_encoder
from mrs.runtime.onnx_guard.graph import BATCH, HEIGHT, WIDTH

ARCH = Autoencoder((4, 6, 8), 5)
Change = Callable[[onnx.ModelProto], Any]


def models(arch: Autoencoder = ARCH) -> dict[str, onnx.ModelProto]:
    state = {key: np.ones(shape, np.float32) for key, shape in arch.weight_shapes().items()}
    return {"encoder": encoder_graph(state, arch), "decoder": decoder_graph(state, arch)}


def check(which: str, model: onnx.ModelProto) -> Coder:
    content = model.SerializeToString()
    return check_encoder(content, "p") if which == "encoder" else check_decoder(content, "p")


@pytest.mark.parametrize(
    "arch", [ARCH, Autoencoder((8, 32, 64, 64, 128), 8), Autoencoder((64, 64, 128, 256), 4)], ids=str
)
def test_ours_pass_and_say_the_same_of_each_other(arch: Autoencoder) -> None:
    found = {which: check(which, model) for which, model in models(arch).items()}
    one, other = found["encoder"], found["decoder"]
    assert one[:-1] == other[:-1]
    assert (one.channels, one.latent, one.scale) == (arch.channels, arch.latent, arch.scale)
    hidden = [(BATCH, channels, HEIGHT // by, WIDTH // by) for channels, by in arch.hidden]
    assert list(one.hidden.values()) == hidden
    assert max(one.bytes_per_pixel, other.bytes_per_pixel) <= arch.bytes_per_pixel


def port(model: onnx.ModelProto, where: str, place: int) -> onnx.ValueInfoProto:
    return (model.graph.input if where == "input" else model.graph.output)[place]


def renamed(where: str, place: int, name: str) -> Change:
    return lambda model: setattr(port(model, where, place), "name", name)


def side(where: str, place: int, axis: int, value: int | str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        dim = port(model, where, place).type.tensor_type.shape.dim[axis]
        dim.Clear()
        setattr(dim, "dim_param" if isinstance(value, str) else "dim_value", value)

    return change


def again(where: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        ports = model.graph.input if where == "input" else model.graph.output
        ports.append(ports[-1])

    return change


def other(where: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        more = helper.make_tensor_value_info("more", TensorProto.FLOAT, ["batch", 1, "height", "width"])
        (model.graph.input if where == "input" else model.graph.output).append(more)

    return change


WRONG: dict[str, tuple[str, Change, str]] = {
    "another input": ("encoder", renamed("input", 0, "packed"), "inputs packed"),
    "two inputs": ("encoder", other("input"), "inputs picture, more"),
    "a small picture": ("encoder", side("input", 0, 2, "height_2"), "pictures with other sides"),
    "a picture on its side": ("encoder", side("input", 0, 2, "width"), "pictures with other sides"),
    "a fixed picture": ("encoder", side("input", 0, 3, 64), "pictures with other sides"),
    "no latent": ("encoder", renamed("output", 0, "late"), "late, hidden_0, .* for a latent and hidden states"),
    "no outputs": ("encoder", lambda model: model.graph.ClearField("output"), "for a latent and hidden states"),
    "hidden states out of order": ("encoder", renamed("output", 1, "hidden_1"), "latent, hidden_1, .* for a latent"),
    "one more output": ("encoder", other("output"), "for a latent and hidden states"),
    "an output twice": ("encoder", again("output"), "for a latent and hidden states"),
    "a latent of other sides": ("encoder", side("output", 0, 3, "width"), "latent with other sides"),
    "wide sides": ("encoder", side("output", 0, 2, "width"), "latent with other sides"),
    "a fixed latent": ("encoder", side("output", 0, 2, 8), "latent with other sides"),
    "a latent of other channels": ("encoder", side("output", 0, 1, 6), "another output"),
    "a hidden state of another scale": (
        "encoder", lambda model: [side("output", 1, 2, "height_2")(model), side("output", 1, 3, "width_2")(model)],
        "another output",
    ),
    "sides that are not halved": ("encoder", side("output", 0, 2, "height_3"), "latent of type 1 with sides"),
    "no output": ("decoder", renamed("output", 0, "latent_out"), "another output"),
    "two results": ("decoder", other("output"), "another output"),
    "a large result": ("decoder", side("output", 0, 1, 4), "another output"),
    "a small result": ("decoder", side("output", 0, 2, "height_2"), "pictures with other sides"),
    "a hidden state too many": ("decoder", other("input"), "for a latent and hidden states"),
    "a hidden state that does not fit": ("decoder", side("input", 1, 1, 9), "Add .* with inputs that do not fit"),
    "an operator of no plan": (
        "decoder", lambda model: setattr(model.graph.node[0], "op_type", "GatherND"), "an operator of no plan"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("which", "change", "match"), list(WRONG.values()), ids=list(WRONG))
def test_what_is_none_of_ours(which: str, change: Change, match: str) -> None:
    model = models()[which]
    change(model)
    with pytest.raises(PlanError, match=f"p: its {which} is none of this program's: .*{match}") as caught:
        check(which, model)
    assert "\n" not in str(caught.value)
