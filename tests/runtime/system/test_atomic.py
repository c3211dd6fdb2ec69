"""A file written through `replacing` is the old one or the new one, never something between."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mrs.runtime.errors import InputError, PictureError
from mrs.runtime.system import atomic
from mrs.runtime.system.atomic import replacing


def write(path: Path, content: bytes, error: BaseException | None = None) -> None:
    with replacing(path) as file:
        file.write(content)
        if error is not None:
            raise error


def test_new_file(tmp_path: Path) -> None:
    write(tmp_path / "a.png", b"new")
    assert (tmp_path / "a.png").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.png"]


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("a.png"), b"new")
    assert (tmp_path / "a.png").read_bytes() == b"new"


def test_old_file_stays_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new" * 100_000)
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" * 100_000
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1), PictureError("x", "y")], ids=repr
)
@pytest.mark.parametrize("old", [True, False], ids=["old", "no old"])
def test_a_failing_block_leaves_everything_as_it_was(tmp_path: Path, error: BaseException, old: bool) -> None:
    path = tmp_path / "a.png"
    if old:
        path.write_bytes(b"old")
    with pytest.raises(type(error)) as caught:
        write(path, b"half", error)
    assert caught.value is error
    assert os.listdir(tmp_path) == (["a.png"] if old else [])
    assert not old or path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), os.strerror(errno.ENOSPC)),
        (OSError("encoder error -2"), "encoder error -2"),
        (BrokenPipeError(), "BrokenPipeError"),
    ],
    ids=repr,
)
def test_a_failed_write_is_one_line(tmp_path: Path, error: OSError, said: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(InputError) as caught:
        write(path, b"half", error)
    assert caught.value.message == f"cannot write {path}: {said}"
    assert ("make room" if error.errno == errno.ENOSPC else "check that its folder") in caught.value.hint
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_disk_that_is_full_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=os.strerror(errno.ENOSPC)):
        write(tmp_path / "a.png", b"new")
    assert os.listdir(tmp_path) == []


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        write(tmp_path / "absent" / "a.png", b"new")
    assert str(tmp_path / "absent" / "a.png") in str(caught.value)
    assert "folder exists" in caught.value.hint
    assert os.listdir(tmp_path) == []


def test_a_file_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(InputError, match="cannot write"):
        write(tmp_path / "file" / "a.png", b"new")


def test_a_folder_of_that_name_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    reached = False
    with pytest.raises(InputError, match="it is a folder"), replacing(tmp_path / "a.png"):
        reached = True
    assert not reached
    assert os.listdir(tmp_path) == ["a.png"]
    assert os.listdir(tmp_path / "a.png") == []


@pytest.mark.parametrize(
    "name", ["a" * 255, "\u00e9" * 127, ".", "..", " ", "-", "a\nb"], ids=lambda name: repr(name)[:9]
)
def test_awkward_names(tmp_path: Path, name: str) -> None:
    if name in {".", ".."}:
        with pytest.raises(InputError, match="it is a folder"):
            write(tmp_path / name, b"new")
    else:
        write(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"
        assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_new_file_has_the_usual_permissions(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write(tmp_path / "a.png", b"new")
        assert os.umask(umask) == umask, "the mask of the process was changed"
    finally:
        os.umask(before)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"private")
    path.chmod(0o600)
    write(path, b"new")
    assert path.stat().st_mode & 0o777 == 0o600


def test_writers_of_one_name_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    contents = [bytes([65 + i]) * 200_000 for i in range(8)]
    together = threading.Barrier(len(contents))

    def writer(content: bytes) -> None:
        with replacing(path) as file:
            together.wait()
            for start in range(0, len(content), 20_000):
                file.write(content[start : start + 20_000])

    threads = [threading.Thread(target=writer, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom mrs.runtime.system.atomic import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", program, str(path)], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


# Without leave to replace


def test_what_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(InputError, match=r"a\.png exists") as caught, replacing(path, overwrite=False):
        path.write_bytes(b"another's")
    assert "--overwrite" in caught.value.hint
    assert path.read_bytes() == b"another's"
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_what_exists_is_refused_before_the_work(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old") if kind == "file" else path.symlink_to("nowhere")
    with pytest.raises(InputError, match=r"a\.png exists"), replacing(path, overwrite=False):
        pytest.fail("the block was begun")


@pytest.fixture(params=["links", "no links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system with hard links, and one without, such as FAT."""
    if request.param == "no links":

        def refuse(source: object, target: object) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("links")
def test_one_of_many_writers_gets_a_new_name(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    together, outcomes = threading.Barrier(6, timeout=60), []

    def writer(content: bytes) -> None:
        try:
            with replacing(path, overwrite=False) as file:
                file.write(content)
                together.wait()
            outcomes.append(content)
        except InputError as error:
            outcomes.append(error.message)

    threads = [threading.Thread(target=writer, args=(bytes([65 + i]) * 1000,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [outcome for outcome in outcomes if isinstance(outcome, bytes)] == [path.read_bytes()]
    assert outcomes.count(f"{path} exists") == 5
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.usefixtures("links")
def test_a_name_that_cannot_be_taken_stays_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*paths: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=os.strerror(errno.ENOSPC)), replacing(tmp_path / "a.png", False) as file:
        file.write(b"new")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("linked", [False, True], ids=["itself", "linked to"])
def test_only_a_regular_file_is_replaced(tmp_path: Path, linked: bool) -> None:
    """As root, /dev/null would be gone, and /dev/stdout a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    path = tmp_path / "link" if linked else pipe
    if linked:
        path.symlink_to(pipe)
    with pytest.raises(InputError, match="it is not a regular file"), replacing(path):
        pytest.fail("the block was begun")
    assert pipe.is_fifo()


# What killed processes leave


@pytest.fixture
def abandoned(tmp_path: Path) -> Path:
    """What a killed process left half an hour ago."""
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom mrs.runtime.system.atomic import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "b.png")], cwd=root, check=False, timeout=60)
    (left,) = tmp_path.iterdir()
    aged(left)
    return left


def aged(path: Path) -> None:
    os.utime(path, (time.time() - 1800,) * 2)


def test_what_a_killed_process_left_is_removed(tmp_path: Path, abandoned: Path) -> None:
    write(tmp_path / "a.png", b"new")
    assert os.listdir(tmp_path) == ["a.png"]


def test_what_a_process_killed_just_now_left_stays(tmp_path: Path, abandoned: Path) -> None:
    os.utime(abandoned)
    write(tmp_path / "a.png", b"new")
    assert abandoned.exists()


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    with replacing(tmp_path / "b.png") as file:
        (living,) = tmp_path.iterdir()
        aged(living)
        atomic.remove_leftovers.cache_clear()
        write(tmp_path / "a.png", b"new")
        assert living.exists()
        file.write(b"also new")
    assert (tmp_path / "b.png").read_bytes() == b"also new"


@pytest.mark.parametrize("name", [".b.png.0123456789ab.part", "b.png.mrs-0123456789ab.part", ".b.mrs-01234567.part"])
def test_other_names_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"somebody's")
    aged(tmp_path / name)
    write(tmp_path / "a.png", b"new")
    assert (tmp_path / name).exists()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_of_ours_stays(tmp_path: Path, kind: str) -> None:
    trap, victim = tmp_path / ".b.png.mrs-0123456789ab.part", tmp_path / "victim"
    victim.write_bytes(b"somebody's")
    aged(victim)
    {"link": lambda: trap.symlink_to(victim), "pipe": lambda: os.mkfifo(trap), "folder": trap.mkdir}[kind]()
    write(tmp_path / "a.png", b"new")
    assert os.path.lexists(trap)
    assert victim.read_bytes() == b"somebody's"
