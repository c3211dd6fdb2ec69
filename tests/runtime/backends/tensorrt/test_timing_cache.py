"""What was measured of kernels: kept, merged, and never in the way of a build."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mrs.runtime.backends.settings import CompileSettings
from mrs.runtime.backends.tensorrt import timing_cache
from mrs.runtime.backends.tensorrt.messages import logger
from mrs.runtime.backends.tensorrt.timing_cache import DIGEST, MAGIC, TimingCache
from tests.runtime.backends.tensorrt.conftest import GPU

pytestmark = pytest.mark.slow(6)

SHAPE = (1, 6, 16, 24)


def compiled(backend: Any, tiny: Any, precision: str = "fp16") -> Any:
    return backend.compile(tiny.graph, tiny.modulation, SHAPE, precision, CompileSettings(1))


def entries(cache: Path) -> list[str]:
    (path,) = cache.glob("*.timing")
    return list(json.loads(path.read_bytes()[len(MAGIC) + DIGEST :])["entries"])


@pytest.fixture
def config(world) -> Any:
    """A builder's settings, to which a cache can be attached."""
    import tensorrt as trt

    return trt.Builder(logger()).create_builder_config()


def measured(config: Any, world: Any, *names: str) -> None:
    """Let a build have measured kernels."""
    TimingCache(GPU, world.version).attach(config)
    config.cache.entries.update(names)
    TimingCache(GPU, world.version).keep(config)


def test_the_next_build_has_what_this_one_measured(world, make_backend, tiny, cache) -> None:
    for count, precision in enumerate(("fp32", "fp16", "bf16"), 1):
        compiled(make_backend(), tiny, precision)
        assert len(entries(cache)) == count


def test_each_gpu_and_version_has_a_file(world, config, cache) -> None:
    for gpu in (GPU, "NVIDIA RTX 6000 Ada/Gen\n8.9"):
        TimingCache(gpu, world.version).attach(config)
        TimingCache(gpu, world.version).keep(config)
    names = sorted(path.name for path in cache.glob("*.timing"))
    assert names == [f"NVIDIA-Double-9.0-{world.version}.timing", f"NVIDIA-RTX-6000-Ada-Gen-8.9-{world.version}.timing"]


def test_two_builds_at_once_lose_nothing(world, cache) -> None:
    import tensorrt as trt

    configs = [trt.Builder(logger()).create_builder_config() for _ in range(2)]
    for config, name in zip(configs, "ab", strict=True):
        # Both begin before one of them ends.
        TimingCache(GPU, world.version).attach(config)
        config.cache.entries.add(name)
    for config in configs:
        TimingCache(GPU, world.version).keep(config)
    assert entries(cache) == ["a", "b"]


def test_a_writer_waits_for_another_process(world, config, cache) -> None:
    pytest.importorskip("fcntl")
    TimingCache(GPU, world.version).attach(config)
    config.cache.entries.add("a")
    cache.mkdir(parents=True)
    path = TimingCache(GPU, world.version).path.with_suffix(".lock")
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'wb'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        writer = threading.Thread(target=TimingCache(GPU, world.version).keep, args=(config,))
        writer.start()
        writer.join(0.2)
        assert writer.is_alive()
        assert not list(cache.glob("*.timing"))
        other.communicate()
    writer.join(120)
    assert entries(cache) == ["a"]


def test_without_locks_it_is_kept_all_the_same(world, config, cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    measured(config, world, "a")
    assert entries(cache) == ["a"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[: len(MAGIC)],
        lambda content: content.replace(b"kernel", b"carnel"),
        lambda content: b"something else" + content,
    ],
    ids=["empty", "cut", "no digest", "changed", "foreign"],
)
def test_a_damaged_file_is_never_parsed_and_replaced(world, make_backend, tiny, cache, caplog, damage: Any) -> None:
    compiled(make_backend(), tiny)
    (path,) = cache.glob("*.timing")
    path.write_bytes(damage(path.read_bytes()))
    compiled(make_backend(), tiny, "fp32")
    assert "damaged, and measured anew" in caplog.text
    assert len(entries(cache)) == 1
    compiled(make_backend(), tiny, "bf16")
    assert len(entries(cache)) == 2


def test_a_cache_that_tensorrt_refuses_is_measured_anew(world, config, cache) -> None:
    measured(config, world, "a")
    before = world.gpu
    # Another GPU of the same name, says TensorRT.
    world.gpu = "other"
    measured(config, world, "b")
    assert entries(cache) == ["a", "b"] or entries(cache) == ["b"]
    world.gpu = before
    # And one whose content TensorRT cannot read, for all its digest.
    content = b"no cache"
    path = TimingCache(GPU, world.version).path
    path.write_bytes(MAGIC + timing_cache.hashlib.sha256(content).digest() + content)
    measured(config, world, "c")
    assert entries(cache) == ["c"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS], ids=errno.errorcode.get)
def test_a_disk_that_takes_nothing_is_said_and_the_engine_is_built(
    world, make_backend, tiny, cache, caplog, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    compiled(make_backend(), tiny)
    before = {path.name: path.read_bytes() for path in cache.iterdir()}

    def full(number: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    assert compiled(make_backend(), tiny, "fp32").export()
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == before
    (line,) = [record.getMessage() for record in caplog.records if "not kept" in record.getMessage()]
    assert os.strerror(code) in line
    assert "\n" not in line


def test_a_folder_that_cannot_be_made(world, make_backend, tiny, tmp_path, caplog) -> None:
    (tmp_path / "cache").write_text("a file")
    assert compiled(make_backend(), tiny).export()
    assert "timings are not kept" in caplog.text


def test_a_file_that_cannot_be_read(world, make_backend, tiny, cache, caplog) -> None:
    TimingCache(GPU, world.version).path.mkdir(parents=True)
    assert compiled(make_backend(), tiny).export()
    assert "cannot be read" in caplog.text


def test_a_build_that_fails_keeps_nothing(world, make_backend, tiny, cache) -> None:
    world.says["build"] = ["Error Code 1: odd"]
    with pytest.raises(Exception, match="odd"):
        compiled(make_backend(), tiny)
    assert not cache.exists()
