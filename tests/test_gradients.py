"""Every backward function against central differences of its forward function, in float64."""

import copy

import numpy as np
import operations
import pytest

from fastbn import layer_utils, layers, reference
from fastbn.gradient_check import eval_numerical_gradient_array, rel_error

BOUND = 1e-6


def _numeric(forward, arguments, name, dout):
    """Central differences; parameter dicts are copied, so that no call changes the next."""

    def value(array):
        changed = {**copy.deepcopy(arguments), name: array}
        return np.asarray(forward(*changed.values())[0])

    return eval_numerical_gradient_array(value, arguments[name].copy(), dout, h=1e-5)


def _check(forward, backward, arguments):
    differentiable = [n for n, v in arguments.items() if isinstance(v, np.ndarray)]
    out, cache = forward(*copy.deepcopy(arguments).values())
    dout = np.random.default_rng(5).standard_normal(out.shape)
    gradients = backward(dout, cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    for name, gradient in zip(differentiable, gradients, strict=True):
        error = rel_error(gradient, _numeric(forward, arguments, name, dout))
        assert error < BOUND, f"d{name}: {error:.2e}"


@pytest.mark.parametrize("module", [layers, reference], ids=["fastbn", "reference"])
@pytest.mark.parametrize("operation", operations.OPERATIONS, ids=operations.operation_id)
def test_layers(operation, module, rng):
    _check(
        getattr(module, operation.forward),
        getattr(module, operation.backward),
        operation.arguments(rng),
    )


@pytest.mark.parametrize("module", [layers, reference], ids=["fastbn", "reference"])
@pytest.mark.parametrize("name", ["softmax_loss", "svm_loss"])
def test_losses(name, module, rng):
    loss = getattr(module, name)
    x, y = rng.standard_normal((6, 5)), rng.integers(5, size=6)
    numeric = eval_numerical_gradient_array(lambda a: np.asarray(loss(a, y)[0]), x, 1.0, h=1e-5)
    assert rel_error(loss(x, y)[1], numeric) < BOUND


@pytest.mark.parametrize("name", operations.COMPOSED)
def test_composed_layers(name, rng):
    arguments = operations.COMPOSED[name](rng)
    forward = getattr(layer_utils, name + "_forward")
    backward = getattr(layer_utils, name + "_backward")
    if "bn" not in name and "ln" not in name:
        _check(forward, backward, arguments)
        return
    # A bias before a normalization has no effect: its gradient is rounding noise around zero.
    out, cache = forward(*copy.deepcopy(arguments).values())
    dout = rng.standard_normal(out.shape)
    for key, gradient in zip(("x", "w", "b", "gamma", "beta"), backward(dout, cache), strict=True):
        numeric = _numeric(forward, arguments, key, dout)
        if key == "b" and "bn" in name:
            np.testing.assert_allclose([gradient, numeric], 0, atol=1e-9)
        else:
            assert rel_error(gradient, numeric) < BOUND, key


def test_every_composed_layer_is_checked():
    names = {n for n in operations.public_functions(layer_utils) if n.endswith("relu_forward")}
    names |= {n for n in operations.public_functions(layer_utils) if "_pool_forward" in n}
    own = {n for n in names if not hasattr(layers, n)}
    assert own == {name + "_forward" for name in operations.COMPOSED}
