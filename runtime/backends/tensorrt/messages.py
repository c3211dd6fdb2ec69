"""What TensorRT says, as errors that a user can act on.

TensorRT tells failures in two ways: a call gives nothing, and its logger got lines of text meanwhile. A process has one
logger: as long as any builder or engine lives, those that are given to others are ignored, wholly by older versions,
in part by newer ones. Ours therefore is one as well, and hands on what it gets to whoever is in a call.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from mrs.runtime.errors import BackendError, DeviceMemoryError

if TYPE_CHECKING:
    import tensorrt as trt

log = logging.getLogger("mrs.tensorrt")

# Lines kept of one build or run: the first ones tell the cause, the others follow from it.
KEPT = 50
# A fused operation is named after all that it holds.
LONGEST = 300
# Where in TensorRT's own source, or in which of its calls, something was found, and the number of the kind of error.
PLACE = re.compile(r"^(\[[^\]]*::[^\]]*\]:?\s*|\w+::\w+:\s*|\d+:\s*)+")
KIND = re.compile(r"^Error Code \d+: ([\w ]+?) \((.*)\)\s*\.?$")


class Rule(NamedTuple):
    """What a line means.

    Attributes:
        pattern: found in the line.
        error: its class.
        what: in our words.
        hint: what to do.
    """

    pattern: re.Pattern[str]
    error: type[BackendError]
    what: str
    hint: str


def _rule(pattern: str, what: str, hint: str, error: type[BackendError] = BackendError) -> Rule:
    return Rule(re.compile(pattern, re.IGNORECASE), error, what, hint)


# The first that fits counts: what failed for want of memory also reports operations that could not be compiled.
RULES = (
    _rule(
        r"out ?of ?memory|insufficient memory|memory allocation fail|cudaErrorMemoryAllocation",
        "the GPU's memory does not suffice",
        "use a smaller size, --engine-option workspace-mib=1024 for less at a time, or end other programs there",
        DeviceMemoryError,
    ),
    _rule(
        r"incompatible device|expecting compute|different (gpu|device|compute)",
        "the engine is for another GPU",
        "build the plan again on this GPU",
    ),
    _rule(
        r"not compatible with this version of TensorRT|expecting library version|version tag|serialization version",
        "the engine is of another version of TensorRT",
        "build the plan again with this version",
    ),
    _rule(
        r"CUDA initialization failure|driver version is insufficient|no CUDA-capable device|cudaErrorNoDevice",
        "CUDA does not start",
        "check the GPU's driver with nvidia-smi; this TensorRT may need a newer one",
    ),
    _rule(
        r"could not find any implementation|no importer registered|unsupported|not supported",
        "an operation is not supported",
        "use another precision, or the backend torch",
    ),
    _rule(
        r"unable to load library|cannot open shared object|could not load library",
        "a library is missing",
        "reinstall TensorRT: pip install --force-reinstall 'mrs-trt[tensorrt]'",
    ),
)


class Messages:
    """The errors of one call or several, see `collected`."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self._lines: list[str] = []

    def add(self, text: str) -> None:
        """An error."""
        if len(self._lines) < KEPT:
            self._lines.append(text)

    def clear(self) -> None:
        """Forget what was refused so far: something else was done instead."""
        self._lines.clear()

    def error(self, when: str) -> BackendError:
        """What to raise now that something failed.

        Args:
            when: such as `tensorrt cannot build the engine`.
        """
        return told(when, self._lines)


# Who is in a call, the innermost of a thread last. Without a lock: TensorRT speaks in destructors too, and therefore
# whenever Python collects garbage, within this module as well. Appending, removing and copying are single calls into C.
_COLLECTING: list[Messages] = []


@contextmanager
def collected() -> Iterator[Messages]:
    """The errors that TensorRT tells the calling thread inside, and those of threads of its own."""
    messages = Messages()
    try:
        _COLLECTING.append(messages)
        yield messages
    finally:
        # An interrupt may have come before it was there.
        with suppress(ValueError):
            _COLLECTING.remove(messages)


def _hand_on(text: str) -> None:
    """Give an error to the thread that it comes from; a thread of TensorRT's own may work for any."""
    everyone, thread = list(_COLLECTING), threading.get_ident()
    own = [messages for messages in everyone if messages.thread == thread]
    for messages in own[-1:] or everyone:
        messages.add(text)


def told(when: str, lines: Sequence[str]) -> BackendError:
    """The error that lines of TensorRT's tell of; see `Messages.error`."""
    for rule in RULES:
        for line in lines:
            if rule.pattern.search(line):
                return rule.error(f"{when}: {rule.what}: {plain(line)}", hint=rule.hint)
    return BackendError(f"{when}: {plain(lines[0]) if lines else 'it gives no reason'}")


def plain(line: str) -> str:
    """A line of TensorRT's without the places in its source, as one short line."""
    text = PLACE.sub("", " ".join(line.split()))
    kind = KIND.match(text)
    text = kind[2] if kind else text
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


_LOGGER: list[trt.ILogger] = []
_MAKING = threading.Lock()


def logger() -> trt.ILogger:
    """The logger of this process: errors go to whoever is in a call, everything to Python's log of debugging.

    It stays for ever: whatever is made with it may speak when it is let go of.
    """
    import tensorrt as trt

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: object, msg: str) -> None:
            # TensorRT cannot be told of an exception here.
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                _hand_on(msg)
            log.debug("%s", msg)

    with _MAKING:
        if not _LOGGER:
            _LOGGER.append(Logger())
        return _LOGGER[0]


def not_parsed(parser: trt.OnnxParser, messages: Messages) -> BackendError:
    """Why a parser refused a graph."""
    import tensorrt as trt

    unsupported = (
        trt.ErrorCode.UNSUPPORTED_GRAPH,
        trt.ErrorCode.UNSUPPORTED_NODE,
        trt.ErrorCode.UNSUPPORTED_NODE_ATTR,
        trt.ErrorCode.UNSUPPORTED_NODE_DATATYPE,
        trt.ErrorCode.UNSUPPORTED_NODE_DYNAMIC,
        trt.ErrorCode.UNSUPPORTED_NODE_INPUT,
        trt.ErrorCode.UNSUPPORTED_NODE_SHAPE,
    )
    when = "tensorrt cannot read the graph"
    for number in range(parser.num_errors):
        error: trt.ParserError = parser.get_error(number)
        what = plain(error.desc())
        if error.code() == trt.ErrorCode.MEM_ALLOC_FAILED:
            return told(when, [f"out of memory: {what}"])
        if error.code() in unsupported:
            return BackendError(
                f"tensorrt {trt.__version__} does not support the operation {error.node_operator()}: {what}",
                hint="install a newer TensorRT, or use the backend torch",
            )
        return BackendError(f"{when}: {what}", hint="build the plan again")
    return messages.error(when)
