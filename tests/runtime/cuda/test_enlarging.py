"""Pictures are enlarged for a GPU too: arrays on the host, tensors on the device, before all that is captured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mrs.runtime.errors import InputError
from mrs.runtime.plan import Plan
from mrs.runtime.session import Restorer

pytestmark = pytest.mark.slow(8)
FACTOR = 2


@pytest.fixture
def both(gpu, on_cpu) -> Any:
    """A restorer on the device, and one on the CPU, of plans that enlarge."""

    def larger(plan: Plan) -> Plan:
        return replace(plan, manifest={**plan.manifest, "upscale": FACTOR})

    with gpu.load(larger(gpu.plan())) as ours, Restorer(larger(on_cpu.plan)) as cpu:
        yield ours, cpu


@pytest.mark.parametrize("shape", [(7, 5), (2, 4, 9)], ids=str)
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_pictures_as_on_a_cpu(both, gpu, pictures, shape: tuple[int, ...], kind: str) -> None:
    ours, cpu = both
    given = pictures(shape, kind)
    expected = cpu.restore(given, 3)
    tolerance = 1 if kind == "uint8" else 1e-5
    restored = ours.restore(given, 3)
    assert (restored.dtype, restored.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(restored.astype(float), expected.astype(float), rtol=0, atol=tolerance)
    tensor = ours.restore(gpu.device.upload(given), 3)
    ours.synchronize()
    assert tuple(tensor.shape) == expected.shape
    np.testing.assert_allclose(tensor.numpy().astype(float), expected.astype(float), rtol=0, atol=tolerance)
    tiled = ours.restore(gpu.device.upload(given), 3, tile=8, overlap=2)
    np.testing.assert_allclose(tiled.numpy().astype(float), expected.astype(float), rtol=0, atol=tolerance)
    for picture in (given, gpu.device.upload(given)):
        with ours.lend(picture, 3) as lent:
            found = lent.copy() if isinstance(lent, np.ndarray) else lent.numpy().copy()
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=0, atol=tolerance)


def test_results_of_another_size_and_bound_tensors_are_refused(both, gpu, pictures) -> None:
    ours, _ = both
    given = gpu.device.upload(pictures((4, 6)))
    with pytest.raises(InputError, match=r"out is uint8\(4, 6, 3\)"):
        ours.restore_into(given, gpu.device.upload(pictures((4, 6))))
    with pytest.raises(InputError, match="enlarged first cannot be bound"):
        ours.restore_into(given, gpu.device.upload(pictures((8, 12))), bound=True)
