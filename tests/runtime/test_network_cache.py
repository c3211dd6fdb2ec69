"""Compiled networks are kept on disk: whatever is wrong with them costs time, never a restore, nor any trust."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mrs.runtime import network_cache
from mrs.runtime.network_cache import MAGIC, MOST, NetworkCache, key_of
from mrs.runtime.system.user_cache import user_cache

ROOT = Path(__file__).resolve().parents[2]
HEADER = len(MAGIC) + 64
LIMIT = 120.0


@pytest.fixture
def folder() -> Path:
    """Where the files lie; not made yet."""
    base = user_cache()
    assert base is not None
    return base / "networks"


def key(number: int) -> str:
    return key_of(number=number)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_kept_is_there_for_the_next(folder: Path) -> None:
    assert NetworkCache().read(key(1)) is None
    assert not folder.exists()
    NetworkCache().write(key(1), b"an engine")
    NetworkCache().write(key(2), b"another")
    assert [NetworkCache().read(key(number)) for number in (1, 2, 3)] == [b"an engine", b"another", None]
    assert folder.stat().st_mode & 0o777 == 0o700
    NetworkCache().write(key(1), b"a newer one")
    assert NetworkCache().read(key(1)) == b"a newer one"
    NetworkCache().remove(key(1))
    NetworkCache().remove(key(1))
    assert NetworkCache().read(key(1)) is None
    assert files(folder) == [f"{key(2)}.network"]


def test_a_key_is_all_that_it_is_given() -> None:
    facts = {"graph": "ab", "shape": (1, 6, 8, 8), "options": {}}
    keys = {
        key_of(**facts),
        key_of(**{**facts, "graph": "ac"}),
        key_of(**{**facts, "shape": (1, 6, 8, 16)}),
        key_of(**{**facts, "options": {"hardware": "ampere"}}),
        key_of(**facts, more=None),
    }
    assert len(keys) == 5
    assert key_of(**dict(reversed(facts.items()))) in keys


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:-1],
    "header alone": lambda content: content[:HEADER],
    "longer": lambda content: content + b"x",
    "one bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "digest": lambda content: content[: len(MAGIC) + 40] + b"?" + content[len(MAGIC) + 41 :],
    "another version": lambda content: content.replace(b"network 1", b"network 2"),
    "no cache": lambda content: b"PK\3\4" + content,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_a_miss_and_goes(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    cache = NetworkCache()
    cache.write(key(1), b"an engine")
    path = folder / f"{key(1)}.network"
    path.write_bytes(damage(path.read_bytes()))
    assert cache.read(key(1)) is None
    assert files(folder) == []
    cache.write(key(1), b"an engine")
    assert cache.read(key(1)) == b"an engine"


def test_a_file_of_another_key_is_a_miss(folder: Path) -> None:
    cache = NetworkCache()
    cache.write(key(1), b"an engine")
    os.rename(folder / f"{key(1)}.network", folder / f"{key(2)}.network")
    assert cache.read(key(2)) is None


def _linked(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [_linked, _fifo, _folder])
def test_what_is_no_file_is_a_miss(folder: Path, change: Callable[[Path], None]) -> None:
    cache = NetworkCache()
    cache.write(key(1), b"an engine")
    change(folder / f"{key(1)}.network")
    assert cache.read(key(1)) is None


# Whom it trusts


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720])
def test_a_folder_that_others_may_write_to_is_not_used(folder: Path, mode: int) -> None:
    cache = NetworkCache()
    cache.write(key(1), b"an engine")
    folder.chmod(mode)
    assert cache.read(key(1)) is None
    cache.write(key(2), b"another")
    assert files(folder) == [f"{key(1)}.network"]
    assert cache.contents().trouble == "may be written by others: chmod 700 it"
    folder.chmod(0o755)
    assert cache.read(key(1)) == b"an engine"


def test_a_folder_of_another_user_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = NetworkCache()
    cache.write(key(1), b"an engine")
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert cache.read(key(1)) is None
    cache.write(key(2), b"another")
    assert files(folder) == [f"{key(1)}.network"]
    assert cache.contents().trouble == "belongs to another user"


def test_a_link_to_a_folder_is_not_used(folder: Path, tmp_path: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.symlink_to(tmp_path)
    NetworkCache().write(key(1), b"an engine")
    assert files(tmp_path) == []
    assert NetworkCache().contents().trouble == "is no folder"


# Where nothing can be kept


def test_without_a_place_nothing_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (
        lambda: (folder.parent.parent.mkdir(parents=True), folder.parent.write_text("a file")),
        lambda: monkeypatch.setattr(network_cache, "user_cache", lambda: None),
    ):
        make()
        cache = NetworkCache()
        cache.write(key(1), b"an engine")
        assert cache.read(key(1)) is None
        cache.remove(key(1))
        assert cache.contents().count == 0
        assert cache.contents().trouble


def test_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        NetworkCache().write(key(1), b"an engine")
    assert files(folder) == []


# Its size


def test_the_least_recently_used_go_first(folder: Path) -> None:
    cache = NetworkCache(3 * (HEADER + 10))
    for number in range(3):
        cache.write(key(number), b"0123456789")
        os.utime(folder / f"{key(number)}.network", (number, number))
    assert cache.read(key(0)) is not None
    cache.write(key(3), b"0123456789")
    assert [cache.read(key(number)) is not None for number in range(4)] == [True, False, True, True]
    assert cache.contents().size == cache.most


def test_what_is_larger_than_the_whole_is_not_kept(folder: Path) -> None:
    cache = NetworkCache(HEADER + 10)
    cache.write(key(1), b"0123456789")
    cache.write(key(2), b"0123456789a")
    assert files(folder) == [f"{key(1)}.network"]
    # Nor is it read, however it came there.
    NetworkCache().write(key(2), b"0123456789a")
    assert cache.read(key(2)) is None


def test_a_large_network_stays_beside_the_others(folder: Path) -> None:
    """As an encoder of pictures does, whose plan says how large it may be; whoever keeps others leaves it alone."""
    most = 3 * (HEADER + 10)
    large = NetworkCache(most, largest=1000)
    large.write(key(0), bytes(900 - HEADER))
    os.utime(folder / f"{key(0)}.network", (1, 1))
    cache = NetworkCache(most)
    for number in range(1, 5):
        cache.write(key(number), b"0123456789")
        os.utime(folder / f"{key(number)}.network", (number + 1, number + 1))
    assert [large.read(key(number)) is not None for number in range(5)] == [True, False, True, True, True]
    # For a plan without such a network it is none of its own.
    assert cache.read(key(0)) is None
    large.write(key(0), bytes(900 - HEADER))
    # Two of them are too many: the larger one stays.
    large.write(key(5), bytes(1000 - HEADER))
    assert [large.read(key(number)) is not None for number in (0, 5)] == [False, True]
    large.write(key(6), bytes(1001 - HEADER))
    assert large.read(key(6)) is None


def test_what_a_killed_process_left_goes_too(folder: Path) -> None:
    cache = NetworkCache(2 * (HEADER + 10))
    cache.write(key(1), b"0123456789")
    left = folder / ".left.part"
    left.write_bytes(bytes(HEADER))
    os.utime(left, (1, 1))
    (folder / "a folder of somebody's").mkdir()
    cache.write(key(2), b"0123456789")
    assert not left.exists()
    assert cache.contents().count == 2


def test_contents_are_told(folder: Path) -> None:
    assert NetworkCache().contents() == network_cache.Contents(folder, 0, 0, "")
    NetworkCache().write(key(1), b"an engine")
    assert NetworkCache().contents() == network_cache.Contents(folder, 1, HEADER + 9, "")
    assert NetworkCache().most == MOST == 1 << 30


WORK = """
import sys
from mrs.runtime.network_cache import NetworkCache, key_of
cache = NetworkCache(20_000)
keys = [key_of(number=number) for number in range(12)]
for turn in range(40):
    for number, key in enumerate(keys):
        found = cache.read(key)
        assert found in (None, bytes([number]) * 3000), (number, found)
        if found is None:
            cache.write(key, bytes([number]) * 3000)
    assert len(cache.read(keys[11]) or bytes(3000)) == 3000
"""


def test_two_processes_write_and_delete_at_the_same_time(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [subprocess.Popen([sys.executable, "-c", WORK], env=environment) for _ in range(3)]
    assert [process.wait(LIMIT) for process in processes] == [0, 0, 0]
    # Each has let go of what was too much when it wrote last, at least.
    assert 0 < NetworkCache().contents().size <= 20_000
    assert all(name.endswith(".network") for name in files(folder))
