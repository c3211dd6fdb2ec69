from __future__ import annotations

import pytest

from tests.together import together


def test_every_case_runs_with_the_same_fixtures(tmp_path) -> None:
    seen = []

    @together("first", [1, 2])
    @together(("second", "third"), [("a", "b"), ("c", "d")])
    def test(fixture: object, first: int, second: str, third: str) -> None:
        seen.append((fixture, first, second, third))

    test(fixture=tmp_path)
    assert seen == [(tmp_path, first, *rest) for first in (1, 2) for rest in (("a", "b"), ("c", "d"))]


def test_the_first_case_that_fails_is_named() -> None:
    @together("first, second", [(1, 2), (1, 3), (1, 4)])
    def test(first: int, second: int) -> None:
        assert first + second < 4

    with pytest.raises(AssertionError) as caught:
        test()
    assert caught.value.__notes__ == ["in the case of first, second: 1, 3"]


@pytest.mark.parametrize("outer", [1, 2])
@together("inner", range(3))
def test_pytest_gives_what_is_left(tmp_path, outer: int, inner: int) -> None:
    # A file for each case, in the one folder of this test.
    (tmp_path / str(inner)).touch(exist_ok=False)
    assert len(list(tmp_path.iterdir())) == inner + 1


def test_nothing_to_test_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match=r"no case of \['a'\]"):
        together("a", [])
    with pytest.raises(AssertionError, match=r"test does not take \['a'\]"):

        @together("a", [1])
        def test(b: int) -> None:
            pass


@pytest.mark.parametrize("ids", [["one", "two"], lambda value: {1: "one", 2: "two"}[value]])
def test_cases_are_called_what_the_test_says(ids: object) -> None:
    @together("value", [1, 2], ids=ids)
    def test(value: int) -> None:
        assert value == 1

    with pytest.raises(AssertionError) as caught:
        test()
    assert caught.value.__notes__ == ["in the case of value: two"]
