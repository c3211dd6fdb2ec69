"""A restore computes exactly whatever its process has set, and leaves all of it as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("torch")
import torch

from mrs.runtime.backends import torch_settings
from mrs.runtime.backends.torch_settings import exactly

AT = torch_settings._at
BACKENDS: Any = torch.backends
PARENTS = {"everything": BACKENDS, "all of CUDA": BACKENDS.cudnn}
PRECISIONS = {**PARENTS, "convolutions": BACKENDS.cudnn.conv, "products": BACKENDS.cuda.matmul}
FLAGS = ("enabled", "benchmark", "deterministic")
SUMS = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction", "allow_fp16_accumulation")


def readings() -> list[Any]:
    """Every setting, also as it reads where what it may inherit from is another."""
    found = [getattr(BACKENDS.cudnn, name) for name in FLAGS]
    found += [getattr(BACKENDS.cuda.matmul, name) for name in SUMS]
    found.append(torch._C._get_cublas_allow_bf16_reduced_precision_reduction())  # type: ignore[attr-defined]
    before = BACKENDS.fp32_precision
    for value in ("none", "ieee", "tf32", before):
        BACKENDS.fp32_precision = value
        found.append({name: each.fp32_precision for name, each in PRECISIONS.items()})
    return found


def inherited() -> list[str]:
    """Who reads as all of CUDA does, whatever that is; what it was cannot be told any more."""
    heirs = {"convolutions": BACKENDS.cudnn.conv, "products": BACKENDS.cuda.matmul}
    seen = []
    for value in ("ieee", "tf32"):
        BACKENDS.cudnn.fp32_precision = value
        seen.append({name for name, each in heirs.items() if each.fp32_precision == value})
    return sorted(set.intersection(*seen))


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    flags = {name: getattr(BACKENDS.cudnn, name) for name in FLAGS}
    sums = {name: getattr(BACKENDS.cuda.matmul, name) for name in SUMS}
    yield
    for name, value in flags.items():
        setattr(BACKENDS.cudnn, name, value)
    for name, value in sums.items():
        setattr(BACKENDS.cuda.matmul, name, value)
    torch.set_float32_matmul_precision("highest")
    # As torch begins.
    for each in (*PRECISIONS.values(), BACKENDS.mkldnn.matmul):
        each.fp32_precision = "none"
    BACKENDS.cudnn.conv.fp32_precision = "tf32"


def everything(value: str) -> Callable[[], None]:
    return lambda: setattr(BACKENDS, "fp32_precision", value)


def cuda(value: str) -> Callable[[], None]:
    return lambda: setattr(BACKENDS.cudnn, "fp32_precision", value)


def both() -> None:
    everything("ieee")()
    cuda("tf32")()
    BACKENDS.cudnn.conv.fp32_precision = "none"


def each_for_itself() -> None:
    BACKENDS.cudnn.conv.fp32_precision = "none"
    BACKENDS.cuda.matmul.fp32_precision = "tf32"


def old_names() -> None:
    torch.set_float32_matmul_precision("medium")


def old_and_new_names() -> None:
    torch.set_float32_matmul_precision("high")
    everything("tf32")()
    BACKENDS.cuda.matmul.fp32_precision = "none"


def other_flags() -> None:
    BACKENDS.cudnn.enabled = False
    BACKENDS.cudnn.benchmark = True
    BACKENDS.cuda.matmul.allow_fp16_accumulation = True


SETTINGS = [
    lambda: None, everything("tf32"), everything("ieee"), everything("bf16"), cuda("tf32"), both, each_for_itself,
    old_names, old_and_new_names, other_flags,
]  # fmt: skip
NAMES = ["none", "all tf32", "all ieee", "all bf16", "cuda tf32", "both", "each", "old names", "mixed names", "flags"]


@pytest.mark.parametrize("settings", SETTINGS, ids=NAMES)
def test_who_inherits_still_does(settings: Callable[[], None]) -> None:
    settings()
    expected = inherited()
    settings()
    with exactly():
        pass
    assert inherited() == expected


@pytest.mark.parametrize("settings", SETTINGS, ids=NAMES)
def test_inside_all_is_exact_and_outside_as_before(settings: Callable[[], None]) -> None:
    settings()
    before = readings()
    with exactly():
        assert [each.fp32_precision for each in list(PRECISIONS.values())[2:]] == ["ieee", "ieee"]
        assert [getattr(BACKENDS.cudnn, name) for name in FLAGS] == [True, False, True]
        assert not any(getattr(BACKENDS.cuda.matmul, name) for name in SUMS)
    assert readings() == before


def test_what_inherits_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """How torch begins, a convolution's own default that yields to others', cannot be set again."""
    asked: list[str] = []

    class Watched:
        def __init__(self, place: str) -> None:
            vars(self)["place"], vars(self)["owner"] = place, AT(place)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.owner, name)

        def __setattr__(self, name: str, value: Any) -> None:
            asked.append(f"{self.place}.{name}")
            setattr(self.owner, name, value)

    BACKENDS.cudnn.conv.fp32_precision = "none"
    with monkeypatch.context() as patched:
        patched.setattr(torch_settings, "_at", Watched)
        with exactly():
            pass
    assert "cudnn.deterministic" in asked
    assert not [place for place in asked if place.endswith("fp32_precision")]


def test_what_fails_inside_leaves_all_as_before() -> None:
    everything("tf32")()
    before = readings()
    with pytest.raises(ZeroDivisionError), exactly():
        raise ZeroDivisionError
    assert readings() == before


def test_both_parts_of_a_reduction_are_put_back() -> None:
    matmul = BACKENDS.cuda.matmul
    if not hasattr(matmul, "allow_bf16_reduced_precision_reduction_split_k"):
        pytest.skip("this torch has one part")
    matmul.allow_bf16_reduced_precision_reduction = (False, False)
    before = readings()
    with exactly():
        pass
    assert readings() == before
    matmul.allow_bf16_reduced_precision_reduction = (True, True)


def test_threads_that_overlap_share_what_is_set() -> None:
    """The first to come is the first to leave: the other still computes exactly, and nothing is left behind."""
    everything("tf32")()
    before = readings()
    entered, left = threading.Event(), threading.Event()
    inside: list[str] = []

    def late() -> None:
        with exactly():
            entered.set()
            assert left.wait(30)
            inside.append(BACKENDS.cudnn.conv.fp32_precision)

    with exactly():
        thread = threading.Thread(target=late)
        thread.start()
        assert entered.wait(30)
    left.set()
    thread.join(30)
    assert inside == ["ieee"]
    assert readings() == before
