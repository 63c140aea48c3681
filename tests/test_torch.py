"""PyTorch as a judge that knows nothing of our reference.

Its own samples of its operators (`torch_samples.py` turns them into arguments of ours), its
gradient check, and the points where the two are known to differ. It runs where PyTorch is
installed: `pip install '.[torch]'`. gradgradcheck does not apply: our backward functions return
arrays, which have no gradient of their own.
"""

import collections
import copy
import math
import warnings

import cases
import numpy as np
import operations
import pytest

from fastbn import _arguments as arguments
from fastbn import layer_utils, layers

pytest.importorskip("expecttest", reason="PyTorch's samples need expecttest")
torch = pytest.importorskip("torch", reason="PyTorch is not installed")

with warnings.catch_warnings():  # what PyTorch's own test modules warn of is not ours
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

import torch_counterparts  # noqa: E402
import torch_samples  # noqa: E402

ADAPTERS = torch_samples.ADAPTERS
F = torch.nn.functional
OPERATORS = {op.name: op for op in op_db if not op.variant_test_name}

#: What the samples of this version come to: how many ran, and how many have no counterpart and why.
VERSION = "2.13."
COUNTS = {
    "nn.functional.conv2d": (8, {"groups": 16, "dilation": 6}),
    "nn.functional.max_pool2d": (
        230,
        {
            "dilation": 720,
            "stride differs by axis": 360,
            "ceil_mode, where it adds windows": 130,
        },
    ),
    "nn.functional.batch_norm": (10, {"input of one axis": 2}),
    "nn.functional.layer_norm": (5, {"eps below 0": 1}),
    "native_layer_norm": (16, {"eps below 0": 4}),
    "nn.functional.group_norm": (29, {"eps below 0": 4}),
    "nn.functional.instance_norm": (9, {}),
    "nn.functional.linear": (18, {}),
    "nn.functional.relu": (41, {}),
    "nn.functional.dropout": (9, {"another random stream": 4, "dropping everything": 6}),
    "nn.functional.cross_entropy": (8, {"probabilities as targets": 10, "weights of classes": 3}),
    "nn.functional.multi_margin_loss": (
        23,
        {"squared margins": 97, "a margin of 0 or less": 65, "weights of classes": 17},
    ),
    "nn.functional.unfold": (37, {"dilation": 108, "stride differs by axis": 18}),
    "nn.functional.fold": (37, {"dilation": 108, "stride differs by axis": 18}),
}
#: Likewise of the arguments that PyTorch says are wrong: how many ours refuses as well.
ERRORS = {
    "nn.functional.conv2d": (
        2,
        {
            "dtypes that differ, which ours promotes": 2,
            "groups": 4,
            "dilation": 1,
            "padding that differs by side": 1,
        },
    ),
    "nn.functional.max_pool2d": (
        3,
        {"padding, which is NumPy's": 2, "no channels, which are none to pool": 2},
    ),
    "native_layer_norm": (2, {"normalized_shape, which ours reads off x": 2}),
    "nn.functional.group_norm": (1, {"input of one axis": 1}),
    "nn.functional.multi_margin_loss": (
        4,
        {"weights of classes": 3, "squared margins": 1, "reduction, which ours has not": 1},
    ),
}


@pytest.fixture(autouse=True)
def _one_thread():
    """Samples are small, and two pools of threads in turn cost more than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _reference(name):
    return getattr(F, name.removeprefix("nn.functional."), None) or OPERATORS[name].op


def _samples(name, dtype):
    torch.manual_seed(231)
    if name != "nn.functional.fold":
        for sample in OPERATORS[name].reference_inputs("cpu", dtype, requires_grad=True):
            # A leaf of its own: some samples are views whose gradients PyTorch does not follow.
            sample.input = sample.input.detach().requires_grad_()
            yield sample
        return
    for sample in _samples("nn.functional.unfold", dtype):
        cols = F.unfold(sample.input, *sample.args, **sample.kwargs).detach().requires_grad_()
        sample.args = (sample.input.shape[-2:], *sample.args)
        sample.input = cols
        yield sample


def _same(actual, expected, dtype, terms, scale):
    assert actual.dtype == dtype
    bound = cases.tolerance(dtype, terms) * scale
    actual = actual.reshape(expected.shape)
    np.testing.assert_allclose(actual, expected, rtol=cases.tolerance(dtype), atol=bound)


def _judge(ours, sample, reference, dtype):
    """One counterpart's output and gradients against PyTorch's."""
    out, backward = ours.run()
    arguments = [a.clone() if isinstance(a, torch.Tensor) else a for a in sample.args]
    expected = reference(sample.input, *sample.args, **sample.kwargs)
    expected = expected[0] if isinstance(expected, tuple) else expected
    _same(np.asarray(out, dtype), expected.detach().numpy(), dtype, ours.terms, ours.scale)
    ours.after()
    sample.args = tuple(arguments)  # running statistics were updated in place
    leaves = {
        i: t for i, t in enumerate(ours.leaves) if isinstance(t, torch.Tensor) and t.requires_grad
    }
    assert 0 in leaves
    dout = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, list(leaves.values()), dout)
    gradients = backward(dout.numpy())
    scale = ours.scale * max(1.0, float(dout.abs().max()) if dout.numel() else 1.0)
    for i, gradient in zip(leaves, wanted, strict=True):
        _same(np.asarray(gradients[i], dtype), gradient.numpy(), dtype, ours.terms, scale)


@pytest.mark.parametrize("name", ADAPTERS)
def test_samples(name, dtype, record_property):
    ran, without = 0, collections.Counter()
    for sample in _samples(name, getattr(torch, dtype.__name__)):
        try:
            counterparts = list(ADAPTERS[name](sample))
        except torch_counterparts.NoCounterpart as reason:
            without[str(reason)] += 1
            continue
        assert counterparts
        for ours in counterparts:
            _judge(ours, sample, _reference(name), dtype)
        ran += 1
    assert ran
    _record(record_property, f"{name} {dtype.__name__}", ran, without, COUNTS[name])


def _record(record_property, name, ran, without, expected):
    """Say how many ran, in the summary of the run; and hold them to what they were."""
    reasons = "; ".join(f"{reason} {count}" for reason, count in without.items())
    ends = f", {without.total()} have no counterpart: {reasons}" if without else ""
    record_property("torch", f"{name}: {ran} ran{ends}")
    if torch.__version__.startswith(VERSION):
        assert (ran, dict(without)) == expected


@pytest.mark.parametrize("name", ERRORS)
def test_wrong_arguments(name, record_property):
    refused, without = 0, collections.Counter()
    for error in OPERATORS[name].error_inputs("cpu"):
        try:
            counterparts = list(ADAPTERS[name](error.sample_input))
        except torch_counterparts.NoCounterpart as reason:
            without[str(reason)] += 1
            continue
        for ours in counterparts:
            with pytest.raises((ValueError, TypeError)):
                ours.run()
        refused += 1
    _record(record_property, f"{name}, errors", refused, without, ERRORS[name])


def _as_function(forward, backward, arguments):
    """A torch.autograd.Function of a pair of ours, and the tensors that it takes."""
    names = [name for name, value in arguments.items() if isinstance(value, np.ndarray)]

    class Pair(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            changed = dict(zip(names, (t.detach().numpy() for t in tensors), strict=True))
            # Copies: a forward pass may write into its parameter dict, and each must begin alike.
            out, ctx.cache = forward(*copy.deepcopy({**arguments, **changed}).values())
            return torch.from_numpy(np.array(out))

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, dout):
            gradients = operations.as_tuple(backward(dout.numpy(), ctx.cache))
            return tuple(torch.from_numpy(np.array(gradient)) for gradient in gradients)

    return Pair.apply, [torch.from_numpy(arguments[n].copy()).requires_grad_() for n in names]


def _gradcheck(forward, backward, arguments):
    # The whole Jacobian, and the backward pass twice: it must give the same bits.
    function, tensors = _as_function(forward, backward, arguments)
    assert torch.autograd.gradcheck(
        function, tensors, eps=1e-6, atol=1e-7, rtol=1e-6, nondet_tol=0.0, fast_mode=False
    )


@pytest.fixture
def _random_state():
    state = np.random.get_state()
    yield
    np.random.set_state(state)


@pytest.mark.parametrize("operation", operations.OPERATIONS, ids=operations.operation_id)
def test_gradcheck(operation, rng, _random_state):
    forward, backward = getattr(layers, operation.forward), getattr(layers, operation.backward)
    _gradcheck(forward, backward, operation.arguments(rng))


SMALL = 150  # numbers of x: the Jacobian has a row for each


def _small(shapes):
    return [case for case in shapes if 0 < math.prod(case[0]) <= SMALL]


@pytest.mark.parametrize("case", [c for c in _small(cases.CONVOLUTIONS) if c[1]], ids=str)
def test_gradcheck_of_convolutions(case, rng):
    shape, F, HH, WW, stride, pad = case
    make = arguments.conv(shape, (F, shape[1], HH, WW), stride, pad)
    _gradcheck(layers.conv_forward_fast, layers.conv_backward_fast, make(rng))


@pytest.mark.parametrize("variant", ["naive", "fast"])
@pytest.mark.parametrize("case", _small(cases.POOLINGS), ids=str)
def test_gradcheck_of_pooling(case, variant, rng):
    _gradcheck(
        getattr(layers, f"max_pool_forward_{variant}"),
        getattr(layers, f"max_pool_backward_{variant}"),
        arguments.pool(*case)(rng),
    )


@pytest.mark.parametrize("kind", ["batchnorm", "layernorm", "affine"])
@pytest.mark.parametrize("shape", [s for s in cases.MATRICES if 1 < math.prod(s) <= SMALL], ids=str)
def test_gradcheck_of_rows(kind, shape, rng):
    make = {
        "batchnorm": lambda: arguments.batchnorm("train", shape),
        "layernorm": lambda: arguments.layernorm(shape),
        "affine": lambda: arguments.affine(shape, 3),
    }[kind]()
    forward, backward = f"{kind}_forward", f"{kind}_backward"
    _gradcheck(getattr(layers, forward), getattr(layers, backward), make(rng))


@pytest.mark.parametrize("shape, G", _small(cases.GROUPS))
def test_gradcheck_of_groups(shape, G, rng):
    forward, backward = layers.spatial_groupnorm_forward, layers.spatial_groupnorm_backward
    _gradcheck(forward, backward, arguments.groupnorm(shape, G)(rng))


@pytest.mark.parametrize("name", operations.COMPOSED)
def test_gradcheck_of_composed_layers(name, rng):
    _gradcheck(
        getattr(layer_utils, f"{name}_forward"),
        getattr(layer_utils, f"{name}_backward"),
        operations.COMPOSED[name](rng),
    )


@pytest.mark.parametrize("name", ["softmax_loss", "svm_loss"])
def test_gradcheck_of_losses(name, rng):
    loss, y = getattr(layers, name), rng.integers(5, size=6)
    x = {"x": rng.standard_normal((6, 5))}
    _gradcheck(lambda x: loss(x, y), lambda dout, dx: dout * dx, x)


@pytest.mark.parametrize("kind", ["cython", "indices"])
def test_gradcheck_of_columns(kind, rng):
    x = rng.standard_normal((2, 2, 4, 3))
    field = (3, 2, 1, 2)
    shape = x.shape if kind == "cython" else (x.shape,)
    forward, backward = getattr(layers, f"im2col_{kind}"), getattr(layers, f"col2im_{kind}")
    _gradcheck(
        lambda x: (forward(x, *field), None),
        lambda dout, _: backward(dout, *shape, *field),
        {"x": x},
    )
    _gradcheck(
        lambda cols: (backward(cols, *shape, *field), None),
        lambda dout, _: forward(dout, *field),
        {"cols": rng.standard_normal(forward(x, *field).shape)},
    )


def test_what_gradcheck_says_of_a_wrong_gradient(rng):
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        _gradcheck(
            layers.affine_forward,
            lambda dout, cache: tuple(1.001 * d for d in layers.affine_backward(dout, cache)),
            arguments.affine((3, 2), 2)(rng),
        )


# Where PyTorch differs, by the course's design and not by accident.


def test_running_variance_is_biased_and_momentum_the_share_of_the_old():
    x, zeros, ones = np.array([[1.0], [2.0], [6.0]]), np.zeros(1), np.ones(1)
    param = {"mode": "train", "momentum": 0.75, "running_mean": zeros, "running_var": ones}
    layers.batchnorm_forward(x, ones, zeros, param)
    mean, var = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    F.batch_norm(torch.from_numpy(x), mean, var, training=True, momentum=0.25)
    np.testing.assert_allclose([param["running_mean"][0], mean.item()], 0.75, rtol=1e-15)
    np.testing.assert_allclose(param["running_var"], 0.75 + 0.25 * 14 / 3, rtol=1e-15)
    np.testing.assert_allclose(var.numpy(), 0.75 + 0.25 * 14 / 2, rtol=1e-15)


def test_one_row_is_refused_by_pytorch_and_gives_beta_here():
    x, beta = np.array([[5.0, 7.0]]), np.array([3.0, -1.0])
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        F.batch_norm(torch.from_numpy(x), None, None, training=True)
    out, _ = layers.batchnorm_forward(x, np.ones(2), beta, {"mode": "train"})
    np.testing.assert_array_equal(out, [beta])


@pytest.mark.parametrize(
    "window, first, shared, pytorch",
    [
        ([[2.0, 1.0], [2.0, 2.0]], [1, 0, 0, 0], [1 / 3, 0, 1 / 3, 1 / 3], [1, 0, 0, 0]),
        # Of several NaN PyTorch takes the last; a share of them is none.
        ([[1.0, np.nan], [np.nan, 2.0]], [0, 1, 0, 0], [np.nan] * 4, [0, 0, 1, 0]),
    ],
)
def test_ties_of_max_pooling(window, first, shared, pytorch):
    x = np.array([[window]])
    tensor = torch.from_numpy(x).requires_grad_()
    F.max_pool2d(tensor, 2).sum().backward()
    np.testing.assert_array_equal(tensor.grad.reshape(-1), pytorch)
    for variant, expected in (("naive", first), ("im2col", first), ("fast", shared)):
        out, cache = getattr(layers, f"max_pool_forward_{variant}")(
            x, {"pool_height": 2, "pool_width": 2, "stride": 2}
        )
        dx = getattr(layers, f"max_pool_backward_{variant}")(np.ones_like(out), cache)
        np.testing.assert_allclose(dx.reshape(-1), expected, rtol=1e-15)


def test_relu_stops_the_gradient_of_a_nan():
    x = torch.tensor([np.nan, 0.0, 1.0], requires_grad=True)
    torch.relu(x).sum().backward()
    np.testing.assert_array_equal(x.grad, [1, 0, 1])
    dx = layers.relu_backward(np.ones(3, np.float32), x.detach().numpy())
    np.testing.assert_array_equal(dx, [0, 0, 1])


def test_eps_below_zero_is_refused():
    x = np.array([[1.0, 2.0]])
    assert F.layer_norm(torch.from_numpy(x), (2,), eps=-0.1).isfinite().all()
    with pytest.raises(ValueError, match="eps"):
        layers.layernorm_forward(x, np.ones(2), np.zeros(2), {"eps": -0.1})
