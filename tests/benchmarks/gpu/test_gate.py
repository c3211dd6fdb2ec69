"""What counts as the reference's result, and torch's own update against it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def gate() -> Any:
    pytest.importorskip("triton")
    from benchmarks.gpu import gate

    return gate


@pytest.fixture(scope="module")
def rivals() -> Any:
    pytest.importorskip("triton")
    from benchmarks.gpu import rivals

    return rivals


def arrays_of(row: str, **more: Any) -> tuple[Any, Any]:
    from benchmarks.gpu.cases import Arrays, Case

    case = Case("step", row, "bfloat16", "planes", 64, 2)
    return case, Arrays(case, "cpu")


VALUES = np.linspace(-2, 3, 5000, dtype=np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_one_rounding_passes_and_four_do_not(gate: Any, dtype: str) -> None:
    rounded = torch.from_numpy(VALUES).to(getattr(torch, dtype))
    gate.compare("x", rounded, VALUES)
    with pytest.raises(gate.GateError, match="x is wrong in"):
        gate.compare("x", rounded * (1 + 4 * torch.finfo(rounded.dtype).eps) + 1e-5, VALUES)


def test_a_single_wrong_number_is_found_and_named(gate: Any) -> None:
    given = torch.from_numpy(VALUES.reshape(50, 100).copy())
    given[7, 9] += 0.01
    with pytest.raises(gate.GateError, match=r"x is wrong in 0\.02% .* at \(7, 9\); expected -1\."):
        gate.compare("x", given, VALUES.reshape(50, 100))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nan_is_wrong(gate: Any, dtype: str) -> None:
    given = torch.from_numpy(VALUES.copy()).to(getattr(torch, dtype))
    given[3] = float("nan")
    with pytest.raises(gate.GateError):
        gate.compare("x", given, VALUES)


def test_bytes_may_differ_by_one_and_rarely(gate: Any) -> None:
    expected = np.arange(10_000).astype(np.uint8)
    given = torch.from_numpy(expected.copy())
    given[[5, 700]] += 1
    gate.compare("picture", given, expected)
    given[5] += 1
    with pytest.raises(gate.GateError):
        gate.compare("picture", given, expected)
    often = torch.from_numpy(expected.copy())
    often[1::256] += 1
    with pytest.raises(gate.GateError):
        gate.compare("picture", often, expected)


class Audit:
    """A double of an audit's launch.

    Attributes:
        rule: the status that it writes, from the values and the status before.
        seen: whether the values were finite, for each launch.
    """

    def __init__(self, rule: Any) -> None:
        self.rule = rule
        self.seen: list[bool] = []

    def __call__(self, case: Any, arrays: Any) -> list[Any]:
        self.arrays = arrays
        return [self]

    def run(self) -> None:
        values, status = self.arrays.output, self.arrays.status
        self.seen.append(bool(torch.isfinite(values).all()))
        status.fill_(self.rule(values, int(status)))


@pytest.mark.parametrize(
    ("rule", "right"),
    [
        (lambda values, status: 1 if not torch.isfinite(values).all() else status, True),
        (lambda values, status: status, False),
        (lambda values, status: 1, False),
        (lambda values, status: 2 if not torch.isfinite(values).all() else status, False),
        (lambda values, status: 1 if torch.isinf(values).any() else status, False),
        (lambda values, status: 1 if not torch.isfinite(values[:1]).all() else status, False),
    ],
    ids=["right", "finds nothing", "finds always", "another status", "infinities alone", "one picture alone"],
)
def test_an_audit_must_find_what_is_not_finite_and_nothing_else(
    gate: Any, monkeypatch: pytest.MonkeyPatch, rule: Any, right: bool
) -> None:
    from benchmarks.gpu.cases import Case

    monkeypatch.setattr(gate, "launches", audit := Audit(rule))
    case = Case("audit", "posterior", "bfloat16", "planes", 64, 2)
    if right:
        gate.check(case, "cpu")
        assert audit.seen == [True, False]
    else:
        with pytest.raises(gate.GateError, match=r"^audit, bfloat16 planes: status is wrong"):
            gate.check(case, "cpu")


@pytest.mark.parametrize("row", ["order 1", "order 2", "order 3"])
@pytest.mark.parametrize("kind", ["eager", "compiled"])
def test_torch_computes_the_same_step(gate: Any, rivals: Any, row: str, kind: str) -> None:
    from benchmarks.gpu.cases import arguments
    from mrs.kernels.gpu import reference

    case, arrays = arrays_of(row)
    expected = [gate._numpy(value) if isinstance(value, torch.Tensor) else value for value in arguments(case, arrays)]
    arrays.packed[:, :3] = float("nan")
    rivals.rivals(case, arrays, compiler=lambda function: function)[kind]()
    reference.step(*expected)
    for name, place in gate.WRITTEN["step"].items():
        gate.compare(name, getattr(arrays, name), expected[place])


def moved(arrays: Any, noise: float) -> Any:
    """A step that adds noise of this deviation to mu, of this batch."""

    def run() -> None:
        arrays.x.copy_(arrays.mu + noise * torch.randn_like(arrays.x))
        arrays.packed[:, :3] = arrays.x - arrays.mu

    return run


def test_torchs_noise_has_the_rows_deviation(rivals: Any) -> None:
    torch.manual_seed(0)
    case, arrays = arrays_of("posterior")
    eager = rivals.rivals(case, arrays, compiler=lambda function: function)["eager"]
    eager()
    first = arrays.x.clone()
    arrays.x.copy_(arrays.first)
    eager()
    row, _ = rivals.weights(case)
    assert float((arrays.x - first).std()) == pytest.approx(row.n * 2**0.5, rel=0.03)
    torch.testing.assert_close(arrays.packed[:, :3].float(), arrays.x - arrays.mu, rtol=2**-8, atol=0)
    torch.testing.assert_close(arrays.packed[:, 3:].float(), arrays.mu, rtol=2**-8, atol=0)


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_a_rivals_noise_must_have_the_kernels_deviation(rivals: Any, gate: Any, factor: float) -> None:
    torch.manual_seed(0)
    case, arrays = arrays_of("posterior")
    row, _ = rivals.weights(case)
    kernel, rival = moved(arrays, row.n), moved(arrays, factor * row.n)
    if factor == 1:
        rivals.check("eager", case, arrays, kernel, rival)
    else:
        with pytest.raises(gate.GateError, match="torch, eager"):
            rivals.check("eager", case, arrays, kernel, rival)


@pytest.mark.parametrize("spoiled", ["x", "history", "packed", "nothing"])
def test_a_rival_that_writes_something_else_is_refused(rivals: Any, gate: Any, spoiled: str) -> None:
    case, arrays = arrays_of("order 2")
    eager = rivals.rivals(case, arrays, compiler=lambda function: function)["eager"]

    def rival() -> None:
        eager()
        if spoiled != "nothing":
            getattr(arrays, spoiled).flatten()[17] += 0.1

    if spoiled == "nothing":
        rivals.check("compiled", case, arrays, eager, rival)
    else:
        with pytest.raises(gate.GateError):
            rivals.check("compiled", case, arrays, eager, rival)


@pytest.mark.parametrize("what", ["x", "history", "packed"])
def test_what_a_rival_does_not_write_is_not_the_kernels(rivals: Any, gate: Any, what: str) -> None:
    case, arrays = arrays_of("order 2")
    eager = rivals.rivals(case, arrays, compiler=lambda function: function)["eager"]

    def rival() -> None:
        before = getattr(arrays, what).clone()
        eager()
        getattr(arrays, what).copy_(before)

    with pytest.raises(gate.GateError):
        rivals.check("eager", case, arrays, eager, rival)


def test_torch_compiles_every_shape_for_itself_in_its_default_mode(
    rivals: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: asked.append("reset"))
    monkeypatch.setattr(torch, "compile", lambda function, **more: asked.append(more) or function)
    case, arrays = arrays_of("order 2")
    rivals.rivals(case, arrays)
    assert asked == ["reset", {"dynamic": False}]
