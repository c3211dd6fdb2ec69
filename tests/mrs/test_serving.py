"""The client of docs/serving.md, with the real tritonclient, against a few lines that speak the server's protocol."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mrs
from mrs.building.inference_server import add_version, copied
from tests.runtime.triton_double import InferenceRequest, Tensor, serving

ROOT = Path(__file__).resolve().parents[2]
LENGTH = "Inference-Header-Content-Length"
TYPES = {"UINT8": np.uint8, "UINT32": np.uint32}


def program() -> str:
    """The client in docs/serving.md."""
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"```python\n(.*?)```", text, re.S)
    return found


class Handler(BaseHTTPRequestHandler):
    """KServe's protocol 2 with the extension for binary tensors, as far as this client speaks it."""

    protocol_version = "HTTP/1.1"
    execute: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        begin = int(self.headers[LENGTH])
        asked = json.loads(body[:begin])
        assert self.path == "/v2/models/tiny/infer"
        assert asked["parameters"] == {"binary_data_output": True}
        tensors = []
        for entry in asked["inputs"]:
            end = begin + entry["parameters"]["binary_data_size"]
            array = np.frombuffer(body[begin:end], TYPES[entry["datatype"]]).reshape(entry["shape"])
            tensors.append(Tensor(entry["name"], array))
            begin = end
        assert begin == len(body)
        (response,) = type(self).execute(InferenceRequest(tensors))
        if response.has_error():
            self.answer(400, json.dumps({"error": response.error().message()}).encode())
            return
        restored = response.output_tensors()[0].as_numpy()
        output = {"name": "restored", "datatype": "UINT8", "shape": restored.shape,
                  "parameters": {"binary_data_size": restored.nbytes}}  # fmt: skip
        head = json.dumps({"model_name": "tiny", "model_version": "1", "outputs": [output]}).encode()
        self.answer(200, head + restored.tobytes(), **{LENGTH: str(len(head))})

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Not on stderr, which the tests look at."""


@pytest.fixture
def address(plan: Path, tmp_path: Path) -> Iterator[str]:
    """Of a server of the tiny plan."""
    model = add_version(copied(plan), tmp_path / "models", "tiny").model
    with serving(model) as execute, HTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.execute = staticmethod(execute)
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def client(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program(), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


def test_the_client_gets_what_restore_gives(address, plan, photo, tmp_path) -> None:
    picture = photo(21, 34)
    Image.fromarray(picture).save(tmp_path / "in.png")
    ended = client(address, "tiny", 7, tmp_path / "in.png", tmp_path / "out.png")
    assert (ended.returncode, ended.stderr) == (0, "")
    with mrs.load(plan) as restorer, Image.open(tmp_path / "out.png") as restored:
        np.testing.assert_array_equal(np.asarray(restored), restorer.restore(picture[None], 7)[0])


def test_the_client_is_told_what_was_wrong(address, photo, tmp_path, monkeypatch) -> None:
    Image.fromarray(photo(8, 8)).save(tmp_path / "in.png")
    text = program().replace('convert("RGB")', 'convert("RGBA")')
    monkeypatch.setattr(sys.modules[__name__], "program", lambda: text)
    ended = client(address, "tiny", 7, tmp_path / "in.png", tmp_path / "out.png")
    assert ended.returncode == 1
    assert "[400] picture of shape (1, 8, 8, 4) is not (H, W, 3) or (N, H, W, 3)" in ended.stderr
    assert not (tmp_path / "out.png").exists()
