"""What libtiff says of a file that it decodes for Pillow.

libtiff writes its errors to stderr, and Pillow passes some of them over: a wrong checksum, a code that does not exist.
libtiff lets its caller take the errors instead. Its handler belongs to the whole process, so ours, which is set when
the first TIFF is read, keeps what a thread that reads a picture meets, and hands everything else to the one before it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from PIL import _imaging

# void (*)(const char *module, const char *format, va_list). The list is handed on as the address or the pointer that it
# is passed as in the ABIs of Linux, macOS and Windows.
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_LONGEST = 200  # bytes of a message
_state = threading.local()


@contextmanager
def errors() -> Iterator[list[str]]:
    """A list that gets the errors which libtiff reports in this thread; empty where libtiff is out of reach."""
    _install()
    heard: list[str] = []
    _state.heard = heard
    try:
        yield heard
    finally:
        _state.heard = None


@cache
def _install() -> object:
    """Set the handler, once; what is returned keeps it alive."""
    try:
        # The handle of an extension finds the symbols of the libraries that it is linked to.
        library = ctypes.CDLL(_imaging.__file__)
        library.TIFFSetErrorHandler.restype = ctypes.c_void_p
        library.TIFFSetErrorHandler.argtypes = [ctypes.c_void_p]
    except (AttributeError, OSError):  # linked into the extension, or absent
        return None
    before: list[ctypes._FuncPointer] = []

    def handle(module: bytes | None, form: bytes | None, values: int | None) -> None:
        heard = getattr(_state, "heard", None)
        if heard is not None:
            text = ctypes.create_string_buffer(_LONGEST)
            ctypes.pythonapi.PyOS_vsnprintf(text, ctypes.c_size_t(_LONGEST), form, ctypes.c_void_p(values))
            heard.append(text.value.decode("ascii", "replace").rstrip("."))
        elif before:
            before[0](module, form, values)

    handler = _HANDLER(handle)
    previous = library.TIFFSetErrorHandler(ctypes.cast(handler, ctypes.c_void_p))
    if previous:
        before.append(_HANDLER(previous))
    return handler
