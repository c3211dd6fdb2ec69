"""Networks side by side must not share a processor while another is idle: OpenVINO would pin each to the first ones."""

from __future__ import annotations

import pytest

from mrs.runtime import backends
from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.system import machine

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (1, 6, 8, 12)


@pytest.mark.parametrize(("processors", "pinned"), [(1, True), (2, False)])
@pytest.mark.parametrize("restored", [False, True], ids=["compiled", "restored"])
def test_only_a_network_that_takes_every_processor_is_pinned(tiny, monkeypatch, processors, pinned, restored) -> None:
    monkeypatch.setattr(machine, "threads", lambda: processors)
    backend = backends.get("openvino")
    if restored:
        # What the engine was compiled with counts no more.
        monkeypatch.setattr(machine, "threads", lambda: 3 - processors)
    network = backend.compile(tiny.graph, tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    if restored:
        monkeypatch.setattr(machine, "threads", lambda: processors)
        network = backend.restore(network.export(), tiny.modulation, SHAPE, "fp32", CompileSettings(1))
    assert network._compiled.get_property("ENABLE_CPU_PINNING") is pinned
