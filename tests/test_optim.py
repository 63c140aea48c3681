"""Update rules: the published figures, dtypes, and what happens to the arguments."""

import inspect
import re

import numpy as np
import pytest

from fastbn import optim

RULES = (optim.sgd, optim.sgd_momentum, optim.rmsprop, optim.adam)


@pytest.fixture(params=RULES, ids=lambda rule: rule.__name__)
def rule(request):
    return request.param


@pytest.fixture
def weights():
    w = np.linspace(-0.4, 0.6, 20).reshape(4, 5)
    dw = np.linspace(-0.6, 0.4, 20).reshape(4, 5)
    return w, dw


def ramp(start, stop):
    return np.linspace(start, stop, 20).reshape(4, 5)


def assert_published(array, first_row, last):
    np.testing.assert_array_equal(np.round(array[0], 8), first_row)
    assert round(array[-1, -1], 8) == last


def test_sgd_momentum_published(weights):
    config = {"learning_rate": 1e-3, "velocity": ramp(0.6, 0.9)}
    next_w, config = optim.sgd_momentum(*weights, config)
    assert_published(next_w, [0.1406, 0.20738947, 0.27417895, 0.34096842, 0.40775789], 1.4096)
    assert_published(
        config["velocity"], [0.5406, 0.55475789, 0.56891579, 0.58307368, 0.59723158], 0.8096
    )


def test_rmsprop_published(weights):
    config = {"learning_rate": 1e-2, "cache": ramp(0.6, 0.9)}
    next_w, config = optim.rmsprop(*weights, config)
    assert_published(
        next_w, [-0.39223849, -0.34037513, -0.28849239, -0.23659121, -0.18467247], 0.59576619
    )
    assert_published(
        config["cache"], [0.5976, 0.6126277, 0.6277108, 0.64284931, 0.65804321], 0.8926
    )


def test_adam_published(weights):
    config = {"learning_rate": 1e-2, "m": ramp(0.6, 0.9), "v": ramp(0.7, 0.5), "t": 5}
    next_w, config = optim.adam(*weights, config)
    assert_published(
        next_w, [-0.40094747, -0.34836187, -0.29577703, -0.24319299, -0.19060977], 0.59801459
    )
    assert_published(
        config["v"], [0.69966, 0.68908382, 0.67851319, 0.66794809, 0.65738853], 0.49966
    )
    assert_published(config["m"], [0.48, 0.49947368, 0.51894737, 0.53842105, 0.55789474], 0.85)
    assert config["t"] == 6


def test_adam_first_step_is_one_learning_rate(weights):
    # t starts at 0 and counts before it is used, so that both corrections are exact at once.
    w, dw = weights
    next_w, config = optim.adam(w, dw)
    np.testing.assert_allclose(w - next_w, 1e-3 * np.sign(dw), rtol=1e-6)
    assert config["t"] == 1


@pytest.mark.parametrize("spelling", [("w", "dw"), ("x", "dx"), ("w", "dx")])
def test_spellings(rule, spelling, weights):
    w, dw = weights
    expected, expected_config = rule(w.copy(), dw)
    first, second = spelling
    for next_w, config in (
        rule(**{first: w.copy(), second: dw}),
        rule(w.copy(), **{second: dw}, config={}),
    ):
        np.testing.assert_array_equal(next_w, expected)
        assert config.keys() == expected_config.keys()
    assert list(inspect.signature(rule).parameters) == ["w", "dw", "config"]
    with pytest.raises(TypeError, match="dw and dx are two spellings of one argument"):
        rule(w=w, dw=dw, dx=dw)
    with pytest.raises(TypeError, match="multiple values for argument 'w'"):
        rule(w, dw, x=w)


def test_sgd_is_in_place(weights):
    w, dw = weights
    expected = w - 1e-2 * dw
    next_w, config = optim.sgd(w, dw)
    assert next_w is w
    np.testing.assert_array_equal(w, expected)
    assert config == {"learning_rate": 1e-2}


@pytest.mark.parametrize("rule", RULES[1:], ids=lambda rule: rule.__name__)
def test_others_leave_their_arguments(rule, weights):
    w, dw = weights
    before = w.copy(), dw.copy()
    _, config = rule(w, dw)
    state = {name: value for name, value in config.items() if isinstance(value, np.ndarray)}
    copies = {name: value.copy() for name, value in state.items()}
    next_w, _ = rule(w, dw, config)
    assert not np.shares_memory(next_w, w)
    np.testing.assert_array_equal(w, before[0])
    np.testing.assert_array_equal(dw, before[1])
    for name, value in copies.items():
        np.testing.assert_array_equal(state[name], value)


def test_config_is_filled_and_returned(rule, weights):
    config = {"learning_rate": 0.5, "note": "kept"}
    _, returned = rule(*weights, config)
    assert returned is config
    assert config["learning_rate"] == 0.5
    assert config["note"] == "kept"


def test_defaults():
    def hyperparameters(rule):
        _, config = rule(np.ones(1), np.ones(1))
        return {key: value for key, value in config.items() if not isinstance(value, np.ndarray)}

    assert hyperparameters(optim.sgd) == {"learning_rate": 1e-2}
    assert hyperparameters(optim.sgd_momentum) == {"learning_rate": 1e-2, "momentum": 0.9}
    assert hyperparameters(optim.rmsprop) == {
        "learning_rate": 1e-2,
        "decay_rate": 0.99,
        "epsilon": 1e-8,
    }
    assert hyperparameters(optim.adam) == {
        "learning_rate": 1e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "t": 1,
    }


@pytest.mark.parametrize("rate", [1e-2, np.float64(1e-2)], ids=["float", "numpy.float64"])
def test_float32_stays_float32(rule, rate, weights):
    w, dw = (array.astype(np.float32) for array in weights)
    config = {"learning_rate": rate}
    for _ in range(3):
        w, config = rule(w, dw, config)
    assert w.dtype == np.float32
    for value in config.values():
        assert not isinstance(value, np.ndarray) or value.dtype == np.float32


def test_descends(rule):
    w, config = np.array([3.0, -2.0]), {"learning_rate": 0.02}
    for _ in range(500):
        w, config = rule(w, 2 * w, config)
    assert np.abs(w).max() < 0.1


def test_gradient_may_broadcast(rule):
    next_w, _ = rule(np.zeros((3, 4)), np.ones(4))
    assert next_w.shape == (3, 4)


def test_rejects_gradient_of_another_shape(rule):
    with pytest.raises(ValueError, match=r"dw must broadcast to the shape of w, \(4,\); got .*3"):
        rule(np.zeros(4), np.zeros(3))
    with pytest.raises(ValueError, match="dw must broadcast"):
        rule(np.zeros(4), np.zeros((1, 4)))


def test_rejects_bad_config(rule):
    with pytest.raises(TypeError, match="config must be a dict or None; got float"):
        rule(np.zeros(4), np.zeros(4), 1e-3)
    config = {"learning_rate": "fast"}
    with pytest.raises(TypeError, match=r"config\['learning_rate'\] must be a number; got 'fast'"):
        rule(np.zeros(4), np.zeros(4), config)
    assert config.get("t", 0) == 0


@pytest.mark.parametrize(
    ("rule", "change", "error", "message"),
    [
        (optim.adam, {"beta1": 1}, ValueError, "'beta1'] must be at least 0 and below 1; got 1.0"),
        (optim.adam, {"beta2": -0.1}, ValueError, "'beta2'] must be at least 0 and below 1; got -"),
        (optim.adam, {"beta2": np.nan}, ValueError, "'beta2'] must be at least 0 and below 1; got"),
        (optim.adam, {"t": -1}, ValueError, "'t'] must be at least 0, a count of steps; got -1.0"),
        (optim.adam, {"epsilon": 10**400}, TypeError, "'epsilon'] must be a number; got 1000"),
        (optim.adam, {"v": np.ones(3)}, ValueError, "'v'] must have the shape of w, (4,); got (3,"),
        (optim.adam, {"m": np.ones(4, complex)}, TypeError, "'m'] must hold real numbers; got dty"),
        (
            optim.rmsprop,
            {"cache": np.ones((1, 4))},
            ValueError,
            "'cache'] must have the shape of w",
        ),
        (optim.sgd_momentum, {"velocity": 0.0}, ValueError, "'velocity'] must have the shape of w"),
    ],
)
def test_a_bad_state_changes_nothing(rule, change, error, message):
    w, dw = np.ones(4), np.ones(4)
    with pytest.raises(error, match=re.escape(message)):
        rule(w, dw, change)
    assert len(change) == 1 and (w == 1).all() and (dw == 1).all()


def test_rejects_what_is_no_array_of_floats(rule):
    for w, got in (
        (np.arange(4, dtype="i8"), "dtype int64"),
        ([1.0], "list"),
        (np.ones(4, complex), "complex"),
    ):
        with pytest.raises(TypeError, match=f"w must be an array of floats; got .*{got}"):
            rule(w, np.ones(4))
    with pytest.raises(TypeError, match="dw must hold real numbers; got dtype <U1"):
        rule(np.ones(1), np.array(["1"]))


def test_sgd_refuses_weights_that_it_may_not_write():
    w = np.ones(4)
    w.flags.writeable = False
    with pytest.raises(ValueError, match="w must be writeable.*it is read-only"):
        optim.sgd(w, np.ones(4))
