"""Ctrl-C in a long call is answered before its end, and changes nothing."""

import os
import re
from pathlib import Path

import children
import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="interrupts of a terminal are POSIX's")

EXT = Path(__file__).parents[1] / "fastbn" / "_ext"

# Calls that would take many minutes, in a gigabyte or less. An interrupt that waited for their end
# would come after the child's time is up.
LONG = """
import hashlib, os, signal, threading, time
import numpy as np
import fastbn
from fastbn import layers

signal.signal(signal.SIGINT, signal.default_int_handler)
rng = np.random.default_rng(0)
image, filters = rng.standard_normal((1, 16, 1200, 1200)), rng.standard_normal((16, 16, 301, 301))
if DTYPE == "float32":
    image, filters = image.astype("f"), filters.astype("f")
bias, one = filters[:, 0, 0, 0], {"stride": 1, "pad": 0}
upstream = np.ones((1, 16, 900, 900), image.dtype)
plane = image[:, :1].repeat(3, axis=2)
window = {"pool_height": 1500, "pool_width": 600, "stride": 1}
rows, inner = rng.standard_normal((300, 4)), rng.standard_normal((4, 3))
CALLS = {
    "conv": lambda: layers.conv_forward_fast(image, filters, bias, one),
    "dx": lambda: layers.conv_backward_fast(
        upstream, (image, filters, bias, one)),
    "pool": lambda: layers.max_pool_backward_naive(
        np.ones((1, 1, 2101, 601), plane.dtype), (plane, window)),
}
call = CALLS[CALL]

def given():
    arrays = map(np.ascontiguousarray, (image, filters, bias, plane, upstream))
    return [hashlib.sha256(a).digest() for a in arrays], dict(one), dict(window)

before = given()
fastbn.set_num_threads(THREADS)
fastbn.set_conv_algorithm("direct")
small = layers.affine_forward(rows, inner, inner[0])[0].tobytes()

def interrupt():
    while not fastbn._ext.runtime.busy():      # not before the call is in its kernel
        time.sleep(0.01)
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)

try:
    threading.Thread(target=interrupt).start()
    call()
    raise AssertionError("too fast to interrupt")
except KeyboardInterrupt:
    pass
assert before == given() and not fastbn._ext.runtime.busy()
assert fastbn.get_num_threads() == (THREADS if fastbn._ext.runtime.openmp else 1)
assert fastbn.get_conv_algorithm() == "direct"
assert layers.affine_forward(rows, inner, inner[0])[0].tobytes() == small
corner = image[:, :, :40, :40].copy()
expected = (corner[0, 3, 5:8, 6:9] * filters[0, 3, :3, :3]).sum()
out, _ = layers.conv_forward_fast(
    corner[:, 3:4], filters[:1, 3:4, :3, :3], np.zeros(1, image.dtype), one)
assert abs(out[0, 0, 5, 6] - expected) < 1e-4
"""


@pytest.mark.parametrize("threads, dtype", [(1, "float64"), (2, "float32")])
@pytest.mark.parametrize("call", ["conv", "dx", "pool"])
def test_long_calls(call, threads, dtype, tmp_path):
    code = LONG.replace("CALLS[CALL]", f"CALLS[{call!r}]").replace("THREADS", str(threads))
    children.run(code.replace("DTYPE", repr(dtype)), tmp_path)


def test_every_parallel_loop_asks():
    """What takes long enough to be interrupted only in memory that a test cannot have."""
    found = 0
    for path in sorted(EXT.glob("*.p[yx][xd]")):
        if path.stem in ("_interrupt", "_probe"):  # says how; measures for as long as it is told
            continue
        loops = re.split(r"\n *for \w+ in prange\(", path.read_text())[1:]
        found += len(loops)
        for loop in loops:
            assert re.search(r"stopped|watch|first_of|_strips_task\(", loop[:900]), (
                path.name,
                loop[:900],
            )
    assert found >= 30


# A handler that does not raise is run, and the call goes on; one that computes may do so.
HANDLERS = """
import signal
import numpy as np
from fastbn import layers
import fastbn

fastbn.set_num_threads(2)
rng = np.random.default_rng(0)
x, w = rng.standard_normal((2, 900, 900))
small = x[:300, :300].copy()
expected = layers.affine_forward(small, small, small[0])[0].tobytes()
whole = layers.affine_forward(x, w, w[0])[0].tobytes()
image, filters = rng.standard_normal((1, 8, 160, 160)), rng.standard_normal((8, 8, 61, 61))
convolved = layers.conv_forward_fast(image, filters, filters[:, 0, 0, 0], {"stride": 1, "pad": 0})
seen = []

def handler(number, frame):
    seen.append(layers.affine_forward(small, small, small[0])[0].tobytes() == expected)
    signal.setitimer(signal.ITIMER_REAL, 0.01)

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.01)
while len(seen) < 20:
    out, _ = layers.conv_forward_fast(image, filters, filters[:, 0, 0, 0], {"stride": 1, "pad": 0})
    assert out.tobytes() == convolved[0].tobytes()
    assert layers.affine_forward(x, w, w[0])[0].tobytes() == whole
signal.signal(signal.SIGALRM, signal.SIG_IGN)
assert all(seen)

class Stop(Exception):
    pass

def stop(number, frame):
    raise Stop(number)

signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    while True:
        layers.conv_forward_fast(image, filters, filters[:, 0, 0, 0], {"stride": 1, "pad": 0})
except Stop as error:
    assert error.args == (signal.SIGALRM,)
assert layers.affine_forward(x, w, w[0])[0].tobytes() == whole
"""


def test_handlers_of_other_signals(tmp_path):
    children.run(HANDLERS, tmp_path)


# Another Python thread is not where handlers run: its call goes on, and the process ends well.
OTHER_THREAD = """
import os, signal, threading, time
import numpy as np
from fastbn import layers

rng = np.random.default_rng(0)
image, filters = rng.standard_normal((1, 8, 160, 160)), rng.standard_normal((8, 8, 61, 61))
one = {"stride": 1, "pad": 0}
expected = layers.conv_forward_fast(image, filters, filters[:, 0, 0, 0], one)[0].tobytes()
results = []

def work():
    for _ in range(3):
        out, _ = layers.conv_forward_fast(image, filters, filters[:, 0, 0, 0], one)
        results.append(out.tobytes() == expected)

signal.signal(signal.SIGINT, signal.default_int_handler)
worker = threading.Thread(target=work)
worker.start()
try:
    os.kill(os.getpid(), signal.SIGINT)
    worker.join()
    raise AssertionError("not interrupted")
except KeyboardInterrupt:
    pass
worker.join()
assert results == [True] * 3
threading.Thread(target=layers.conv_forward_fast, daemon=True, args=(
    np.ones((1, 8, 900, 900)), np.ones((8, 8, 301, 301)), filters[:, 0, 0, 0], one)).start()
time.sleep(0.3)                                # and the process ends inside it
"""


def test_a_call_in_another_thread_goes_on(tmp_path):
    children.run(OTHER_THREAD, tmp_path)


# In a child the thread that forked is the main one.
FORKED_BY_A_THREAD = """
import os, signal, threading
import numpy as np
from fastbn import layers

image, filters = np.ones((1, 8, 900, 900)), np.ones((8, 8, 301, 301))
one = {"stride": 1, "pad": 0}

def work():
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            layers.conv_forward_fast(image, filters, filters[:, 0, 0, 0], one)   # for minutes
        except KeyboardInterrupt:
            os._exit(0)
        os._exit(1)
    results.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

signal.signal(signal.SIGINT, signal.default_int_handler)
layers.conv_forward_fast(image[:, :, :9, :9], filters[:, :, :3, :3], filters[:, 0, 0, 0], one)
results = []
worker = threading.Thread(target=work)
worker.start()
worker.join()
assert results == [0], results
"""


def test_a_child_of_a_thread(tmp_path):
    children.run(FORKED_BY_A_THREAD, tmp_path)


# Where Python code runs, handlers do: what they raise in a call that cannot pass it on is lost.
FIRST_CALLS = """
import sys
import numpy as np
from fastbn import _ext

x, ran = np.ones(10), []
sys.setprofile(lambda frame, event, _: event == "call" and ran.append(frame.f_code.co_name))
_ext.relu.forward(x, 10, False, x.copy(), 1)
_ext.affine.column_sums(x.reshape(1, 10), x.copy(), 1)
sys.setprofile(None)
assert not ran, ran
"""


def test_kernels_run_no_python_code(tmp_path):
    children.run(FIRST_CALLS, tmp_path)


TRAINING = """
import os, signal, sys, threading, time
import numpy as np
sys.path.insert(0, FOLDER)
import kills

signal.signal(signal.SIGINT, signal.default_int_handler)
os.mkdir("whole")
os.mkdir("run")
kills.EPOCHS = 150
kills.train("whole")
interrupts = 0
while True:
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        kills.train("run")
        timer.cancel()
        break
    except KeyboardInterrupt:
        interrupts += 1
        kills.check_training("run", "whole")
        assert not kills.left_over("run")
try:
    timer.join()
except KeyboardInterrupt:
    pass
assert interrupts and kills.check_training("run", "whole") == (True, 150)
"""


def test_interrupted_training_goes_on(tmp_path):
    pytest.importorskip("joblib", reason="joblib, of the extra train, is absent")
    children.run(TRAINING.replace("FOLDER", repr(str(Path(__file__).parent))), tmp_path)
