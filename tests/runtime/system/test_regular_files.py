"""Only files with an end are read."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from mrs.runtime.system import regular_files
from mrs.runtime.system.regular_files import open_regular


@pytest.mark.parametrize("linked", [False, True], ids=["itself", "linked to"])
def test_a_file(tmp_path: Path, linked: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    if linked:
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    with open_regular(path) as file:
        assert file.read() == b"content"


@pytest.mark.parametrize(
    ("kind", "says"), [("pipe", "a pipe"), ("pipe of a shell", "a pipe"), ("zeros", "a device"), ("socket", "a socket")]
)
@pytest.mark.parametrize("late", [False, True], ids=["", "only just"])
def test_what_has_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, says: str, late: bool) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    path = Path("/dev/zero" if kind == "zeros" else "it")
    ends = os.pipe() if kind == "pipe of a shell" else ()
    if kind == "pipe":
        os.mkfifo(path)
    elif ends:
        path = Path(f"/dev/fd/{ends[0]}")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    if late:
        # What looked like a file.
        refuse, looked = regular_files._refuse, []

        def the_second_time(*seen: object) -> None:
            if looked:
                refuse(*seen)
            looked.append(seen)

        monkeypatch.setattr(regular_files, "_refuse", the_second_time)
    try:
        # A socket cannot be opened at all.
        with pytest.raises(OSError, match="No such device" if late and kind == "socket" else says):
            open_regular(path)
    finally:
        for end in ends:
            os.close(end)


@pytest.mark.parametrize(("name", "number"), [("absent", errno.ENOENT), (".", errno.EISDIR)])
def test_what_open_refuses(tmp_path: Path, name: str, number: int) -> None:
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        open_regular(tmp_path / name)
    assert caught.value.errno == number
