"""What TensorRT measured of its kernels, kept between builds: the next one takes a part of the time.

A file for each GPU and version of TensorRT, in the user's cache folder. It appears whole or not at all, carries its
own digest, because it is parsed by native code, and is merged under a lock, so that two builds at once lose nothing. It
is a cache: whatever is wrong with it costs time, never a build.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mrs.kernels.threads import NOTICE
from mrs.runtime.errors import InputError
from mrs.runtime.system.atomic import replacing
from mrs.runtime.system.user_cache import NO_FOLDER, user_cache

if TYPE_CHECKING:
    import tensorrt as trt

log = logging.getLogger("mrs")

MAGIC = b"mrs-trt timing cache 1\n"
DIGEST = hashlib.sha256().digest_size
# Seconds to wait for another build that writes the file; it takes some milliseconds.
PATIENCE = 10.0


class TimingCache:
    """The file of one GPU and version.

    Args:
        gpu: name and compute capability.
        version: of TensorRT.

    Attributes:
        path: None where this user has no folder for it.
    """

    def __init__(self, gpu: str, version: str) -> None:
        name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{gpu} {version}").strip("-")
        folder = user_cache()
        self.path = None if folder is None else folder / "tensorrt" / f"{name}.timing"

    def attach(self, config: trt.IBuilderConfig) -> None:
        """Let a build use what is known."""
        known = self._read()
        if known is not None and self._attached(config, known):
            return
        self._attached(config, b"")

    def keep(self, config: trt.IBuilderConfig) -> None:
        """Add what a build has measured to the file. Where that fails it is said, and the build is none the worse."""
        try:
            if self.path is None:
                raise InputError(NO_FOLDER)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.path.with_suffix(".lock")):
                self._merge(config, self.path)
        except (OSError, InputError) as error:
            reason = error.message if isinstance(error, InputError) else f"{self.path}: {error.strerror}"
            log.warning("tensorrt's timings are not kept, the next build takes as long: %s", reason)

    def _merge(self, config: trt.IBuilderConfig, path: Path) -> None:
        cache: trt.ITimingCache = config.get_timing_cache()
        if cache is None:
            return
        # Another build may have added to the file meanwhile.
        known = self._read()
        if known:
            other: trt.ITimingCache = config.create_timing_cache(known)
            if other is not None:
                cache.combine(other, ignore_mismatch=False)
        memory: trt.IHostMemory = cache.serialize()
        if memory is None:
            return
        content = bytes(memory)
        if content != known:
            with replacing(path) as file:
                file.write(MAGIC + hashlib.sha256(content).digest() + content)

    @staticmethod
    def _attached(config: trt.IBuilderConfig, content: bytes) -> bool:
        cache: trt.ITimingCache = config.create_timing_cache(content)
        # Refused where it comes from another GPU or version after all.
        return cache is not None and bool(config.set_timing_cache(cache, ignore_mismatch=False))

    def _read(self) -> bytes | None:
        """The content of the file; None where there is none that can be used."""
        if self.path is None:
            return None
        try:
            found = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("tensorrt's timings cannot be read: %s: %s", self.path, error.strerror)
            return None
        digest, content = found[len(MAGIC) : len(MAGIC) + DIGEST], found[len(MAGIC) + DIGEST :]
        if not found.startswith(MAGIC) or hashlib.sha256(content).digest() != digest:
            log.warning("tensorrt's timings in %s are damaged, and measured anew", self.path)
            return None
        return content


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among the processes that lock this file, which stays: another may be waiting for it."""
    try:
        import fcntl
    except ImportError:
        # Elsewhere the last of two builds that end at once wins: what the other measured is lost, nothing is damaged.
        yield
        return
    with path.open("wb") as file:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise InputError(f"{path} is locked by another process, for {PATIENCE:g} s already") from None
                time.sleep(NOTICE)
        yield
