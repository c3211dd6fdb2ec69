"""Documents, docstrings and comments name files that are there: what moves takes its name along."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("kernels", "runtime", "export", "mrs", "benchmarks")
ELSEWHERE = {
    "benchmarks/results/gpu.jsonl",  # only a run leaves it behind
    "docs/OperatorKernels.md",  # of ONNX Runtime, as the next
    "docs/cuda_plugin_ep/cuda_graph_for_cuda_plugin.md",
}
PATH = re.compile(
    r"(?<![\w./-])(?:kernels|runtime|export|mrs|tests|benchmarks|docs)/[\w./-]*\.(?:py|c|md|jsonl?|svg|jpg|npz)\b"
)
LINK = re.compile(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)")
DOCUMENTS = sorted(path for folder in (ROOT, ROOT / "docs", ROOT / "mrs/weights") for path in folder.glob("*.md"))


def named(text: str) -> Iterator[str]:
    """Files of the project that a text names; NAME stands for any."""
    yield from (name for name in PATH.findall(text) if "NAME" not in name)


def texts() -> Iterator[tuple[Path, str]]:
    """Every document and every source file, once."""
    for path in DOCUMENTS:
        yield path, path.read_text(encoding="utf-8")
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*.py"):
            if not any(parent.is_symlink() for parent in path.parents):
                yield path, path.read_text(encoding="utf-8")


def test_every_file_that_is_named_is_there() -> None:
    missing = {
        f"{path.relative_to(ROOT)} names {name}"
        for path, text in texts()
        for name in named(text)
        if name not in ELSEWHERE and not (ROOT / name).exists()
    }
    assert missing == set()


def anchors(document: Path) -> set[str]:
    """What GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for name, anchor in LINK.findall(document.read_text(encoding="utf-8")):
        target = document.parent / name if name else document
        assert target.exists(), name
        assert not anchor or anchor in anchors(target), f"{name}#{anchor}"


def test_a_name_ends_where_its_file_does() -> None:
    assert list(named("see `runtime/plan.py`, (docs/plan.md) and torch/mrs/no.py; kernels/_cpu.c.")) == [
        "runtime/plan.py", "docs/plan.md", "kernels/_cpu.c",
    ]  # fmt: skip
