"""What the program writes is taken, in every shape, and nothing is allowed that none of it needs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mrs.export import onnx_writer
from mrs.export.architectures.clip import Encoder, EncoderWeights
from mrs.export.architectures.clip import graph as clip_graph
from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.config import NORM_EPS
from mrs.export.architectures.nafnet.graph import build_graph
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.export.architectures.unet import ConditionalUNet
from mrs.export.architectures.unet.config import GROUP_EPS
from mrs.export.graph_variant import GATES, NORMS, GraphVariant
from mrs.export.quantise import quantised
from mrs.runtime import onnx_guard
from mrs.runtime.errors import InputError, PlanError
from mrs.runtime.onnx_guard import Conditioner, Network, check_conditioner, check_network, model, operators
from mrs.runtime.onnx_guard import graph as walked
from mrs.runtime.onnx_guard.encoder import PATCHES
from tests.export.modelopt_double import install

pytestmark = pytest.mark.slow(5)

SHAPES = [GraphVariant(*fields) for fields in product(NORMS, GATES)]
# Those that need the most come first: an entry that is missed is then soon found to be.
FIRST = [
    GraphVariant("layernorm", "split"),
    GraphVariant("length", "weights"),
    GraphVariant("raw", "weights"),
]

# DA-CLIP's kinds of attention, and that of IR-SDE's networks for noise.
UNETS = {
    "UNet transformer": ConditionalUNet(32, (32, 32, 32), middle="transformer", transformers=1, context=4, prompt=True),
    "UNet softmax": ConditionalUNet(4, (4, 4), condition=False, middle="softmax"),
}


# Of tiny encoders with the patches that there are; what follows is a network's with both kinds of features.
TOLD = ConditionalUNet(32, (32, 32), middle="transformer", context=4, prompt=True)


def conditioner(patch: int) -> bytes:
    import torch

    encoder = Encoder(4, 1, patch, 2 * patch, 4, 2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = {key: torch.randn(shape) for key, shape in encoder.weight_shapes().items()}
    weights = {key: value.numpy() for key, value in TOLD.module().state_dict().items()}
    found = TOLD.conditioner(weights, EncoderWeights(encoder, state, "", Path("encoder.pt")))
    assert found is not None
    return found.graph.SerializeToString()


def weights(width: int) -> tuple[dict[str, Any], NAFNet]:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ConditionalNAFNet(NAFNet(width, (1, 1), 1, (1, 1)))
    return {key: value.numpy() for key, value in net.state_dict().items()}, net.arch


@pytest.fixture(scope="module")
def written() -> dict[tuple[str, str], bytes]:
    """Every graph that a plan may hold, by its shape and the precision that it is quantised for."""
    state, arch = weights(4)
    found = {(str(shape), "fp32"): build_graph(state, arch, variant=shape).SerializeToString() for shape in SHAPES}
    for name, unet in UNETS.items():
        state = {key: value.numpy() for key, value in unet.module().state_dict().items()}
        found[name, "fp32"] = unet.graph(state, SHAPES[0]).SerializeToString()
    # Narrower convolutions are not quantised.
    state, arch = weights(32)
    random = np.random.default_rng(0)
    for gate, precision in (("split", "int8"), ("weights", "fp8")):
        plain = build_graph(state, arch, variant=GraphVariant("layernorm", gate))
        sides = [(1, 6, 8, 8), (1, plain.graph.input[1].type.tensor_type.shape.dim[1].dim_value, 1, 1)]
        feed = {
            name: random.random(size, np.float32) for name, size in zip(("packed", "modulation"), sides, strict=True)
        }
        with pytest.MonkeyPatch.context() as monkeypatch:
            install(monkeypatch)
            monkeypatch.setattr(logging.root, "disabled", True)
            made = quantised(plain.SerializeToString(), precision, [feed])
        found[f"layernorm-{gate}", precision] = made
    for patch in PATCHES:
        found[f"patches of {patch}", "conditioner"] = conditioner(patch)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(clip_graph, "LARGEST", 0)
        found["halved", "conditioner"] = conditioner(16)
    first = [*UNETS, *map(str, FIRST)]
    return dict(sorted(found.items(), key=lambda item: "fp32" in item[0] and item[0][0] not in first))


def refused(written: dict[tuple[str, str], bytes]) -> bool:
    """Whether any of them is."""
    for (_, kind), content in written.items():
        try:
            check_conditioner(content, "plan") if kind == "conditioner" else check_network(content, "plan", kind)
        except PlanError:
            return True
    return False


def test_every_graph_of_ours_passes(written: dict[tuple[str, str], bytes]) -> None:
    assert len(written) == len(SHAPES) + len(UNETS) + 2 + len(PATCHES) + 1
    for (name, kind), content in written.items():
        if name in UNETS or kind == "conditioner":
            continue
        made = onnx.load_from_string(content)
        length = made.graph.input[1].type.tensor_type.shape.dim[1].dim_value
        width = 4 if kind == "fp32" else 32
        # The widest value at full size is a convolution's output before it is cut in two.
        largest = 4 * width * (2 if "split" in name else 1)
        wanted = Network(channels=3, modulation=length, context=0, multiple=4, bytes_per_pixel=max(largest, 24))
        assert check_network(content, "plan", kind) == wanted, name


def test_what_attends_passes(written: dict[tuple[str, str], bytes]) -> None:
    transformer, softmax = (check_network(written[name, "fp32"], "plan") for name in UNETS)
    # At full resolution the queries of linear attention are the widest, 128 channels; a matrix of all pairs of pixels
    # is not counted.
    assert transformer == Network(channels=3, modulation=128, context=128 + 3 * 32, multiple=2, bytes_per_pixel=512)
    assert (softmax.context, softmax.multiple, softmax.bytes_per_pixel) == (0, 1, 512)


def test_what_tells_of_a_picture_passes(written: dict[tuple[str, str], bytes]) -> None:
    for (name, kind), content in written.items():
        if kind == "conditioner":
            patch = 16 if name == "halved" else int(name.split()[-1])
            assert check_conditioner(content, "plan") == Conditioner(channels=3, side=2 * patch, length=128 + 32)
    with pytest.raises(PlanError, match=r"weight .* of type 10"):
        check_network(written["halved", "conditioner"], "plan")


def test_a_quantised_graph_is_for_its_own_precision(written: dict[tuple[str, str], bytes]) -> None:
    for (_, kind), content in written.items():
        for other in {"fp32", "int8", "fp8"} - {kind} if kind != "conditioner" else ():
            with pytest.raises(PlanError, match=r"none of this program's: (ONNX 9 with operators|weight .* of type)"):
                check_network(content, "plan", other)


def test_the_norms_constants_are_the_networks() -> None:
    assert operators.ATTRIBUTES["LayerNormalization"]["epsilon"] == (float(np.float32(NORM_EPS)),)
    assert operators.ATTRIBUTES["InstanceNormalization"]["epsilon"] == (float(np.float32(GROUP_EPS)),)
    assert (onnx_guard.IR_VERSION, onnx_guard.KINDS["fp32"][0]) == (onnx_writer.IR_VERSION, onnx_writer.OPSET)


def without(allowed: dict[Any, Any]) -> Iterator[tuple[str, dict[Any, Any]]]:
    """The mapping less each of its entries."""
    for key in allowed:
        yield str(key), {other: value for other, value in allowed.items() if other != key}


def shrunk() -> Iterator[tuple[str, Callable[[pytest.MonkeyPatch], None]]]:
    """Everything that is allowed, taken away bit by bit."""

    def setting(owner: Any, name: str, value: Any) -> Callable[[pytest.MonkeyPatch], None]:
        return lambda monkeypatch: monkeypatch.setattr(owner, name, value)

    for operator, attributes in operators.ATTRIBUTES.items():
        others = {key: value for key, value in operators.ATTRIBUTES.items() if key != operator}
        yield operator, setting(operators, "ATTRIBUTES", others)
        for name, left in without(attributes):
            yield f"{operator} {name}", setting(operators, "ATTRIBUTES", {**others, operator: left})
        for name, values in attributes.items():
            for value in values:
                left = {**attributes, name: tuple(other for other in values if other != value)}
                yield f"{operator} {name} {value}", setting(operators, "ATTRIBUTES", {**others, operator: left})
        least, most, rule = operators.RULES[operator]
        for bounds in {(least + 1, most), (least, most - 1)}:
            yield (
                f"{operator} inputs {bounds}",
                setting(operators, "RULES", {**operators.RULES, operator: (*bounds, rule)}),
            )
    for geometry in operators.GEOMETRIES:
        left = tuple(other for other in operators.GEOMETRIES if other != geometry)
        yield f"geometry {geometry}", setting(operators, "GEOMETRIES", left)
    for name in (
        "MODEL",
        "OPSET",
        "GRAPH",
        "NODE",
        "ATTRIBUTE",
        "TENSOR",
        "VALUE",
        "TYPE",
        "TENSOR_TYPE",
        "SHAPE",
        "DIM",
    ):
        for tag, field in getattr(model, name).items():
            # The reader asks for the field, but no file has it under this tag.
            left = {**getattr(model, name), 1 << 40: field}
            del left[tag]
            yield f"{name} {field.name}", setting(model, name, left)
    for name in ("ITEM_BYTES", "ATTRIBUTE_TYPES"):
        for key, left in without(getattr(model, name)):
            yield f"{name} {key}", setting(model, name, left)
    for kind, (opset, types) in onnx_guard.KINDS.items():
        for one in types:
            kinds = {**onnx_guard.KINDS, kind: (opset, types - {one})}
            yield f"{kind} type {one}", setting(onnx_guard, "KINDS", kinds)
    opset, types = onnx_guard.CONDITIONER
    for one in types:
        yield f"conditioner type {one}", setting(onnx_guard, "CONDITIONER", (opset, types - {one}))
    for name in ("RUN", "READERS"):
        yield name, setting(walked, name, getattr(walked, name) - 1)
    yield "RANK", setting(model, "RANK", 3)


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in shrunk()])
def test_nothing_is_allowed_that_no_graph_needs(
    written: dict[tuple[str, str], bytes], monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None]
) -> None:
    change(monkeypatch)
    assert refused(written)


def test_a_network_of_more_blocks_than_are_read_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    state, arch = weights(4)
    made = build_graph(state, arch)
    nodes = len(made.graph.node)
    for module in (onnx_writer, walked):
        monkeypatch.setattr(module, "NODES", nodes - 1)
    with pytest.raises(InputError, match=f"the network has {nodes} operations, more than {nodes - 1}"):
        build_graph(state, arch)
    with pytest.raises(PlanError, match=f"{nodes} operations, more than {nodes - 1}"):
        check_network(made.SerializeToString(), "plan")
