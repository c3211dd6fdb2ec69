"""Many small cases in one test: pytest spends more on each test than thousands of ours take."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Test = Callable[..., None]


def together(
    names: str | Sequence[str], values: Iterable[Any], ids: Sequence[str] | Callable[[Any], Any] = repr
) -> Callable[[Test], Test]:
    """As `pytest.mark.parametrize`, but all cases are one test, which ends with the first that fails and names it.

    Fixtures are made once for all of them, so that this is for tests whose fixtures no case changes.

    Args:
        names: of the arguments, as one text or several.
        values: of each case, or tuples of them.
        ids: what to call each case, or what makes that of each of its values.
    """
    given = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    cases = [(value,) if len(given) == 1 else tuple(value) for value in values]
    assert cases, f"no case of {given}"

    def decorate(test: Test) -> Test:
        signature = inspect.signature(test)
        kept = [each for name, each in signature.parameters.items() if name not in given]
        assert len(kept) + len(given) == len(signature.parameters), f"{test.__name__} does not take {given}"

        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            for index, case in enumerate(cases):
                try:
                    test(**fixtures, **dict(zip(given, case, strict=True)))
                except BaseException as error:
                    called = ", ".join(str(ids(value)) for value in case) if callable(ids) else ids[index]
                    error.add_note(f"in the case of {', '.join(given)}: {called}")
                    raise

        run.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        return run

    return decorate
