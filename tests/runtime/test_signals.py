"""Real signals, each test in a process of its own: every wait ends with them, and none of them costs a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Far longer than anything here takes, on a busy machine too: only what hangs takes as long.
LIMIT = 240

pytestmark = [
    pytest.mark.signals,
    pytest.mark.slow(4),
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that send signals here"),
]

PRELUDE = """
import os, random, signal, sys, threading, time

dice = random.Random(0)
kept = []


class Interrupt(BaseException):
    pass


def interrupted(call, second=True):
    '''Call again and again until a signal raises within, at a random instant, and another one soon after that.'''
    shots = []

    def handler(*_):
        shots.append(1)
        if len(shots) == 1 and second:
            signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-6, 1e-4))
        raise Interrupt

    signal.signal(signal.SIGALRM, handler)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-4, 2e-3))
            while True:
                call()
        except Interrupt as error:
            # As a notebook keeps the last traceback.
            kept.append(error)
            while len(shots) < 1 + second:
                time.sleep(1e-4)
    except Interrupt as error:
        kept.append(error)
    del kept[:-20]


def ctrl_c(seconds=0.0):
    '''Press Ctrl-C from another thread, once this one is told to.'''
    go = []

    def press():
        while not go:
            time.sleep(1e-4)
        time.sleep(dice.uniform(0, 2e-3) if not seconds else seconds)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    return go


def elsewhere(call):
    '''What another thread gets.'''
    found = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(60)
    return found[0] if found else "hangs"


signal.signal(signal.SIGINT, signal.default_int_handler)
"""


def told(program: str) -> list[str]:
    """Run a program in a process of its own: the lines that it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", PRELUDE + program], cwd=ROOT, env=environment, timeout=LIMIT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


POOL = """
from contextlib import contextmanager
from mrs.runtime.pool import Pool
from mrs.runtime.request import Request

pool, stop = Pool([[0] for _ in range(COUNT)], 8), []


@contextmanager
def using(worker):
    yield worker


def work(each):
    # Nobody else has it meanwhile.
    before = each[0]
    each[0] = before + 1
    assert each[0] == before + 1


def others():
    while not stop:
        with pool.worker(Request()) as mine:
            mine[0] = 0
            time.sleep(0)
            assert mine[0] == 0


def once():
    with pool.worker(Request()) as one:
        work(one)
    with pool.worker(Request(), using) as one:
        work(one)
    with pool.every_worker() as all_of_them:
        assert len(all_of_them) == COUNT


threads = [threading.Thread(target=others) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for _ in range(ROUNDS):
    interrupted(once)
print("here:", elsewhere(lambda: [once() for _ in range(3)]))
stop.append(1)
for thread in threads:
    thread.join(60)
print("closed:", elsewhere(lambda: len(pool.close())))
"""


@pytest.mark.parametrize(("workers", "threads", "rounds"), [(1, 0, 1000), (2, 3, 200)])
def test_a_storm_of_signals_costs_no_worker(workers: int, threads: int, rounds: int) -> None:
    program = f"COUNT, THREADS, ROUNDS = {workers}, {threads}, {rounds}\n" + POOL
    assert told(program) == ["here: [None, None, None]", f"closed: {workers}"]


def test_a_storm_of_signals_breaks_no_restorer() -> None:
    program = """
import numpy as np
from mrs.runtime import backends
from mrs.runtime.system import machine
from mrs.runtime.plan import Plan
from mrs.runtime.session import Restorer
from mrs.numerics.schedule import Schedule
from mrs.numerics.solver import Solver
from mrs.numerics.tableau import tableau
from tests.runtime.conftest import FakeBackend, manifest_of

backends.BACKENDS["fake"] = FakeBackend()
table = tableau(Schedule(), Solver(steps=3), "data")
manifest = manifest_of(table, "fake", machine.fingerprint("fake", "1.0"))
restorer = Restorer(Plan(manifest, b"graph", np.zeros((3, 8), np.float32), None), threads=1)
picture = np.full((1, 1, 3), 100, np.uint8)
expected = restorer.restore(picture, seed=3).tolist()


def once():
    assert restorer.restore(picture, seed=3).tolist() == expected
    with restorer.lend(picture, 3) as lent:
        assert lent.tolist() == expected


for _ in range(500):
    interrupted(once)
print(elsewhere(lambda: restorer.restore(picture, seed=3).tolist() == expected))
print(elsewhere(restorer.close))
"""
    assert told(program) == ["True", "None"]


def test_a_signal_just_before_a_wait_is_noticed() -> None:
    program = """
from mrs.kernels.threads import Task, Threads, end
threads, heard = Threads(1), 0
for _ in range(100):
    leave = []
    def work():
        while not leave:
            time.sleep(1e-3)
    task, go = Task(work), ctrl_c()
    try:
        threads.submit(task)
        go.append(1)
        task.result()
    except KeyboardInterrupt:
        heard += 1
    leave.append(1)
    end([task])
print(heard)
"""
    assert told(program) == ["100"]


def test_a_storm_of_signals_stops_no_thread() -> None:
    """An update of the sampler on two threads: what is interrupted is no longer written to when it has ended."""
    program = """
import numpy as np
from mrs.kernels import cpu
x, picture = np.random.default_rng(0).random((1, 3, 128, 128), np.float32), np.zeros((1, 128, 128, 3), np.uint8)
cpu.finish(x, picture, threads=1)
expected, wrong = picture.copy(), 0


def once():
    picture[...] = 0
    cpu.finish(x, picture, threads=2)


for _ in range(300):
    interrupted(once, second=False)
    picture[...] = 7
    time.sleep(1e-4)
    wrong += not (picture == 7).all()
once()
print(wrong, (picture == expected).all())
"""
    assert told(program) == ["0 True"]


BUILD = """
from contextlib import nullcontext
from mrs.runtime.backends.tensorrt import builder
from mrs.runtime.backends.settings import EngineOptions
from mrs.runtime.errors import BackendError

class device:
    stream = staticmethod(lambda: None)
    on = staticmethod(lambda stream: nullcontext())

deaf, ended = [], []

def serialized(graph, options, ranged, progress, messages):
    if graph == b"quick":
        return b"engine"
    while progress.done("Building", 0) or deaf:
        time.sleep(1e-3)
    ended.append(graph)
    raise BackendError("it was interrupted")

builder._serialized = serialized
builder.typed_graph = lambda graph, precision, sides: graph

def build(graph):
    return builder.build_engine(graph, (1, 6, 8, 8), "fp32", EngineOptions(), device, print)
"""


def test_a_build_of_many_minutes_ends_with_any_signal() -> None:
    program = """
class Late(Exception):
    pass

def late(*_):
    raise Late

signal.signal(signal.SIGALRM, late)
heard = []
for number in range(20):
    go = ctrl_c() if number % 2 else []
    try:
        go.append(1)
        if number % 2 == 0:
            signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-4, 2e-3))
        build(b"long")
    except (KeyboardInterrupt, Late, BackendError) as error:
        heard.append(type(error).__name__)
    # All that began has ended.
    assert build(b"quick") == b"engine"
print(*sorted(set(heard)), heard.count("Late"), heard.count("KeyboardInterrupt"))
"""
    assert told(BUILD + program) == ["KeyboardInterrupt Late 10 10"]


def test_a_second_ctrl_c_does_not_wait_for_the_builder() -> None:
    program = """
def press_twice():
    # The second one comes while the first one waits for the builder.
    while not go:
        time.sleep(1e-3)
    for _ in range(2):
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

deaf.append(1)
go = []
threading.Thread(target=press_twice, daemon=True).start()
try:
    go.append(1)
    build(b"deaf")
except KeyboardInterrupt:
    print("left behind", ended)
# The next one waits for its turn, and that ends with Ctrl-C too.
go = ctrl_c(0.2)
try:
    go.append(1)
    build(b"quick")
except KeyboardInterrupt:
    print("not begun", ended)
deaf.clear()
print(build(b"quick"), ended)
"""
    assert told(BUILD + program) == ["left behind []", "not begun []", "b'engine' [b'deaf']"]


def test_ctrl_c_ends_the_work_on_many_pictures() -> None:
    program = """
from mrs.commands.in_flight import in_order
for _ in range(20):
    running, begun = [], []
    def work(item, cancellation):
        begun.append(item)
        running.append(item)
        while not cancellation.cancelled:
            time.sleep(1e-3)
        running.remove(item)
    go = ctrl_c()
    results = in_order(range(100), work, 3, lambda item: 0)
    try:
        go.append(1)
        next(results)
    except KeyboardInterrupt:
        results.close()
    assert running == [] and len(begun) <= 3, (running, begun)
print("ended")
"""
    assert told(program) == ["ended"]


def test_ctrl_c_ends_waiting_for_a_worker_and_closing() -> None:
    program = """
from mrs.runtime.pool import Pool
from mrs.runtime.request import Request
pool, leave, inside = Pool("a", 4), [], []

def away():
    with pool.worker(Request()):
        inside.append(1)
        while not leave:
            time.sleep(1e-3)

thread = threading.Thread(target=away)
thread.start()
while not inside:
    time.sleep(1e-3)
calls = [lambda: pool.worker(Request()).__enter__(), lambda: pool.every_worker().__enter__(), pool.close]
for call in calls:
    go = ctrl_c()
    try:
        go.append(1)
        call()
    except KeyboardInterrupt:
        print("heard")
leave.append(1)
thread.join(60)
print(pool.close())
"""
    assert told(program) == ["heard", "heard", "heard", "('a',)"]
