"""The tables are the published ones, and keep the identities of the process for any setting."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mrs.numerics.schedule import CONVENTIONS, INTERPOLATIONS, KINDS, Schedule
from mrs.runtime.errors import InputError
from tests.together import together

SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "kind": st.sampled_from(KINDS),
    "max_sigma": st.floats(1, 255),
    "eps": st.floats(1e-6, 0.9),
    "T": st.integers(2, 1000),
    "convention": st.sampled_from(CONVENTIONS),
}
schedules = st.builds(Schedule, **SETTINGS)
exact_schedules = st.builds(Schedule, **SETTINGS, interpolation=st.just("exact"))


@together("convention", CONVENTIONS)
def test_published_tables(golden, convention: str) -> None:
    name = f"{convention}_cosine_0.005_50"
    schedule = Schedule("cosine", max_sigma=50, eps=0.005, T=100, convention=convention)
    # They were computed in float32, where sqrt(1 - a^2) loses digits near a = 1.
    np.testing.assert_allclose(schedule.alphas, golden.arrays[f"alpha_{name}"], rtol=1e-6, atol=0)
    np.testing.assert_allclose(schedule.sigmas, golden.arrays[f"sigma_{name}"], rtol=0, atol=2e-7)


def test_every_published_table_is_tested(golden) -> None:
    tables = {name for name in golden.arrays if name.startswith(("alpha_", "sigma_"))}
    assert tables == {f"{part}_{c}_cosine_0.005_50" for part in ("alpha", "sigma") for c in CONVENTIONS}


def test_the_default_is_the_published_setting() -> None:
    assert Schedule() == Schedule("cosine", 50, 0.005, 100, "mr-sampler", "published")


def test_numbers_known_by_hand() -> None:
    assert Schedule(convention="mr-sampler").sigma(0) == pytest.approx(0.0022, abs=5e-5)
    constant = Schedule("constant", max_sigma=51, eps=0.01, T=4, convention="ir-sde")
    np.testing.assert_allclose(constant.alphas, 0.01 ** (np.arange(5) / 4), rtol=1e-14)
    assert constant.dt == pytest.approx(-math.log(0.01) / 4, rel=1e-15)
    assert pytest.approx(0.2) == constant.S
    constant = Schedule("constant", eps=0.01, T=4, convention="mr-sampler")
    np.testing.assert_allclose(constant.alphas, 0.01 ** (np.arange(1, 6) / 5), rtol=1e-14)
    linear = Schedule("linear", T=99, convention="ir-sde")
    np.testing.assert_allclose(linear.theta[[0, 99]], [1e-3, 0.2], rtol=1e-14)
    np.testing.assert_allclose(np.diff(linear.theta, 2), 0, atol=1e-15)


@together("T", [2, 100])
def test_cosine_is_its_formula(T: int) -> None:
    def c(k: int) -> float:
        return math.cos((k / (T + 2) + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = [1 - c(t + 1) / c(0) for t in range(T + 1)]
    np.testing.assert_allclose(Schedule(T=T).theta, expected, rtol=1e-12)


@given(schedules)
def test_identities_at_whole_times(schedule: Schedule) -> None:
    a, s, lam = schedule.alphas, schedule.sigmas, schedule.half_log_snrs
    for table in (a, s, lam, schedule.theta, schedule.Theta):
        assert table.shape == (schedule.T + 1,)
        assert table.dtype == np.float64
    assert (schedule.theta > 0).all()
    assert (np.diff(a) < 0).all()
    assert (np.diff(s) > 0).all()
    assert (np.diff(lam) < 0).all()
    np.testing.assert_allclose(s**2, schedule.S**2 * (1 - a**2), rtol=1e-9, atol=schedule.S**2 * 1e-15)
    assert a[-1] == pytest.approx(schedule.eps, rel=1e-12)
    # lam from exact halves: no table is made from a rounded other one.
    decay = schedule.Theta[1:] * schedule.dt
    exact = -0.5 * np.log(np.expm1(2 * decay)) - math.log(schedule.S)
    np.testing.assert_allclose(lam[1:], exact, rtol=1e-9, atol=1e-9)


def test_small_noise_keeps_its_digits() -> None:
    schedule = Schedule("linear", eps=0.9, T=1000, convention="ir-sde")
    decay = 2 * schedule.Theta[1] * schedule.dt
    # 1 - exp(-x) by its series, where the subtraction would leave ten digits.
    expected = schedule.S * math.sqrt(decay * (1 - decay / 2 * (1 - decay / 3)))
    assert float(schedule.sigma(1)) == pytest.approx(expected, rel=1e-14, abs=0)


@given(schedules)
def test_what_stands_at_time_0(schedule: Schedule) -> None:
    a, s, lam = (float(f(0)) for f in (schedule.alpha, schedule.sigma, schedule.half_log_snr))
    if schedule.convention == "ir-sde":
        assert (a, s, lam) == (1.0, 0.0, math.inf)
    else:
        assert a < 1
        assert s > 0
        assert math.isfinite(lam)


@given(schedules)
def test_conventions_share_their_steps(schedule: Schedule) -> None:
    other = next(name for name in CONVENTIONS if name != schedule.convention)
    twin = Schedule(schedule.kind, schedule.max_sigma, schedule.eps, schedule.T, other)
    np.testing.assert_array_equal(schedule.theta, twin.theta)
    np.testing.assert_allclose(np.diff(schedule.Theta), np.diff(twin.Theta), rtol=1e-6)


@given(schedules, st.data())
def test_times_between_are_on_the_line(schedule: Schedule, data: st.DataObject) -> None:
    left = data.draw(st.integers(0, schedule.T - 1))
    part = data.draw(st.floats(0, 1))
    t = left + part
    for function, table in ((schedule.alpha, schedule.alphas), (schedule.sigma, schedule.sigmas)):
        expected = table[left] + (t - left) * (table[left + 1] - table[left])
        assert float(function(t)) == pytest.approx(expected, rel=1e-9, abs=1e-15)
    if left or schedule.convention == "mr-sampler":
        lam = schedule.half_log_snrs
        expected = lam[left] + (t - left) * (lam[left + 1] - lam[left])
        assert float(schedule.half_log_snr(t)) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    elif part:
        # A line from infinity says nothing: there lam is that of a and s.
        # Times of a denormal have a standard deviation without digits, or none.
        assume(part > 1e-300)
        expected = math.log(float(schedule.alpha(t)) / float(schedule.sigma(t)))
        assert float(schedule.half_log_snr(t)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(schedules)
def test_whole_times_give_the_tables(schedule: Schedule) -> None:
    t = np.arange(schedule.T + 1)
    np.testing.assert_array_equal(schedule.alpha(t), schedule.alphas)
    np.testing.assert_array_equal(schedule.sigma(t), schedule.sigmas)
    np.testing.assert_array_equal(schedule.half_log_snr(t), schedule.half_log_snrs)


def test_half_log_snr_near_0_falls_without_a_jump() -> None:
    schedule = Schedule(convention="ir-sde")
    t = np.concatenate([[0, 1e-12], np.linspace(0.01, 2, 200)])
    lam = schedule.half_log_snr(t)
    assert lam[0] == math.inf
    assert (np.diff(lam) < 0).all()
    assert float(schedule.half_log_snr(1 - 1e-9)) == pytest.approx(float(schedule.half_log_snr(1)), abs=1e-7)


# Exact interpolation


@given(exact_schedules)
def test_exact_interpolation_is_the_tables_at_whole_times(schedule: Schedule) -> None:
    t = np.arange(schedule.T + 1)
    np.testing.assert_allclose(schedule.alpha(t), schedule.alphas, rtol=1e-14)
    np.testing.assert_allclose(schedule.sigma(t), schedule.sigmas, rtol=1e-14)
    np.testing.assert_allclose(schedule.half_log_snr(t), schedule.half_log_snrs, rtol=1e-12, atol=1e-12)
    published = Schedule(schedule.kind, schedule.max_sigma, schedule.eps, schedule.T, schedule.convention)
    np.testing.assert_array_equal(published.alphas, schedule.alphas)
    np.testing.assert_array_equal(published.sigmas, schedule.sigmas)


@given(exact_schedules, st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_exact_interpolation_keeps_the_identities_of_the_process(schedule: Schedule, parts: list[float]) -> None:
    """s^2 = S^2 (1 - a^2) and lam = log(a / s), which lines through a, s and lam do not."""
    t = np.array([min(part * schedule.T, schedule.T) for part in parts])
    a, s, lam = schedule.alpha(t), schedule.sigma(t), schedule.half_log_snr(t)
    np.testing.assert_allclose(s**2, schedule.S**2 * (1 - a**2), rtol=1e-9, atol=schedule.S**2 * 1e-15)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(lam, np.log(a / s), rtol=1e-9, atol=1e-9)


@together("convention", CONVENTIONS)
@together("kind", KINDS)
def test_exact_interpolation_takes_theta_as_constant_between_whole_times(kind: str, convention: str) -> None:
    """-log a, which is Theta dt, goes up by the same amount in each part of a step; a falls, s rises, lam falls."""
    schedule = Schedule(kind, convention=convention, interpolation="exact")
    t = np.linspace(0, 100, 801)
    decay = -np.log(schedule.alpha(t))
    np.testing.assert_allclose(np.diff(decay), np.repeat(schedule.theta[1:] * schedule.dt / 8, 8), rtol=1e-9)
    assert (np.diff(schedule.sigma(t)) > 0).all()
    assert (np.diff(schedule.half_log_snr(t)) < 0).all()


def test_published_interpolation_is_another_between_whole_times() -> None:
    published, exact = (Schedule(convention="ir-sde", interpolation=name) for name in ("published", "exact"))
    assert float(published.alpha(0.5)) == pytest.approx((1 + published.alphas[1]) / 2, rel=1e-12)
    # s begins like sqrt(t) there, not like t.
    assert float(exact.sigma(0.5)) == pytest.approx(exact.sigmas[1] * math.sqrt(0.5), rel=1e-3)
    assert float(published.sigma(0.5)) == pytest.approx(exact.sigmas[1] * 0.5, rel=1e-12)


# Arguments


@together("shape", [(), (1,), (3,), (2, 3), (0,)], ids=str)
def test_times_of_any_shape(shape: tuple[int, ...]) -> None:
    for convention, interpolation in itertools.product(CONVENTIONS, INTERPOLATIONS):
        schedule = Schedule(convention=convention, interpolation=interpolation)
        for function in (schedule.alpha, schedule.sigma, schedule.half_log_snr):
            value = function(np.full(shape, 12.5))
            assert np.shape(value) == shape
            np.testing.assert_array_equal(value, np.broadcast_to(function(12.5), shape))


@together("t", [-1e-9, 100.0001, math.nan, math.inf, -math.inf, [0, 101], [[5], [-1]]], ids=str)
@together("interpolation", INTERPOLATIONS)
@together("convention", CONVENTIONS)
def test_times_outside_are_refused(convention: str, interpolation: str, t: Any) -> None:
    schedule = Schedule(convention=convention, interpolation=interpolation)
    for function in (schedule.alpha, schedule.sigma, schedule.half_log_snr):
        with pytest.raises(InputError, match=r"outside \[0, 100\]"):
            function(t)


@together(
    ("arguments", "named", "hint"),
    [
        ({"kind": "sine"}, "'sine'", "cosine, linear, constant"),
        ({"kind": "Cosine"}, "'Cosine'", "cosine"),
        ({"convention": "irsde"}, "'irsde'", "mr-sampler, ir-sde"),
        ({"interpolation": "linear"}, "interpolation 'linear'", "published, exact"),
        ({"interpolation": ""}, "interpolation ''", "published, exact"),
        ({"max_sigma": 0}, "max_sigma 0 ", "255"),
        ({"max_sigma": -1}, "max_sigma -1 ", "255"),
        ({"max_sigma": 0.04}, "max_sigma 0.04 is below 1, which published code takes as divided by 255", "give 10.2"),
        ({"max_sigma": 0.999}, "max_sigma 0.999 is below 1", "give 254.7"),
        ({"max_sigma": 255.5}, "max_sigma 255.5", "255"),
        ({"max_sigma": math.nan}, "max_sigma nan", "255"),
        ({"max_sigma": math.inf}, "max_sigma inf", "255"),
        ({"eps": 0}, "eps 0 ", "0.005"),
        ({"eps": 1}, "eps 1 ", "0.005"),
        ({"eps": 1e-45}, "eps 1e-45 is below 1e-30: 1 / eps, a solver's weight, would overflow float32", "0.005"),
        ({"eps": 9.9e-31}, "eps 9.9e-31 is below 1e-30", "0.005"),
        ({"eps": math.nan}, "eps nan", "0.005"),
        ({"T": 1}, "T 1 ", "100"),
        ({"T": 100_001}, "T 100001 ", "100"),
        ({"T": 0}, "T 0 ", "100"),
        ({"T": -5}, "T -5 ", "100"),
        ({"T": 10.5}, "T 10.5", "100"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], named: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        Schedule(**arguments)
    assert named in caught.value.message
    assert hint in caught.value.hint


@given(schedules | exact_schedules)
def test_to_json_and_back(schedule: Schedule) -> None:
    again = Schedule(**json.loads(json.dumps(schedule.to_dict())))
    assert again == schedule
    assert hash(again) == hash(schedule)
    np.testing.assert_array_equal(again.alphas, schedule.alphas)


@together("wrong", ["abc", None, True, math.nan, math.inf])
@together("name", ["max_sigma", "eps", "T"])
def test_values_that_are_no_numbers_are_refused_by_name(name: str, wrong: object) -> None:
    with pytest.raises(InputError, match=name):
        Schedule(**{name: wrong})  # type: ignore[arg-type]


def test_a_fractional_T_is_refused() -> None:
    with pytest.raises(InputError, match=r"T 100\.0"):
        Schedule(kind="linear", T=100.0)  # type: ignore[arg-type]


def test_more_steps_than_memory_holds_are_refused() -> None:
    with pytest.raises(InputError, match="T 999999999"):
        Schedule(T=999_999_999)
