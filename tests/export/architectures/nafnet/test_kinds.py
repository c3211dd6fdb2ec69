"""Every kind of Refusion's network gives the published outputs, in torch and on engines, and is told by its weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mrs.export.architectures import ARCHITECTURES, detect, load_checkpoint
from mrs.export.architectures.nafnet import (
    KINDS,
    NAFNet,
    NAFNetDenoising,
    NAFNetLatentBokeh,
    NAFNetLatentDehazing,
)
from mrs.export.architectures.nafnet.modulation import modulation_size, modulation_table
from mrs.export.architectures.nafnet.module import NAFNetModule
from mrs.export.checkpoint import read_checkpoint
from mrs.export.graph_variant import GATES, GraphVariant
from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.errors import CheckpointError, InputError
from mrs.runtime.onnx_guard import check_network
from tests.golden.networks import TOLERANCE, golden, weights

ARCHS = {
    "nafnet_plain": NAFNet(8, (1, 2), 1, (1, 1)),
    "nafnet_denoising": NAFNetDenoising(8, (1, 2), 1, (1, 1)),
    "nafnet_latent_dehazing": NAFNetLatentDehazing(8, (1, 2), 1, (1, 1), 4),
    "nafnet_latent_bokeh": NAFNetLatentBokeh(8, (1, 2), 1, (1, 1), 4),
}
OUTPUT = re.compile(r"out_(\d)_t(\d[\d.]*)$")


@pytest.fixture(autouse=True)
def without_gradients(one_thread):
    with torch.no_grad():
        yield


@pytest.fixture(scope="module", params=ARCHS)
def name(request: Any) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def net(name: str, tmp_path_factory: Any) -> Any:
    return load_checkpoint(weights(f"{name}.pth", tmp_path_factory.mktemp("weights")))


def cases(name: str) -> Iterator[tuple[list[Tensor], Tensor | None, float, Any]]:
    """What is given before the time and after it, the time, what comes out."""
    arrays = golden(name)
    for key, expected in arrays.items():
        if (found := OUTPUT.match(key)) is not None:
            which, time = found[1], float(found[2])
            given = [torch.tensor(arrays[f"{part}_{which}"]) for part in ("xt", "cond") if f"{part}_{which}" in arrays]
            lenses = arrays.get(f"lens_{which}")
            yield given, None if lenses is None else torch.tensor(lenses), time, expected


def test_published_outputs(name: str, net: Any) -> None:
    assert net.arch == ARCHS[name]
    found = list(cases(name))
    assert len(found) == 6
    for given, lenses, time, expected in found:
        output = net(*given, time) if lenses is None else net(*given, time, lenses)
        np.testing.assert_allclose(output.numpy(), expected, rtol=0, atol=TOLERANCE)


def test_published_outputs_with_a_time_for_each_picture(tmp_path: Path) -> None:
    arrays, net = golden("nafnet_plain"), load_checkpoint(weights("nafnet_plain.pth", tmp_path))
    given = [torch.tensor(arrays[key]) for key in ("xt_0", "cond_0", "tvec_0")]
    np.testing.assert_allclose(net(*given).numpy(), arrays["out_0_tvec"], rtol=0, atol=TOLERANCE)


@pytest.mark.slow(13)
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("gate", GATES)
def test_published_outputs_of_the_graph(name: str, net: Any, gate: str, engine: str) -> None:
    for given, lenses, time, expected in cases(name):
        arch = net.arch if lenses is None else replace(net.arch, lenses=tuple(map(float, lenses[0])))
        if time == 7.5:
            # The lenses of the first picture are the plan's.
            compare(with_arch(net, arch), engine, GraphVariant("layernorm", gate), [part[:1] for part in given], time,
                    expected[:1])  # fmt: skip


def with_arch(net: NAFNetModule, arch: NAFNet) -> NAFNetModule:
    made = arch.module().eval()
    made.load_state_dict(net.state_dict())
    return made


def compare(
    net: NAFNetModule, engine: str, variant: GraphVariant, given: list[Tensor], time: float, expected: Any
) -> None:
    """The graph's output, cut to the picture's size, is the expected one, and its guard lets it pass."""
    arch, multiple = net.arch, net.arch.multiple
    assert isinstance(arch, NAFNet)
    x, mu = given if arch.condition else (given[0], given[0].flip(3))
    packed = torch.cat([x - mu, mu], dim=1)
    height, width = packed.shape[2:]
    packed = torch.nn.functional.pad(packed, (0, -width % multiple, 0, -height % multiple))
    model = arch.graph({key: value.numpy() for key, value in net.state_dict().items()}, variant).SerializeToString()
    table = arch.modulation(net, [99.0, time])
    assert table.shape == (2, modulation_size(arch))
    checked = check_network(model, "model")
    assert (checked.channels, checked.modulation, checked.context) == (arch.channels, modulation_size(arch), 0)
    assert checked.bytes_per_pixel <= arch.bytes_per_pixel
    compiled = backends.get(engine).compile(model, table, tuple(packed.shape), "fp32", CompileSettings(1))
    compiled.packed[...] = packed.numpy()
    compiled.evaluate(1)
    np.testing.assert_allclose(compiled.output[..., :height, :width], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_shapes_are_those_of_the_module_and_tell_the_kind(kind: type[NAFNet]) -> None:
    arch = kind(6, (1, 0, 2), 1, (0, 1, 1), 4 if kind in (NAFNetLatentDehazing, NAFNetLatentBokeh) else 3)
    with torch.device("meta"):
        state = arch.module().state_dict()
    assert arch.weight_shapes() == {key: tuple(value.shape) for key, value in state.items()}
    assert [found for other in KINDS if (found := other.detect(state, "")) is not None] == [arch]
    assert ARCHITECTURES[arch.name] is kind


# Two kinds have weights of the same names and shapes


def test_of_twins_the_channels_decide_unless_one_is_named(tmp_path: Path) -> None:
    plain, latent = (
        read_checkpoint(weights(f"nafnet_{name}.pth", tmp_path)).state for name in ("plain", "latent_dehazing")
    )
    assert detect(plain).name == "ConditionalNAFNet"
    assert detect(latent).name == "ConditionalNAFNet-latent-dehazing"
    assert detect(plain, architecture="ConditionalNAFNet-latent-dehazing") == NAFNetLatentDehazing(8, (1, 2), 1, (1, 1))
    assert detect(latent, architecture="ConditionalNAFNet") == NAFNet(8, (1, 2), 1, (1, 1), 4)
    path, arrays = weights("nafnet_latent_dehazing.pth", tmp_path), golden("nafnet_latent_dehazing")
    given = torch.tensor(arrays["xt_0"]), torch.tensor(arrays["cond_0"]), 1.0
    # One computes something else.
    wrong, right = (load_checkpoint(path, name)(*given).numpy() for name in ("ConditionalNAFNet", None))
    np.testing.assert_allclose(right, arrays["out_0_t1"], rtol=0, atol=TOLERANCE)
    assert np.abs(wrong - right).max() > 0.01


@pytest.mark.parametrize(
    ("name", "asked", "kind", "named"),
    [
        ("nafnet_plain", "NAFNet", InputError, r"architecture 'NAFNet' is unknown \(use one of ConditionalNAFNet, "),
        ("nafnet_plain", "ConditionalUNet", CheckpointError, "holds a ConditionalNAFNet, not a ConditionalUNet"),
        ("nafnet_plain", "ConditionalNAFNet-denoising", CheckpointError, r"intro\.weight is \(8, 6, .*, not \(8, 3, "),
        ("nafnet_denoising", "ConditionalNAFNet", CheckpointError, r"intro\.weight is \(8, 3, 3, 3\), not \(8, 6, "),
        ("nafnet_latent_bokeh", "ConditionalNAFNet", CheckpointError, r"missing: decoders\.0\.0\.mlp\.1\.bias"),
    ],
)  # fmt: skip
def test_a_name_that_does_not_fit(
    name: str, asked: str, kind: type[Exception], named: str, tmp_path: Path
) -> None:  # fmt: skip
    with pytest.raises(kind, match=named) as caught:
        load_checkpoint(weights(f"{name}.pth", tmp_path), asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nafnet_stereo.pth", "unet_stereo.pth"])
def test_networks_for_stereo_pairs_are_refused_by_name(name: str, tmp_path: Path) -> None:
    kind = "ConditionalNAFNet" if "nafnet" in name else "ConditionalUNet"
    with pytest.raises(
        CheckpointError, match=f"{name} is a {kind} for stereo super-resolution, which is not supported"
    ):
        load_checkpoint(weights(name, tmp_path))


def test_a_skip_around_everything_keeps_what_the_first_convolution_makes() -> None:
    plain, around = (kind(16, (1,), 1, (1,), 4) for kind in (NAFNet, NAFNetLatentDehazing))
    assert around.bytes_per_pixel - plain.bytes_per_pixel == 4 * 16


# Lenses


def test_lenses_are_told_by_the_hyper_parameters_or_in_a_call(tmp_path: Path) -> None:
    net = load_checkpoint(weights("nafnet_latent_bokeh.pth", tmp_path))
    assert isinstance(net, NAFNetModule)
    arrays = golden("nafnet_latent_bokeh")
    lenses = tuple(map(float, arrays["lens_1"][0]))
    given, expected = (torch.tensor(arrays["xt_1"]), torch.tensor(arrays["cond_1"]), 100.0), arrays["out_1_t100"]
    told = with_arch(net, replace(net.arch, lenses=lenses))  # type: ignore[arg-type, call-arg]
    for output in (told(*given), net(*given, lenses), net(*given, torch.tensor([lenses]))):
        np.testing.assert_allclose(output.numpy(), expected, rtol=0, atol=TOLERANCE)
    assert np.abs(net(*given, (-18.0, 160.0, 3.0)).numpy() - expected).max() > 1e-3
    for call in (lambda: net(*given), lambda: modulation_table(net, [1.0])):
        with pytest.raises(InputError, match=r"is told of lenses \(give source lens, wanted lens and disparity\)"):
            call()
    for wrong in ([1.0, 2.0], 3.0, torch.zeros(1, 3, 3)):
        with pytest.raises(InputError, match="are not three numbers for each picture"):
            net(*given, wrong)
