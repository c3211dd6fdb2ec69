"""The programs of docs/export.md restore with the sampler's one graph as the runtime does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.export.samplers import on_onnxruntime, picture_of

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow(4)]

ROOT = Path(__file__).resolve().parents[2]


# The programs of docs/export.md


@pytest.fixture
def rain(tmp_path: Path) -> Path:
    """The shipped weights with the recommended solver."""
    from mrs.building.onnx_sampler import export_sampler

    return export_sampler("rain", tmp_path / "restore.onnx").path


def program(language: str) -> str:
    """The first of that language in the section of this file."""
    section = (ROOT / "docs" / "export.md").read_text(encoding="utf-8").split("### Callers")[1]
    return re.findall(rf"```{language}\n(.*?)```", section, re.S)[0]


def test_the_python_program_needs_onnx_runtime_alone(rain: Path, tmp_path: Path) -> None:
    text = program("python")
    assert len(text.splitlines()) <= 15
    assert "mrs" not in text
    picture = picture_of(1, 21, 34)
    Image.fromarray(picture[0]).save(tmp_path / "in.png")
    ended = subprocess.run(
        [sys.executable, "-c", text, rain, tmp_path / "in.png", tmp_path / "out.png"],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=240,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    model = onnx.load(rain)
    draws = {entry.name: entry for entry in model.graph.input}["noise"].type.tensor_type.shape.dim[0].dim_value
    noise = np.random.default_rng(0).standard_normal((draws, 1, 3, 21, 34), np.float32)
    expected = on_onnxruntime(model, {"picture": picture, "noise": noise})
    with Image.open(tmp_path / "out.png") as restored:
        assert np.abs(np.asarray(restored).astype(int) - expected[0]).max() <= 1


@pytest.mark.skipif("MRS_ONNXRUNTIME_CPP" not in os.environ, reason="no folder with ONNX Runtime's C++ headers")
def test_the_cpp_program(rain: Path, tmp_path: Path) -> None:
    folder = Path(os.environ["MRS_ONNXRUNTIME_CPP"])
    (tmp_path / "restore.hpp").write_text(program("cpp"), encoding="utf-8")
    (tmp_path / "main.cpp").write_text(
        """#include "restore.hpp"
        #include <algorithm>
        #include <cstdio>
        int main() {
            Ort::Env env;
            Ort::Session session(env, ORT_TSTR("restore.onnx"), Ort::SessionOptions{});
            std::vector<uint8_t> picture(3 * 12 * 10, 128);
            const auto restored = restore(session, picture, 12, 10);
            const auto ends = std::minmax_element(restored.begin(), restored.end());
            std::printf("%zu %d %d", restored.size(), *ends.first, *ends.second);
        }
        """,
        encoding="utf-8",
    )
    library = folder / "lib"
    compile_it = ["c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-isystem{folder / 'include'}", "main.cpp"]
    for command in ([*compile_it, f"-L{library}", "-lonnxruntime", f"-Wl,-rpath,{library}", "-o", "main"], ["./main"]):
        ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
    length, darkest, brightest = map(int, ended.stdout.split())
    assert length == 360
    # A flat picture stays nearly flat.
    assert 64 < darkest <= brightest < 192


@pytest.mark.skipif("MRS_ONNXRUNTIME_WEB" not in os.environ, reason="no folder with onnxruntime-web")
def test_the_javascript_program(rain: Path, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(Path(os.environ["MRS_ONNXRUNTIME_WEB"]) / "node_modules")
    (tmp_path / "restore.mjs").write_text(program("js"), encoding="utf-8")
    (tmp_path / "main.mjs").write_text(
        """import { readFileSync } from "node:fs";
        import * as ort from "onnxruntime-web";
        import { restore } from "./restore.mjs";
        const session = await ort.InferenceSession.create(readFileSync("restore.onnx"));
        const image = { data: new Uint8ClampedArray(4 * 10 * 12).fill(128), width: 10, height: 12 };
        const { data, width, height } = await restore(session, image);
        const levels = data.filter((_, i) => i % 4 < 3), alphas = data.filter((_, i) => i % 4 === 3);
        console.log(width, height, data.length, Math.min(...levels), Math.max(...levels), Math.min(...alphas));
        """,
        encoding="utf-8",
    )
    ended = subprocess.run(
        ["node", "main.mjs"], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=240
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    width, height, length, darkest, brightest, alpha = map(int, ended.stdout.split())
    assert (width, height, length, alpha) == (10, 12, 480, 255)
    # A flat picture stays nearly flat.
    assert 64 < darkest <= brightest < 192
