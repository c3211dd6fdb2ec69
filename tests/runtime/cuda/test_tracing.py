"""A restore on a GPU is one part, for the host gives it away at once; timed and shown by a benchmark as such."""

from __future__ import annotations

import numpy as np
import pytest

from mrs.benchmarking.measuring import time_group
from mrs.benchmarking.timeline import timeline
from mrs.runtime.tracing import recording

pytestmark = pytest.mark.slow(10)


@pytest.mark.parametrize(("graphs", "name"), [(True, "graph"), (False, "launches")])
def test_the_whole_chain_is_one_part(gpu, pictures, graphs: bool, name: str) -> None:
    with gpu.load(graphs=graphs) as restorer:
        expected = restorer.restore(pictures((16, 16)), 3)
        with recording() as recorder:
            np.testing.assert_array_equal(restorer.restore(pictures((16, 16)), 3), expected)
    assert [(part.name, part.worker) for part in recorder.parts] == [("wait", None), (name, 1), ("restore", None)]


def test_restores_and_evaluations_are_timed_in_turn(gpu) -> None:
    with gpu.load() as restorer:
        whole, bare = time_group(restorer, (1, 16, 16), 0, 0.0)
        assert [span.name for span in timeline(restorer, (1, 16, 16))] == ["wait", "graph"]
    assert (whole.work, bare.work) == ("restore", "network")
    assert len(whole.milliseconds) == len(bare.milliseconds) == 5
    assert (whole.backend, whole.evaluations, whole.parity) == ("double", 3, None)
