"""Debian's Chromium without a window, spoken to over pipes in its own protocol: no driver, no library, no port."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Seconds for one answer, on a machine that does much else.
PATIENCE = 60.0
KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Tab": 9, "Enter": 13, " ": 32}


def program() -> str | None:
    """The browser of this machine; None where there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Browser:
    """One process, with one page at a time.

    Attributes:
        said: the console's errors and warnings, exceptions that nobody caught, and what the policy refused.
        asked: addresses that the page asked for, without its own and data addresses.
    """

    def __init__(self, profile: Path) -> None:
        ours_in, self._theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        self._read, self._write = ours_in, ours_out
        # Chromium reads from descriptor 3 and writes to 4; a shell puts them there, wherever they are here.
        command = (
            f"exec {program()} --headless --hide-scrollbars --no-sandbox --disable-gpu --no-first-run "
            "--disable-dev-shm-usage --disable-background-networking "
            "--disable-component-update --disable-sync --force-color-profile=srgb "
            f"--remote-debugging-pipe --user-data-dir='{profile}' about:blank 3<&{theirs_in} 4>&{self._theirs_out}"
        )
        self._process = subprocess.Popen(
            ["bash", "-c", command], pass_fds=(theirs_in, self._theirs_out), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(self._theirs_out)
        self._buffer, self._number, self._session = b"", 0, ""
        self._loaded = False
        self.said: list[str] = []
        self.asked: list[str] = []

    def close(self) -> None:
        """End the process, in a friendly way first."""
        try:
            self._send("Browser.close", {}, "")
            self._process.wait(PATIENCE)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait(PATIENCE)
        os.close(self._read)
        os.close(self._write)

    def open(
        self,
        path: Path,
        width: int = 1280,
        height: int = 900,
        *,
        dark: bool = False,
        scripts: bool = True,
        media: str = "screen",
    ) -> None:
        """Load a page anew, and wait until it has drawn."""
        if self._session:
            self.call("Page.close")
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.said, self.asked = [], []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.resize(width, height)
        self.media(media, dark=dark)
        self._loaded = False
        self.call("Page.navigate", url=path.as_uri())
        self._until(lambda: self._loaded)
        if scripts:
            self.settle()

    def resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, media: str, *, dark: bool) -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def settle(self) -> None:
        """Until what is asked of the next frames is done."""
        frame = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 0))))"
        self.value(f"{frame}.then(() => true)")

    def value(self, expression: str) -> Any:
        """Of JavaScript in the page, after promises are kept."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise AssertionError(done["exceptionDetails"])
        return done["result"].get("value")

    def press(self, key: str, times: int = 1) -> None:
        """A key, as from a keyboard."""
        event = {"key": key, "code": {" ": "Space"}.get(key, key), "windowsVirtualKeyCode": KEYS[key]}
        text = {"Enter": {"text": "\r"}, " ": {"text": " "}}.get(key, {})
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", type="keyDown", **event, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **event)
        self.settle()

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """A PNG of the page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        extra = {"captureBeyondViewport": True, "clip": clip} if whole else {}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", **extra)["data"]))

    def pdf(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and its answer."""
        number = self._send(method, parameters, self._session)
        answers: list[dict[str, Any]] = []
        self._until(
            lambda: bool(answers), lambda message: answers.append(message) if message.get("id") == number else None
        )
        if "error" in answers[0]:
            raise AssertionError(f"{method}: {answers[0]['error']}")
        return answers[0]["result"]

    def _send(self, method: str, parameters: dict[str, Any], session: str) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        content = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        while content:
            content = content[os.write(self._write, content) :]
        return self._number

    def _until(self, done: Callable[[], bool], take: Callable[[dict[str, Any]], object] = lambda message: None) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            received = os.read(self._read, 1 << 16) if ready else b""
            if not received:
                raise TimeoutError("the browser does not answer" if not ready else "the browser has ended")
            *messages, self._buffer = (self._buffer + received).split(b"\0")
            for text in messages:
                message = json.loads(text)
                self._note(message)
                take(message)

    def _note(self, message: dict[str, Any]) -> None:
        """What happens without being asked for."""
        what = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown":
                self.said.append(json.dumps(what["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.said.append(json.dumps(what["args"]))
            case "Log.entryAdded":
                self.said.append(what["entry"]["text"])
            case "Network.requestWillBeSent":
                address = what["request"]["url"]
                if not address.startswith("data:") and what.get("type") != "Document":
                    self.asked.append(address)


@contextmanager
def running(profile: Path) -> Iterator[Browser]:
    """A browser for the block."""
    browser = Browser(profile)
    try:
        yield browser
    finally:
        browser.close()
