"""TensorRT's double builds and runs every published network, in all sizes of a range too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mrs.runtime.backends.settings import CompileSettings, EngineOptions, with_range
from tests.runtime.backends.published import BOUNDS, NAMES, Case, case, network
from tests.runtime.backends.tensorrt.facts import VERSIONS

pytestmark = pytest.mark.slow(35)


def evaluated(device: Any, made: Any, given: Case, step: int) -> Any:
    made.packed.copy_(torch.from_numpy(given.packed))
    if given.context is not None:
        made.context.copy_(torch.from_numpy(given.context))
    made.output.fill_(torch.nan)
    stream = device.stream()
    with device.on(stream):
        made.evaluate(step)
    device.wait(stream)
    return made.output.float().numpy().copy()


# Every network by the newest version, and one of each family by the oldest.
BUILT = [(VERSIONS[-1], name, precision) for name in NAMES for precision in ("fp16", "bf16")]
BUILT += [(VERSIONS[0], name, "fp16") for name in ("daclip_unet_full", "nafnet_denoising")]


@pytest.mark.parametrize(("world", "name", "precision"), BUILT, indirect=["world"])
def test_a_published_network(world: Any, backend: Any, name: str, precision: str) -> None:
    given = case(name)
    made = backend.compile(given.graph, given.modulation, given.packed.shape, precision, CompileSettings(1))
    assert (made.context is None) == (given.context is None)
    step = len(given.outputs) - 1
    assert BOUNDS["fp32"] < given.error(evaluated(world.device, made, given, step), step) < BOUNDS[precision]


@pytest.mark.parametrize("name", ["daclip_unet_full", "unet_denoising"])
def test_one_engine_for_a_range_of_sizes(world: Any, backend: Any, name: str) -> None:
    """From the smallest that the network takes, whose deepest level is a few pixels."""
    given = case(name)
    count, channels, height, width = given.packed.shape
    multiple = network(name).arch.multiple
    assert (height, width) == (height // multiple * multiple, width // multiple * multiple)
    options = with_range(EngineOptions(), ((1, 1), (height + 1, width + 1)), (count, height, width), multiple)
    assert options.size_range[0] == (count, multiple, multiple)
    assert options.size_range[2] == (count, height + multiple, width + multiple)
    settings = CompileSettings(1, options)
    made = backend.compile(given.graph, given.modulation, given.packed.shape, "fp16", settings)
    assert given.error(evaluated(world.device, made, given, 0), 0) < BOUNDS["fp16"]
    small = (count, channels, multiple, 2 * multiple)
    other = backend.compile(given.graph, given.modulation, small, "fp16", settings)
    # The same engine, and the sides of every value are those of the picture at hand.
    assert len(world.builds) == 1
    alone = backend.compile(given.graph, given.modulation, small, "fp16", CompileSettings(1))
    x = np.random.default_rng(0).standard_normal(small, np.float32)
    cut = Case(given.graph, given.modulation, x, given.context, given.outputs)
    one, two = (evaluated(world.device, each, cut, 0) for each in (other, alone))
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-6)
