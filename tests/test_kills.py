"""Checkpoints and results where a process is killed or the disk is full."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import children
import pytest

from fastbn import _atomic
from fastbn._atomic import atomic_write

posix = pytest.mark.skipif(os.name != "posix", reason="forks and kills")


@posix
def test_killed_at_random_moments(tmp_path):
    """Ten times each; `python tests/kills.py --kills 200` is the long form."""
    pytest.importorskip("joblib", reason="joblib, of the extra train, is absent")
    script = Path(__file__).with_name("kills.py")
    command = [sys.executable, script, "--kills", "10"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    for counts in json.loads(done.stdout).values():
        assert counts["kills"] == 10 and counts["runs"] >= 1


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no groups of processes here")
def test_killed_with_its_workers(tmp_path):
    """A study of several processes at once, all of them killed as soon as one result is there."""
    pytest.importorskip("joblib", reason="joblib, of the extra train, is absent")
    command = [sys.executable, "-m", "fastbn", "experiment", "batch-size", "--out", "runs"]
    command += ["--batch-sizes", "50,49,1", "--epochs", "3", "--hidden", "10", "--jobs"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    whole.mkdir()
    results = killed / "runs" / "trainings"
    with subprocess.Popen(
        [*command, "2"],
        cwd=killed,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        # The last training takes fifty times as long as each of the others.
        while process.poll() is None and not (results.is_dir() and any(results.glob("[!.]*"))):
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    finished = {path.name: path.stat().st_mtime_ns for path in results.glob("[!.]*")}
    assert 1 <= len(finished) < 4
    for folder, n_jobs in ((killed, "2"), (whole, "1")):
        options = {"capture_output": True, "timeout": 120, "check": True}
        subprocess.run([*command, n_jobs], cwd=folder, **options)
    contents = [
        {path.name: path.read_bytes() for path in (folder / "runs").rglob("*.json")}
        for folder in (killed, whole)
    ]
    assert contents[0] == contents[1] and len(contents[0]) >= 4
    for name, written in finished.items():
        assert (results / name).stat().st_mtime_ns == written


KILLED_WHILE_WRITING = """
import os, signal
from fastbn._atomic import atomic_write

child = os.fork()
if child == 0:
    with atomic_write("file") as file:
        file.write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(child, 0)
print(sorted(name.endswith(".tmp") for name in os.listdir()))
"""


@posix
def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    # Of other files, or not of ours at all.
    others = [".other.0123456789abcdef.tmp", ".file.tmp", ".file.0123.tmp", ".file.x.pkl"]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    children.run(KILLED_WHILE_WRITING, tmp_path)
    (tmp_path / "script.py").unlink()
    assert (tmp_path / "file").read_bytes() == b"old"
    assert len(os.listdir(tmp_path)) == 2 + len(others)
    with atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == sorted(["file", *others])


@pytest.mark.skipif(_atomic.fcntl is None, reason="no locks here")
def test_what_is_being_written_is_not_taken_for_left_over(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as first:
        first.write(b"first")
        with atomic_write(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(_atomic.fcntl is None, reason="no locks here")
def test_file_that_was_taken_for_left_over_before_it_was_locked(tmp_path, monkeypatch):
    lock, taken = _atomic._lock, []

    def late(descriptor):
        if not taken:
            (path,) = tmp_path.glob(".*.tmp")
            taken.append(path)
            path.unlink()
        return lock(descriptor)

    monkeypatch.setattr(_atomic, "_lock", late)
    with atomic_write(tmp_path / "file") as file:
        file.write(b"whole")
    assert taken and (tmp_path / "file").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(_atomic.fcntl is None, reason="no locks here")
def test_file_that_another_process_has_locked_to_remove_it(tmp_path, monkeypatch):
    lock, taken = _atomic._lock, []

    def late(descriptor):
        if taken:
            return lock(descriptor)
        (path,) = tmp_path.glob(".*.tmp")
        taken.append(path)
        with open(path, "rb") as file:
            assert lock(file.fileno())
            result = lock(descriptor)
            path.unlink()
        return result

    monkeypatch.setattr(_atomic, "_lock", late)
    with atomic_write(tmp_path / "file") as file:
        file.write(b"whole")
    assert taken and (tmp_path / "file").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_about_to_be_renamed_is_not_taken_for_left_over(tmp_path, monkeypatch):
    replace, found = os.replace, []

    def late(source, target):
        found.append(source)
        _atomic._remove_left_over(str(tmp_path), "file")
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)
    with atomic_write(tmp_path / "file") as file:
        file.write(b"whole")
    assert found and (tmp_path / "file").read_bytes() == b"whole"


@pytest.mark.skipif(_atomic.fcntl is None, reason="no locks here")
@pytest.mark.parametrize("mode", [0o644, 0o400], ids=oct)
def test_locks_as_of_nfs(mode, tmp_path, monkeypatch):
    """flock(2): what is open for reading only gets no exclusive lock there."""
    fcntl, flock = _atomic.fcntl, _atomic.fcntl.flock

    def as_of_nfs(descriptor, operation):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(descriptor, operation)

    path = tmp_path / "file"
    left_over = tmp_path / ".file.0123456789abcdef.tmp"
    left_over.write_bytes(b"half")
    left_over.chmod(mode)
    with atomic_write(path) as file:  # a system with other locks removes it in any case
        file.write(b"old")
    assert not left_over.exists()
    left_over.write_bytes(b"half")
    monkeypatch.setattr(fcntl, "flock", as_of_nfs)
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


@posix
def test_a_pipe_with_the_name_of_a_left_over_file(tmp_path):
    os.mkfifo(tmp_path / ".file.0123456789abcdef.tmp")
    code = "from fastbn._atomic import atomic_write\nwith atomic_write('file') as file: pass"
    children.run(code, tmp_path, timeout=20)
    assert len(list(tmp_path.glob(".file.*.tmp"))) == 1


FULL = """
import os, resource, sys
import numpy as np
from fastbn.classifiers import TwoLayerNet
from fastbn.solver import Solver, load_checkpoint

X, y = np.random.default_rng(0).standard_normal((20, 10)), np.arange(20) % 2
data = {"X_train": X, "y_train": y, "X_val": X, "y_val": y}

def solver():
    net = TwoLayerNet(input_dim=10, hidden_dim=8, num_classes=2)
    return Solver(net, data, num_epochs=2, batch_size=20, checkpoint_name="run", verbose=False)

solver().train()
before = open("run_epoch_1.pkl", "rb").read()
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))   # less than it takes
try:
    solver().train()
except OSError as error:
    assert "run_epoch_1.pkl" in str(error), error
else:
    raise AssertionError("written")
assert sorted(os.listdir()) == ["run_epoch_1.pkl", "run_epoch_2.pkl", "script.py"], os.listdir()
assert open("run_epoch_1.pkl", "rb").read() == before
again = solver()
again.resume("run_epoch_1.pkl")
"""


@posix
def test_full_disk_leaves_the_old_checkpoint(tmp_path):
    children.run(FULL, tmp_path)
