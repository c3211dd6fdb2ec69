"""What a file of `torch.save` claims, held against its bytes before torch believes it.

torch reads a file record by record, inflates what is deflated, and calls a few functions that a pickle may name. None
of that runs foreign code, but a small file could claim any amount of memory. A file as torch writes it passes.
"""

from __future__ import annotations

import pickletools
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from mrs.runtime.system.regular_files import open_regular

# torch may call these, and the numbers or texts they are given decide how much memory that takes.
GREEDY = frozenset({"builtins.bytearray", "__builtin__.bytearray", "torch.Tensor", "_codecs.encode"})
# A pickle has some hundred bytes for each tensor; it is read in Python, some million opcodes a second.
LONGEST_PICKLE = 32 << 20
LONGEST_DIRECTORY = 16 << 20
# An archive's last record, without a comment.
END = struct.Struct("<4s4H2LH")
# A file of the format before archives begins with five pickles: three about itself, the object, names of storages.
PICKLES = 5


class ClaimError(ValueError):
    """A file that torch could not have written; `more` names what it holds besides weights, or is ""."""

    def __init__(self, message: str, more: str = "") -> None:
        super().__init__(message)
        self.more = more


def check_claims(path: Path) -> None:
    """Refuse a file whose reading could take more memory than it has bytes, a few times over.

    Raises:
        ClaimError: saying why.
        OSError: where it cannot be read.
    """
    with open_regular(path) as file:
        if file.read(2) == b"PK":
            _check_archive(file)
        else:
            file.seek(0)
            _check_pickles(file)


def _check_archive(file: BinaryIO) -> None:
    size = file.seek(0, 2)
    file.seek(max(0, size - END.size))
    end = file.read()
    if len(end) < END.size or not end.startswith(b"PK\5\6") or end[-2:] != b"\0\0":
        raise ClaimError("its end is missing")
    if END.unpack(end)[5] > LONGEST_DIRECTORY:
        raise ClaimError("its directory is too long")
    try:
        with zipfile.ZipFile(file) as archive:
            entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
            for entry in entries:
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                    raise ClaimError(f"{entry.filename} is compressed, which torch never does")
            ends = [entry.header_offset + 30 + len(entry.filename) + entry.file_size for entry in entries]
            starts = [entry.header_offset for entry in entries] + [archive.start_dir]
            if starts[0] != 0 or any(end > start for end, start in zip(ends, starts[1:], strict=True)):
                raise ClaimError("its records overlap")
            if len({entry.filename for entry in entries}) < len(entries):
                raise ClaimError("it holds two records of one name")
            for entry in entries:
                if entry.filename.endswith(".pkl"):
                    if entry.file_size > LONGEST_PICKLE:
                        raise ClaimError(f"{entry.filename} is too long")
                    _check_calls(archive.read(entry))
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, struct.error) as error:
        raise ClaimError(" ".join(str(error).split())) from None


def _check_pickles(file: BinaryIO) -> None:
    content = file.read(LONGEST_PICKLE)
    for _ in range(PICKLES):
        content = content[_check_calls(content) :]


def _check_calls(pickled: bytes) -> int:
    """Refuse a pickle that names one of `GREEDY`; the length of the pickle, as far as it can be read."""
    length = 0
    names: dict[str, None] = {}
    try:
        for opcode, argument, position in pickletools.genops(pickled):
            length = int(position or 0) + 1
            if opcode.name == "GLOBAL":
                names[str(argument).replace(" ", ".")] = None
    except Exception:  # noqa: BLE001 (pickletools raises many types for damaged pickles)
        # torch comes no further than this, either.
        length = len(pickled)
    greedy = next((name for name in names if name in GREEDY), None)
    if greedy is not None:
        # An array of NumPy is told by its own name.
        more = next((name for name in names if not name.startswith(("torch.", "collections."))), greedy)
        raise ClaimError(f"it calls {greedy}", more)
    return length
