"""Any call of a public function answers as the reference does or refuses: `fuzzing.py`'s law.

A few thousand calls, by Hypothesis; `fuzz.py` makes millions.
"""

import collections
import json
import random
import subprocess
import sys
from pathlib import Path

import fuzzing
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from operations import public_functions

import fastbn
from fastbn import convert, data_utils, gradient_check, layer_utils, layers, optim, vis_utils


@given(st.randoms(use_true_random=False))
@settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_answers_as_the_reference_or_refuses(num_threads, chance):
    with fuzzing.settings_kept():
        fuzzing.Fuzzer(chance).step()


def test_every_public_function_is_called():
    called = {name for target in fuzzing.TARGETS for name in (target.forward, target.backward)}
    for module in (layers, layer_utils, optim, convert, data_utils, gradient_check, vis_utils):
        assert set(public_functions(module)) & set(module.__all__) <= called
    # The others take no arguments, or IPython.
    of_package = set(public_functions(fastbn)) & set(fastbn.__all__)
    assert {n for n in of_package if not n.startswith(("get_", "load_", "unload_"))} <= called


def test_good_arguments_are_common_and_bad_ones_too():
    outcomes = collections.Counter()
    with fuzzing.settings_kept():
        for seed in range(400):
            fuzzer = fuzzing.Fuzzer(random.Random(seed))
            outcomes[fuzzer.step(), fuzzer.kind] += 1
    assert outcomes["equal", fuzzing.GOOD] > 100
    assert outcomes["refused", fuzzing.BAD] > 50


@pytest.mark.parametrize("wrong", ["value", "dtype", "refuses", "writes", "warns"])
def test_the_law_notices(wrong, monkeypatch):
    right = layers.relu_forward

    def relu_forward(x):
        if wrong == "refuses":
            raise ValueError("no")
        out, cache = right(x)
        if wrong == "value":
            out = out + 1e-3
        if wrong == "dtype":
            out = out.astype(int)
        if wrong == "writes":
            x += 1
        if wrong == "warns":
            fuzzing.np.log(out * 0)
        return out, cache

    relu = next(t for t in fuzzing.TARGETS if t.forward == "relu_forward")
    monkeypatch.setattr(fuzzing, "TARGETS", [relu])
    monkeypatch.setattr(layers, "relu_forward", relu_forward)
    noticed = 0
    for seed in range(40):
        try:
            fuzzing.Fuzzer(random.Random(seed)).step()
        except (AssertionError, RuntimeWarning):
            noticed += 1
    assert noticed > 5


def test_the_long_run_goes_on_where_it_was(tmp_path):
    def run(seeds):
        command = [sys.executable, Path(__file__).with_name("fuzz.py"), tmp_path / "state.json"]
        options = ["--seeds", str(seeds), "--block", "50", "--jobs", "2"]
        done = subprocess.run([*command, *options], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads((tmp_path / "state.json").read_text())

    first, second = run(100), run(200)
    for state, seeds in ((first, 100), (second, 200)):
        calls = state["outcomes"].pop("calls")
        assert sum(state["outcomes"].values()) == seeds < calls < 2 * seeds
    assert first["findings"] == second["findings"] == []
    assert set(first["blocks"]) < set(second["blocks"])


def test_the_long_run_names_the_call_that_crashed_or_hung(tmp_path):
    state = tmp_path / "state.json"
    # Without a fault no call takes long; the limit leaves room for a busy machine.
    for fault, word in (("crash", "crashed with status"), ("hang", "no answer within 5.0 s")):
        command = [sys.executable, Path(__file__).with_name("fuzz.py"), state]
        options = ["--seeds", "20", "--block", "20", "--seconds", "5", "--fault", f"{fault}:7"]
        done = subprocess.run([*command, *options], capture_output=True, text=True)
        assert done.returncode == 1
        (finding,) = json.loads(state.read_text())["findings"]
        assert finding["seed"] == 7 and word in finding["error"]
        state.unlink()


def test_settings_are_put_back():
    def settings():
        limit = fastbn.show_config("dict")["memory"]["reuse limit"]
        convention = fastbn.get_dropout_convention()
        return fastbn.get_num_threads(), fastbn.get_conv_algorithm(), convention, limit

    before = settings()
    try:
        fastbn.set_reuse_limit(1 << 21)
        inner = settings()
        with fuzzing.settings_kept():
            fastbn.set_num_threads(1)
            fastbn.set_conv_algorithm("direct")
            fastbn.set_dropout_convention("drop")
            fastbn.set_reuse_limit(0)
        assert settings() == inner
    finally:
        fastbn.set_reuse_limit(before[3])
    assert settings() == before
