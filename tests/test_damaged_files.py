"""A damaged file is read as something valid or refused, and does nothing: `damaged_files.py`."""

import collections
import io
import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import damaged_files
import numpy as np
import pytest
from damaged_files import KINDS, PIECES

from fastbn._plain_pickle import load, load_npy
from fastbn.data_utils import load_pickle

#: What has no end of its own, or is passed over if it is damaged.
LENIENT = (
    "experiment_record",
    "asv_benchmarks",
    *(f"tiny_imagenet_{text}" for text in ("classes", "words", "annotations")),
)


@pytest.mark.parametrize("name", KINDS)
def test_good(name):
    assert damaged_files.read(name, damaged_files.content(name)) == "read"


@pytest.mark.parametrize("name", KINDS)
def test_cut_at_every_length(name):
    content = damaged_files.content(name)
    step = 7 if name == "models" else 1  # which are read from a checkpoint, as a checkpoint is
    for length in range(0, len(content), step):
        outcome = damaged_files.read(name, content[:length])
        assert outcome == "refused" or name in LENIENT, length


@pytest.mark.parametrize("name", KINDS)
def test_flipped_bits(name):
    """A bit of every fourth byte; every one of the short files."""
    content = damaged_files.content(name)
    outcomes = collections.Counter()
    for place in range(0, len(content), 1 + len(content) // 250):
        for bit in range(8) if len(content) < 50 else (place % 8,):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            outcomes[damaged_files.read(name, bytes(damaged))] += 1
    assert outcomes["refused"] or name in LENIENT


def test_damage_of_every_kind():
    outcomes = collections.Counter()
    for seed in range(1500):
        damage = damaged_files.Damage(random.Random(seed))
        try:
            outcomes[damage.step()] += 1
        except BaseException:
            print(damage.called, seed)
            raise
    assert outcomes["read"] > 100 and outcomes["refused"] > 500


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("name", ["cifar_batch", "checkpoint", "course_net"])
def test_pieces_where_a_pickle_starts_and_ends(name, piece):
    content = damaged_files.content(name)
    start = content.index(b"\x80")
    for damaged in (
        content[:start] + piece + content[start:],
        content[: start + 2] + piece + content[start + 2 :],
        content[:-1] + piece + content[-1:],
        content[: start + 2] + piece + b".",
    ):
        damaged_files.read(name, damaged)


@pytest.mark.parametrize("name", ["experiment_record", "asv_result"])
def test_pieces_where_json_starts(name):
    content = damaged_files.content(name)
    for piece in PIECES:
        damaged_files.read(name, piece + content)
        damaged_files.read(name, content[:8] + piece + content[8:])


@pytest.mark.parametrize("names", [False, True])
@pytest.mark.parametrize(
    "opcode", [b"\x8e", b"\x96", b"\x8d", b"\x95"], ids=["bytes", "bytearray", "text", "frame"]
)
def test_a_claim_of_gigabytes_takes_none(opcode, names, tmp_path):
    path = tmp_path / "claim"
    path.write_bytes(b"\x80\x05" + opcode + struct.pack("<Q", 1 << 33) + b"abc.")
    tracemalloc.start()
    try:
        with open(path, "rb") as file, pytest.raises(ValueError, match="not a readable pickle"):
            load(file, names)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_an_npy_of_gigabytes_takes_none():
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 30,)}
    )
    file.seek(0)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="cannot reshape array of size 0"):
            load_npy(file)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 21) + 1])
@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("writable", [True, False])
def test_what_is_read_in_pieces_is_whole(size, protocol, writable):
    array = np.random.default_rng(0).integers(0, 255, size, np.uint8)
    array.flags.writeable = writable
    again = load_pickle(io.BytesIO(pickle.dumps({"a": array, "b": 3}, protocol)))
    np.testing.assert_array_equal(again["a"], array)
    assert again["b"] == 3 and again["a"].flags.writeable


@pytest.mark.parametrize(
    "act",
    [
        lambda path: open(path, "w").close(),
        lambda path: os.close(os.open(path, os.O_RDWR | os.O_CREAT)),
        lambda path: os.remove(path),
        lambda path: shutil.copy(path, f"{path}2"),
        lambda path: os.mkdir(f"{path}3"),
        lambda path: os.system("true"),
        lambda path: subprocess.run([sys.executable, "-V"], capture_output=True, check=True),
        lambda path: exec("1"),
        lambda path: pickle.loads(pickle.dumps(np.arange(3))),
    ],
)
def test_the_law_notices(act, tmp_path):
    (tmp_path / "a").write_text("a")
    with pytest.raises(AssertionError, match="reading a file did"), damaged_files.watched():
        act(str(tmp_path / "a"))


def test_the_long_run_damages_files(tmp_path):
    state = tmp_path / "state.json"
    command = [sys.executable, Path(__file__).with_name("fuzz.py"), state, "--what", "files"]
    options = ["--seeds", "60", "--block", "30"]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = json.loads(state.read_text())["outcomes"]
    assert outcomes["calls"] == 60 == outcomes["read"] + outcomes["refused"]
    # A run of one thing is not gone on with as one of another.
    done = subprocess.run([*command[:3], *options], capture_output=True, text=True)
    assert done.returncode == 2 and "is of files" in done.stderr
