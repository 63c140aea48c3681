"""Files that fastbn reads, damaged in every way, from one source of chance.

The law: a damaged file is read as something valid, or refused with a clear error. Nothing in it is
run or imported, no file is written, nothing that was there is changed, and it takes no memory that
its size does not explain. `Damage(random)` is like `fuzzing.Fuzzer`; `fuzz.py --what files` makes
as many steps as one likes.
"""

import contextlib
import encodings
import functools
import os
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import asv_results
import numpy as np
from PIL import Image

from fastbn._dashboard import _results
from fastbn._options import UserError
from fastbn.classifiers import FullyConnectedNet, TwoLayerNet
from fastbn.data_utils import (
    load_CIFAR_batch,
    load_imagenet_val,
    load_models,
    load_tiny_imagenet,
)
from fastbn.experiments._store import Store
from fastbn.solver import Solver


class Kind(NamedTuple):
    """A kind of file: its name in a folder, how it is written there and read, and errors."""

    file: str
    write: Callable  # of a folder
    read: Callable  # of a folder
    errors: type[Exception] | tuple = ValueError


KINDS: dict[str, Kind] = {}


def _kind(file, write, **options):
    def add(read):
        KINDS[read.__name__] = Kind(file, write, read, **options)
        return read

    return add


def _batch(folder):
    batch = {"data": np.ones((1, 3072), np.uint8), "labels": [3], "batch_label": "one"}
    (folder / "batch").write_bytes(pickle.dumps(batch, 2))


@_kind("batch", _batch)
def cifar_batch(folder):
    X, y = load_CIFAR_batch(folder / "batch")
    assert X.shape == (len(y), 32, 32, 3) and X.dtype == np.float64
    assert y.dtype == np.int64 and 0 <= y.min() and y.max() <= 9


def _data():
    X, y = np.linspace(-1, 1, 12).reshape(4, 3), np.array([0, 1, 1, 0])
    return {"X_train": X, "y_train": y, "X_val": X, "y_val": y}


def _solver(**options):
    net = FullyConnectedNet([2], 3, 2, normalization="batchnorm", dtype=np.float64)
    common = {"update_rule": "adam", "num_epochs": 2, "batch_size": 2, "verbose": False}
    return Solver(net, _data(), **common, **options)


def _checkpoint(folder):
    state = np.random.get_state()
    np.random.seed(0)
    _solver(checkpoint_name=folder / "run").train()
    (folder / "run_epoch_2.pkl").unlink()
    (folder / "run_epoch_0.pkl").unlink()
    np.random.set_state(state)


def _state(solver):
    return pickle.dumps((solver.__dict__ | {"model": solver.model.__dict__}, np.random.get_state()))


@_kind("run_epoch_1.pkl", _checkpoint)
def checkpoint(folder):
    solver = _solver()
    before = _state(solver)
    try:
        solver.resume(folder / "run_epoch_1.pkl")
    except ValueError:
        assert _state(solver) == before
        raise
    assert 0 <= solver.epoch and 0 <= solver.iteration
    with np.errstate(all="ignore"), contextlib.suppress(ValueError, TypeError):
        solver.train()  # in a state of no training, a layer may refuse


@_kind("run_epoch_1.pkl", _checkpoint)
def models(folder):
    (model,) = load_models(folder).values()
    assert model is not None


def _net(folder):
    net = FullyConnectedNet([2], 3, 2, normalization="batchnorm")
    net.loss(*list(_data().values())[:2])
    net.save(folder / "net.npz")


@_kind("net.npz", _net)
def saved_net(folder):
    _load(FullyConnectedNet([2], 3, 2, normalization="batchnorm"), folder / "net.npz")


def _load(net, path):
    before = net.params
    try:
        net.load(path)
    except ValueError:
        assert net.params is before
        raise
    assert {k: w.shape for k, w in net.params.items()} == {k: w.shape for k, w in before.items()}
    assert all(w.dtype.kind == "f" for w in net.params.values())


def _course_net(folder):
    with open(folder / "net.npy", "wb") as file:
        np.save(file, TwoLayerNet(3, 2, 2).params)


@_kind("net.npy", _course_net)
def course_net(folder):
    _load(TwoLayerNet(3, 2, 2), folder / "net.npy")


def _imagenet(folder):
    arrays = {"X": np.ones((2, 4, 4, 3), np.uint8), "y": np.arange(2)}
    np.savez(folder / "val.npz", **arrays, label_map=np.array({0: "fish", 1: "bird"}, object))


@_kind("val.npz", _imagenet)
def imagenet_val(folder):
    X, y, names = load_imagenet_val(imagenet_file=folder / "val.npz")
    assert X.ndim == 4 and y.shape == X.shape[:1] and isinstance(names, dict)


KEY = {"training": [1, 2.5, None], "level": "v3"}


def _record(folder):
    Store(folder, "trainings").save(KEY, {"loss_history": [1.5, None], "best": 0.25})
    (path,) = (folder / "trainings").iterdir()
    path.rename(folder / "trainings" / "record.json")


@_kind("trainings/record.json", _record)
def experiment_record(folder):
    store = Store(folder, "trainings")
    store._path = lambda key: str(folder / "trainings" / "record.json")
    assert store.load(KEY) in (None, {"loss_history": [1.5, None], "best": 0.25})


def _asv(folder):
    case = {("both", "float32", "small"): 0.5, ("both", "float32", "large"): None}
    results = asv_results.run({"Conv ratio": case, "Conv rate": case}, machine="vm", level=3)
    asv_results.write(folder, results)
    (folder / "vm" / ("a" * 8 + "-env0.json")).rename(folder / "vm" / "result.json")


@_kind("vm/result.json", _asv, errors=UserError)
def asv_result(folder):
    for run in _results.read(str(folder)).runs:
        for row in run.values.values():
            assert all(value is None or 0 < value < 1e10 for value in row.values())


@_kind("benchmarks.json", _asv, errors=UserError)
def asv_benchmarks(folder):
    asv_result(folder)


def _tiny_imagenet(folder):
    (folder / "wnids.txt").write_text("n01\n")
    (folder / "words.txt").write_text("n01\tfish, small fish\n")
    for place in ("train/n01/images", "val/images", "test/images"):
        (folder / place).mkdir(parents=True)
        image = Image.fromarray(np.full((64, 64, 3), 77, np.uint8))
        image.save(folder / place / "0.JPEG", format="JPEG")
    (folder / "train/n01/n01_boxes.txt").write_text("0.JPEG\t0\t0\t63\t63\n")
    (folder / "val/val_annotations.txt").write_text("0.JPEG\tn01\t0\t0\t63\t63\n")


def _read_tiny_imagenet(folder):
    data = load_tiny_imagenet(folder)
    assert data["X_train"].shape == (len(data["y_train"]), 3, 64, 64)
    assert np.isfinite(data["X_train"]).all() and data["X_train"].dtype == np.float32


for _name, _file in (
    ("image", "train/n01/images/0.JPEG"),
    ("classes", "wnids.txt"),
    ("words", "words.txt"),
    ("annotations", "val/val_annotations.txt"),
):
    # A changed name is one of a file that is not there.
    KINDS[f"tiny_imagenet_{_name}"] = Kind(
        _file, _tiny_imagenet, _read_tiny_imagenet, (ValueError, OSError)
    )


#: What is put into a file: numbers at the limits, claims of gigabytes, names, opcodes, nests.
PIECES = (
    b"", b"\0", b"\xff", b"\n", b"\t", b"-1", b"1e999", b"NaN", b"Infinity", b"null", b"true",
    b"9" * 30, b"9" * 5000, b'"\\ud800"', b"[" * 3000, b'{"a":' * 3000, b"0" * 100,
    b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80" * 2, b"\xff" * 8,
    # Calls and imports by name, in every way that a pickle has.
    b"cantigravity\nfly\n", b"cos\nsystem\n", b"(S'true'\nios\nsystem\n", b"\x93", b")R", b"(tR",
    b"\x8c\x0bantigravity\x8c\x03fly\x93", b")\x81", b"}\x92", b"}b", b"(o", b"\x82\x01", b"Pid\n",
    b"\x51", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"c__builtin__\neval\n",
    b"c_codecs\nencode\n",
    # Lengths and places that no file backs; nests; ends.
    b"\x8d" + b"\xff" * 7 + b"\x0f",
    b"\x8e" + b"\xff" * 5 + b"\0\0\0", b"\x96" + b"\xff" * 5 + b"\0\0\0",
    b"\x95" + b"\xff" * 7 + b"\x7f", b"\x8b\xff\xff\xff\x7f", b"\x8a\xff", b"r\xff\xff\xff\xff",
    b"p9999999999\n", b"j\xff\xff\xff\xff", b"](" * 2000, b"(" * 2000, b"2\x86" * 40, b"]2a" * 30,
    b"0", b"1", b"2", b"e", b"a", b"s", b"u", b"\x85", b"\x87", b"\x8f", b"\x90", b"\x91", b"\x97",
    b"\x98", b".",
    b"N", b"I01\n", b"F1e400\n", b"L" + b"9" * 4000 + b"L\n", b"\x80\x05", b"K\x05",
    # npy: shapes and dtypes.
    b"(1099511627776,)", b"'<f8'", b"'|O'", b"'<U9'", b"[('a','<i4')]", b"(-1,)", b"(2,)*9",
)  # fmt: skip

_seen: list[str] = []
_watching = False
_NEVER = (
    "os.",
    "subprocess.",
    "shutil.",
    "socket.",
    "ctypes.",
    "exec",
    "pty.",
    "urllib.",
    "pickle.",
)
_READS = ("os.listdir", "os.scandir", "os.walk")


def _audit(event, args):
    """Note what reading a file never does. A hook stays for as long as Python runs."""
    if not _watching:
        return
    if event == "exec" and os.path.dirname(args[0].co_filename) == _CODECS:
        return  # a text in one of Python's own encodings
    if event.startswith(_NEVER) and event not in _READS:
        _seen.append(f"{event} {args}")
    elif event == "import" and args[0] == "antigravity":
        _seen.append(f"import {args[0]}")
    elif event == "open" and (set("wax+") & set(str(args[1] or "")) or args[2] & _WRITES):
        _seen.append(f"open {args}")


_CODECS = os.path.dirname(encodings.__file__)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@functools.cache
def _hooked():
    sys.addaudithook(_audit)


@contextlib.contextmanager
def watched():
    """An AssertionError if anything is run, imported by name, written or removed within."""
    global _watching
    _hooked()
    _seen.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False
    if _seen:
        raise AssertionError(f"reading a file did {_seen}")


@functools.cache
def _good(name):
    """The folder and the content of a good file, which has been read once."""
    folder = tempfile.TemporaryDirectory()
    path, kind = Path(folder.name), KINDS[name]
    kind.write(path)
    kind.read(path)
    return folder, path, (path / kind.file).read_bytes()


def content(name):
    """What a good file of a kind holds."""
    return _good(name)[2]


def read(name, content):
    """Read a file with `content` in the place of that of a good one: "read" or "refused"."""
    _, folder, _ = _good(name)
    kind = KINDS[name]
    (folder / kind.file).write_bytes(content)
    with warnings.catch_warnings(), watched():
        warnings.simplefilter("error")
        try:
            kind.read(folder)
        except kind.errors as error:
            if not str(error):
                raise AssertionError("an error without a word") from error
            return "refused"
    return "read"


class Damage:
    """Damages files from `random` and reads them."""

    def __init__(self, random):
        self.random = random
        self.calls = 0

    def step(self):
        name = self.random.choice(list(KINDS))
        damaged = content(name)
        for _ in range(self.random.choice((1, 1, 1, 2, 3, 8))):
            damaged = self.edit(damaged)
        self.called, self.calls = name, self.calls + 1
        return read(name, damaged)

    def edit(self, content):
        random = self.random
        start = random.randrange(len(content) + 1)
        if random.random() < 0.3:  # where the structure is, in most
            start = min(start, random.randrange(200))
        length = random.choice((0, 1, 1, 2, 4, 8, 100))
        which = random.randrange(6)
        if which == 0:
            return content[:start]
        if which == 1 and start < len(content):
            bit = 1 << random.randrange(8)
            return content[:start] + bytes([content[start] ^ bit]) + content[start + 1 :]
        if which == 2:
            return content[:start] + content[start + length :]
        if which == 3:
            return content[: start + length] + content[start:]
        if which == 4:
            return content[:start] + random.randbytes(length) + content[start + length :]
        return (
            content[:start] + random.choice(PIECES) + content[start + random.choice((0, length)) :]
        )
