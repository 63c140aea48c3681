"""Processes that fork, spawn or limit; OpenMP told nonsense; somebody else's threads."""

import ctypes
import importlib.util
import multiprocessing
import os
import shutil
import subprocess

import children
import pytest

from fastbn import _ext

FORK = (
    children.STEPS
    + """
child = os.fork()
if child == 0:
    signal.alarm(60)                           # a hang ends as a signal
    ok = fastbn.get_num_threads() == 1 and results() == expected
    os._exit(0 if ok else 3)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert results() == expected
"""
)

POOL = (
    children.STEPS
    + """
# The alarm ends a child that hangs, the timeout a parent whose child has ended.
context = multiprocessing.get_context("fork")
with context.Pool(2, initializer=signal.alarm, initargs=(60,)) as pool:
    for got in pool.map_async(results, range(4), chunksize=1).get(timeout=90):
        assert got == expected
assert results() == expected
"""
)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@needs_fork
def test_forked_child_computes(tmp_path):
    children.run(FORK, tmp_path)


@needs_fork
def test_pool_of_forked_children_computes(tmp_path):
    children.run(POOL, tmp_path)


FORK_AMONG_THREADS = """
import os, signal, threading
import numpy as np
from fastbn import layers

x = np.ones(50000)
done = threading.Event()

def work():
    while not done.is_set():
        layers.relu_forward(x)

workers = [threading.Thread(target=work) for _ in range(3)]
for worker in workers:
    worker.start()
for _ in range(40):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(0 if (layers.relu_forward(x)[0] == 1).all() else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
done.set()
for worker in workers:
    worker.join()
"""


@needs_fork
def test_a_child_forked_while_threads_compute(tmp_path):
    children.run(FORK_AMONG_THREADS, tmp_path)


TWO_RUNTIMES = (
    children.STEPS
    + """
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_info, threadpool_limits

# scikit-learn's wheels bring an OpenMP runtime of their own, and so do fastbn's.
runtimes = {info["filepath"] for info in threadpool_info() if info["user_api"] == "openmp"}
assert any("scikit_learn" in path for path in runtimes) or len(runtimes) == 1, runtimes
table = rng.standard_normal((2000, 5))
model = HistGradientBoostingClassifier(max_iter=2)
for _ in range(3):
    model.fit(table, table[:, 0] > 0)
    assert results() == expected
with threadpool_limits(1):
    assert fastbn.get_num_threads() == 1
    assert results() == expected
"""
)


@pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None,
    reason="scikit-learn, of the extra train, is absent",
)
def test_beside_another_openmp_runtime(tmp_path):
    children.run(TWO_RUNTIMES, tmp_path)


GRANDCHILD = (
    children.STEPS
    + """
child = os.fork()
if child == 0:
    signal.alarm(60)
    same = results() == expected
    grandchild = os.fork()
    if grandchild == 0:
        os._exit(0 if same and results() == expected else 3)
    _, status = os.waitpid(grandchild, 0)
    os._exit(os.waitstatus_to_exitcode(status) or (0 if results() == expected else 4))
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
"""
)


@needs_fork
def test_grandchild_computes(tmp_path):
    children.run(GRANDCHILD, tmp_path)


FORK_INSIDE_A_KERNEL = """
import os, signal, threading
import numpy as np
import fastbn
from fastbn import layers

fastbn.set_num_threads(2)
x, w = np.random.default_rng(0).standard_normal((2, 600, 600))
expected = layers.affine_forward(x, w, w[0])[0].tobytes()
done = threading.Event()

def work():
    while not done.is_set():
        assert layers.affine_forward(x, w, w[0])[0].tobytes() == expected

worker = threading.Thread(target=work)
worker.start()
for _ in range(25):
    child = os.fork()          # while the other thread is inside a parallel region, nearly always
    if child == 0:
        signal.alarm(60)
        os._exit(0 if layers.affine_forward(x, w, w[0])[0].tobytes() == expected else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
done.set()
worker.join()
"""


@needs_fork
def test_fork_while_another_thread_is_inside_a_kernel(tmp_path):
    children.run(FORK_INSIDE_A_KERNEL, tmp_path)


POOLS = """
import concurrent.futures, multiprocessing
from steps import expected, fastbn, os, results

def work(_):
    before = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
    same = results() == expected
    after = len(os.listdir("/proc/self/task")) if before else 0
    return same, fastbn.get_num_threads(), after - before

if __name__ == "__main__":
    # A forked child computes on one thread; others import fastbn anew and are asked for two.
    most = 1 if METHOD == "fork" or not fastbn._ext.runtime.openmp else 2
    context = multiprocessing.get_context(METHOD)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        for same, threads, started in pool.map(work, range(4), timeout=90):
            assert same and threads == most and started < most, (same, threads, started)
    assert results() == expected
"""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_pools_after_the_parent_has_used_openmp(method, tmp_path):
    (tmp_path / "steps.py").write_text(children.STEPS)
    children.run(POOLS.replace("METHOD", repr(method)), tmp_path)


JOBLIB = """
import sys
import joblib
from steps import expected, fastbn, os, results

def work(_):
    return results() == expected, fastbn.get_num_threads()

if __name__ == "__main__":
    fastbn.set_num_threads(None)
    with joblib.parallel_config(backend=BACKEND, n_jobs=joblib.cpu_count()):
        for same, threads in joblib.Parallel(timeout=90)(map(joblib.delayed(work), range(4))):
            # loky tells its workers by OMP_NUM_THREADS, of which a forked child has one.
            assert same and (threads == 1 or BACKEND == "threading"), (same, threads)
"""


@pytest.mark.skipif(importlib.util.find_spec("joblib") is None, reason="joblib is absent")
@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_joblib(backend, tmp_path):
    steps = children.STEPS.replace("fastbn.set_num_threads(2)\n", "").replace(
        "assert fastbn.get_num_threads() ==", "#"
    )
    (tmp_path / "steps.py").write_text(steps)
    children.run(
        JOBLIB.replace("BACKEND", repr(backend)),
        tmp_path,
        FASTBN_NUM_THREADS=None,
        OMP_NUM_THREADS=None,
    )


# What OpenMP is told

SAME = (
    children.STEPS.replace("fastbn.set_num_threads(2)\n", "").replace(
        "assert fastbn.get_num_threads() ==", "#"
    )
    + """
print(fastbn.get_num_threads(), *expected)
"""
)


@pytest.fixture(scope="module")
def digests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digests")
    return children.run(SAME, folder, FASTBN_NUM_THREADS="1").split()[1:]


def _threads_with(digests, folder, **environment):
    """How many threads a process with these variables has; its results are the same to the bit."""
    environment = {"FASTBN_NUM_THREADS": None, "OMP_NUM_THREADS": None, **environment}
    threads, *found = children.run(SAME, folder, **environment).splitlines()[-1].split()
    assert found == digests
    return int(threads)


CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
needs_openmp = pytest.mark.skipif(not _ext.runtime.openmp, reason="a build without OpenMP")


@needs_openmp
@pytest.mark.parametrize(
    ("text", "threads"),
    [
        ("", None),
        ("abc", None),
        ("0", None),
        ("-3", None),
        ("1e9", None),
        ("2_0", None),  # which int() takes, and the digits of other scripts
        ("\u0663", None),
        ("99999999999999999999", None),
        ("1000", None),
        (" 3 ", 3),
        ("+3", 3),
        ("3,2", 3),
    ],
)
def test_omp_num_threads(text, threads, digests, tmp_path):
    granted = _threads_with(digests, tmp_path, OMP_NUM_THREADS=text)
    assert granted == threads or (threads is None and 1 <= granted <= CORES)


@pytest.mark.parametrize("text", ["abc", "0", "-3", "1e9", "2_0", "\u0663", "9" * 20, "257"])
def test_fastbn_num_threads_must_be_a_number(text, tmp_path):
    code = f"""
        try:
            import fastbn
        except ValueError as error:
            expected = "FASTBN_NUM_THREADS must be an integer from 1 to 256; got {text!r}"
            assert str(error) == expected, error
        else:
            raise AssertionError("accepted")
    """
    children.run(code, tmp_path, FASTBN_NUM_THREADS=text)


@needs_openmp
@pytest.mark.parametrize(
    ("variables", "threads"),
    [
        ({"OMP_PROC_BIND": "close", "OMP_PLACES": "cores"}, 4),
        ({"OMP_PROC_BIND": "nonsense"}, 4),
        ({"OMP_PLACES": "{9999}"}, 4),
        ({"GOMP_CPU_AFFINITY": "0", "KMP_AFFINITY": "disabled"}, 4),
        ({"GOMP_CPU_AFFINITY": "x"}, 4),
        ({"OMP_DYNAMIC": "true"}, 4),
        ({"OMP_THREAD_LIMIT": "2"}, 2),
        ({"OMP_MAX_ACTIVE_LEVELS": "0"}, 1),
        ({"OMP_NESTED": "true", "OMP_MAX_ACTIVE_LEVELS": "4"}, 4),
        ({"OMP_WAIT_POLICY": "active", "OMP_SCHEDULE": "dynamic,1"}, 4),
        # Stacks that kernels would overflow, and that there is no room for.
        ({"OMP_STACKSIZE": "16K"}, 1),
        ({"OMP_STACKSIZE": "100G"}, 1),
        ({"OMP_STACKSIZE": " 999999999999999999 g "}, 1),
        ({"OMP_STACKSIZE": "large"}, 4),
        ({"OMP_STACKSIZE": "1M"}, 4),
    ],
    ids=str,
)
def test_what_openmp_is_told(variables, threads, digests, tmp_path):
    granted = _threads_with(digests, tmp_path, FASTBN_NUM_THREADS="4", **variables)
    # libomp reads some of it in another way than libgomp, and no more than asked for.
    assert granted == threads or "KMP" in os.environ


@needs_openmp
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity to set here")
@pytest.mark.parametrize("when", ["before", "after"])
def test_one_core_of_affinity(when, tmp_path):
    bind = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code = (
        "import os\n"
        + (bind if when == "before" else "")
        + children.STEPS.replace("fastbn.set_num_threads(2)\n", "").partition("expected =")[0]
        + "expected = results()\n"
        + (bind if when == "after" else "")
        + "assert fastbn.get_num_threads() == 1\nassert results() == expected\n"
        + "fastbn.set_num_threads(3)\nassert fastbn.get_num_threads() == 3\n"
        + "assert results() == expected\n"
    )
    children.run(code, tmp_path, FASTBN_NUM_THREADS=None, OMP_NUM_THREADS=None)


# Threads that cannot be started: libgomp would end the process

NO_THREADS = (
    children.STEPS
    + """
import resource
fastbn.set_num_threads(64)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
size = int(status["VmSize"].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + (60 << 20), resource.RLIM_INFINITY))
granted = fastbn.get_num_threads()
assert 1 <= granted < 64, granted              # a stack of 8 MiB each
same = results() == expected
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert same and fastbn.get_num_threads() == granted
"""
)


@needs_openmp
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="wants /proc")
def test_no_more_threads_than_can_be_started(tmp_path):
    children.run(NO_THREADS, tmp_path)


def test_import_where_no_thread_can_be_started(tmp_path):
    code = (
        """
import threading

def refuse(self):
    raise RuntimeError("can't start new thread")

start, threading.Thread.start = threading.Thread.start, refuse
"""
        + children.STEPS.replace("assert fastbn.get_num_threads() ==", "#")
        + "assert fastbn.get_num_threads() == 1\n"
    )
    children.run(code, tmp_path)


# Somebody else's threads

FOREIGN = """
#include <pthread.h>
typedef void (*function)(int);
static void *call(void *argument) { ((function)argument)(0); return 0; }
void in_region(function f, int n) {
  int i;
  #pragma omp parallel for num_threads(n) schedule(static, 1)
  for (i = 0; i < n; i++) f(i);
}
void in_threads(function f, int n) {
  pthread_t threads[64];
  int i;
  for (i = 0; i < n; i++) pthread_create(&threads[i], 0, call, (void *)f);
  for (i = 0; i < n; i++) pthread_join(threads[i], 0);
}
"""

CALLED = (
    children.STEPS
    + """
import ctypes

foreign = ctypes.CDLL("./foreign.so")
found = []

@ctypes.CFUNCTYPE(None, ctypes.c_int)
def call(number):
    found.append((fastbn.get_num_threads(), results() == expected))

for within in (foreign.in_region, foreign.in_threads):
    for count in (1, 2, 7):
        found.clear()
        within(call, count)
        assert len(found) == count and all(same for _, same in found), (within, count, found)
        if within is foreign.in_region and count > 1 and SAME_RUNTIME:
            assert {threads for threads, _ in found} == {1}, found
"""
)


@pytest.mark.skipif(
    shutil.which("cc") is None or not os.path.exists("/proc/self/maps"),
    reason="no C compiler, or no list of the libraries that are loaded",
)
def test_within_threads_of_others(tmp_path):
    """In an OpenMP region and in threads that Python does not know: the callback takes the GIL."""
    (tmp_path / "foreign.c").write_text(FOREIGN)
    command = ["cc", "-shared", "-fPIC", "-fopenmp", "foreign.c", "-o", "foreign.so"]
    subprocess.run(command, cwd=tmp_path, check=True)
    # A wheel brings an OpenMP runtime of its own, which knows nothing of the other's regions.
    ctypes.CDLL(str(tmp_path / "foreign.so"))
    with open("/proc/self/maps") as file:
        runtimes = {line.split()[-1] for line in file if "omp" in line.rsplit("/", 1)[-1]}
    same = _ext.runtime.openmp and len(runtimes) == 1
    children.run(CALLED.replace("SAME_RUNTIME", str(bool(same))), tmp_path)


HUNDREDS = (
    children.STEPS
    + """
import concurrent.futures, threading, time

COUNT = 200
start = threading.Barrier(COUNT)

def work(_):
    start.wait()
    return results() == expected

small = x[:2]
x = small                                      # `results` computes on this
expected = results()
with concurrent.futures.ThreadPoolExecutor(COUNT) as pool:
    assert all(pool.map(work, range(COUNT)))
most = 2 + (os.cpu_count() or 1)               # NumPy's BLAS has a pool, too
while os.path.isdir("/proc/self/task") and len(os.listdir("/proc/self/task")) > most:
    time.sleep(0.01)                           # a thread's pool ends with it, a little later
"""
)


def test_hundreds_of_python_threads(tmp_path):
    children.run(HUNDREDS, tmp_path)
