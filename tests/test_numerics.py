"""Normalizations of numbers at the edge of a dtype: tiny, huge, far from 0, equal.

The oracle computes in long double on numbers that were scaled by a power of two first, which
changes no digit, so that nothing over- or underflows in it. Errors are bounded by the dtype's eps
times what a result is made of: for a sum the sum of its terms' sizes, for dx what is subtracted to
give it, each per feature or row, so that a small one does not hide behind a large.

Not held to the oracle, for nothing but an absurd gamma, eps or dout leads there: with eps = 0 a
deviation below the least normal number, whose inverse is none; gamma / deviation below it; and in
float64 products of dout and x above the largest.
"""

import functools

import numpy as np
import pytest

from fastbn import layers, reference
from fastbn.gradient_check import eval_numerical_gradient_array

F4, F8 = np.float32, np.float64
L = np.longdouble
#: On Windows and on Apple's Arm it is a float64, in which float64's own edges overflow.
WIDE = np.finfo(L).maxexp > np.finfo(F8).maxexp


def _exact(x, gamma, beta, eps, dout):
    """(out, dx, dout * xhat, what dx is made of) of rows; gamma runs along rows or over them."""
    x, gamma, beta, dout = (np.asarray(a).astype(L) for a in (x, gamma, beta, dout))
    size = np.abs(x).max()
    power = int(np.frexp(size)[1]) if size else 0
    x = np.ldexp(x, -power)
    centred = x - x.mean(axis=1, keepdims=True)
    std = np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + np.ldexp(L(eps), -2 * power))
    xhat = centred / std
    g = dout * gamma
    mean_gx = (g * xhat).mean(axis=1, keepdims=True)
    dx = (g - g.mean(axis=1, keepdims=True) - xhat * mean_gx) / std
    made_of = (np.abs(g).max(axis=1, keepdims=True) + np.abs(xhat * mean_gx)) / std
    return (
        gamma * xhat + beta,
        np.ldexp(dx, -power),
        dout * xhat,
        np.ldexp(made_of, -power),
        np.ldexp(std, power),
    )


class Kind:
    """A normalization seen as one of rows, each normalized by itself."""

    def __init__(self, name, shape, *more):
        self.name, self.shape, self.more = name, shape, more
        self.over_columns = "batchnorm" in name  # gamma belongs to a row of ours

    def rows(self, x):
        if self.name == "batchnorm":
            return x.T
        if self.name == "spatial_batchnorm":
            return x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
        if self.name == "layernorm":
            return x
        return x.reshape(len(x) * self.more[0], -1)

    def images(self, rows):
        """The inverse of rows."""
        if self.name == "batchnorm":
            return np.ascontiguousarray(rows.T)
        if self.name == "spatial_batchnorm":
            N, C, H, W = self.shape
            return np.ascontiguousarray(rows.reshape(C, N, H, W).transpose(1, 0, 2, 3))
        return np.ascontiguousarray(rows.reshape(self.shape))

    def parameters(self, values):
        """A number for each channel as an array that goes with rows."""
        if self.over_columns:
            return values[:, None]
        if self.name == "layernorm":
            return values[None]
        N, C, H, W = self.shape
        each = np.broadcast_to(values[None, :, None, None], self.shape)
        return each.reshape(N * self.more[0], -1)

    def channels(self, terms):
        """Sums over what shares a gamma, of an array that goes with rows."""
        if self.over_columns:
            return terms.sum(axis=1)
        if self.name == "layernorm":
            return terms.sum(axis=0)
        return terms.reshape(self.shape).sum(axis=(0, 2, 3))

    def run(self, module, x, gamma, beta, eps, dout):
        param = {"eps": eps}
        if self.over_columns:
            param["mode"] = "train"
        out, cache = getattr(module, f"{self.name}_forward")(x, gamma, beta, *self.more, param)
        return (out, *getattr(module, f"{self.name}_backward")(dout, cache)), param


KINDS = [
    Kind("batchnorm", (75, 33)),
    Kind("batchnorm", (5000, 7)),  # rows cut into parts
    Kind("spatial_batchnorm", (3, 5, 4, 6)),
    Kind("spatial_batchnorm", (2, 3, 48, 47)),
    Kind("layernorm", (40, 75)),
    Kind("layernorm", (3, 4099)),
    Kind("spatial_groupnorm", (3, 6, 5, 4), 3),
    Kind("spatial_quick_groupnorm", (2, 4, 33, 32), 2),
]


def _id(kind):
    return f"{kind.name}-{kind.shape}"


#: name: x as rows of standard normal numbers become it, eps, factor of dout
EXTREMES = {
    F4: {
        "1e-40": (lambda x: x * 1e-40, 1e-5, 1),
        "1e-30": (lambda x: x * 1e-30, 1e-5, 1),
        "1e-30, eps 0": (lambda x: x * 1e-30, 0, 1),
        "1e-20, eps 0": (lambda x: x * 1e-20, 0, 1),
        "1e-13, eps 0": (lambda x: x * 1e-13, 0, 1),
        "1e20": (lambda x: x * 1e20, 1e-5, 1),
        "1e30": (lambda x: x * 1e30, 1e-5, 1),
        "1e37": (lambda x: x * 1e37, 1e-5, 1),
        "1e20 and dout 1e25": (lambda x: x * 1e20, 1e-5, 1e25),
        "1e8 and a few steps": (lambda x: 1e8 + 8 * np.round(2 * x), 0, 1),
        "-1e30 and a thousandth": (lambda x: -1e30 * (1 + x / 1000), 1e-5, 1),
        "every row another": (lambda x: x * _powers(len(x), 30), 1e-30, 1),
        "dout 1e-30": (lambda x: x, 1e-5, 1e-30),
        "dout 1e30": (lambda x: x, 1e-5, 1e30),
    },
    F8: {
        "1e-310": (lambda x: x * 1e-310, 1e-5, 1),
        "1e-150, eps 0": (lambda x: x * 1e-150, 0, 1),
        "1e-100, eps 0": (lambda x: x * 1e-100, 0, 1),
        "1e100": (lambda x: x * 1e100, 1e-5, 1),
        "1e150": (lambda x: x * 1e150, 1e-5, 1),
        "1e150 and dout 1e150": (lambda x: x * 1e150, 1e-5, 1e150),
        "1e8 and 1e-6": (lambda x: 1e8 + 1e-6 * x, 0, 1),
        "1e15 and a few steps": (lambda x: 1e15 + np.round(2 * x), 0, 1),
        "every row another": (lambda x: x * _powers(len(x), 140), 1e-290, 1),
        "dout 1e-300": (lambda x: x, 1e-5, 1e-300),
        "dout 1e300": (lambda x: x, 1e-5, 1e300),
    },
}


def _powers(n, most):
    return 10.0 ** np.linspace(-most, most, n)[:, None]


def _arguments(kind, make, factor, dtype):
    rng = np.random.default_rng(231)
    x = kind.images(make(rng.standard_normal(kind.rows(np.empty(kind.shape)).shape)).astype(dtype))
    C = kind.shape[1]
    gamma, beta = rng.standard_normal((2, C)).astype(dtype)
    return x, gamma, beta, (factor * rng.standard_normal(kind.shape)).astype(dtype)


@functools.lru_cache(None)
def _case(kind, dtype, name):
    """Arguments and what is exact: once for all CPU levels and numbers of threads."""
    make, eps, factor = EXTREMES[dtype][name]
    x, gamma, beta, dout = _arguments(kind, make, factor, dtype)
    wide = kind.parameters(gamma), kind.parameters(beta)
    return (x, gamma, beta, eps, dout), _exact(kind.rows(x), *wide, eps, kind.rows(dout))


def _assert_within(actual, exact, size, bound, message):
    assert np.isfinite(actual).all(), message
    error = np.abs(actual.astype(L) - exact)
    assert (error <= bound * size).all(), f"{message}: {(error / (bound * size)).max():.2g} times"


@pytest.mark.parametrize("kind", KINDS, ids=_id)
def test_normalizations(kind, dtype, level, num_threads):
    if dtype == F8 and not WIDE:
        pytest.skip("long double is no wider than float64 here")
    for name in EXTREMES[dtype]:
        arguments, (exact_out, exact_dx, terms, made_of, std) = _case(kind, dtype, name)
        x, gamma, beta, eps, dout = arguments
        rows, wide = kind.rows(x), (kind.parameters(gamma), kind.parameters(beta))
        (out, dx, dgamma, dbeta), param = kind.run(layers, *arguments)
        # The mean is a float64: its own rounding, next to the deviation. Of float32 that is less
        # than an eps of the result's; of float64 it is what its digits allow.
        offset = np.abs(rows.astype(L)).max(axis=1, keepdims=True) / std
        bound = 16 * np.finfo(dtype).eps + 4 * np.finfo(F8).eps * offset
        # What is below the least normal number is rounded to a multiple of the least of all.
        smallest = np.finfo(dtype).smallest_subnormal
        least = 4 * smallest / np.finfo(dtype).eps
        size = np.abs(exact_out - wide[1]) + np.abs(wide[1]) + np.abs(wide[0])
        _assert_within(kind.rows(out), exact_out, size + least, bound, f"{name}: out")
        _assert_within(kind.rows(dx), exact_dx, made_of + least, 2 * bound, f"{name}: dx")
        bound = 16 * np.finfo(dtype).eps + 4 * np.finfo(F8).eps * offset.max()
        for actual, each, what in (
            (dgamma, terms, "dgamma"),
            (dbeta, kind.rows(dout).astype(L), "dbeta"),
        ):
            # Every product may be rounded so, before it is divided by the deviation.
            lost = smallest * max(1, 1 / std.min()) * (x.size // len(gamma))
            # The mean's rounding moves every xhat alike, one near 0 as well: by it times dout.
            scale = kind.channels(np.abs(each) + np.abs(kind.rows(dout))) + lost / bound
            _assert_within(actual, kind.channels(each), scale, bound, f"{name}: {what}")
        if kind.over_columns:
            mean, var = param["running_mean"], param["running_var"]
            assert np.isfinite(mean).all() and (var >= 0).all(), name
            exact_var = (std**2 - L(eps)).ravel() / 10
            holds = exact_var < np.finfo(dtype).max  # a variance may be more than float32 holds
            np.testing.assert_array_equal(np.isfinite(var), holds, err_msg=name)


# Running statistics


@pytest.mark.parametrize("spatial", [False, True], ids=["rows", "images"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -123456.789, 1e8 + 1, 7e-31, -7.7e20, 3e38])
def test_equal_numbers_have_their_mean_and_no_variance(value, spatial, dtype, level):
    for N in (1, 2, 3, 7, 31, 33, 100, 1000, 5000):
        x = np.full((N, 5), value, dtype)
        images = np.full((1, 2, N, 1), value, dtype)
        x, kind = (images, "spatial_batchnorm") if spatial else (x, "batchnorm")
        C = x.shape[1]
        param = {"mode": "train", "momentum": 0}
        beta = np.full(C, 2, dtype)
        out, cache = getattr(layers, f"{kind}_forward")(x, np.ones(C, dtype), beta, param)
        np.testing.assert_array_equal(param["running_mean"], x.ravel()[0])
        np.testing.assert_array_equal(param["running_var"], 0)
        np.testing.assert_array_equal(out, 2)
        dx, dgamma, _ = getattr(layers, f"{kind}_backward")(np.ones_like(x), cache)
        # A mean small next to the deviation is taken off the sums and not off each number. And
        # dout less its mean is 0 up to a rounding. Both divided by the deviation, sqrt(1e-5).
        one = np.finfo(dtype).eps / np.sqrt(1e-5)
        assert np.abs(dgamma).max() <= x.size // C * one * min(abs(value), 1e-3)
        assert np.abs(dx).max() <= one


def test_running_variance_beyond_float32_is_infinite_and_the_layer_goes_on(level, rng):
    # Batch norm's state is in the dtype of x, as the course has it, and 1e40 is not a float32.
    x = (1e20 * rng.standard_normal((50, 4))).astype(F4)
    ones, beta = np.ones(4, F4), np.full(4, 3, F4)
    param = {"mode": "train"}
    out, _ = layers.batchnorm_forward(x, ones, beta, param)
    np.testing.assert_allclose(out.std(axis=0), 1, rtol=1e-5)
    expected = {"mode": "train"}
    reference.batchnorm_forward(x, ones, beta, expected)
    np.testing.assert_array_equal(param["running_var"], np.inf)
    np.testing.assert_array_equal(expected["running_var"], np.inf)
    np.testing.assert_allclose(param["running_mean"], expected["running_mean"], rtol=1e-6)
    out, cache = layers.batchnorm_forward(x, ones, beta, {**param, "mode": "test"})
    np.testing.assert_array_equal(out, 3)
    dx, dgamma, _ = layers.batchnorm_backward(np.ones_like(x), cache)
    np.testing.assert_array_equal(dx, 0)
    np.testing.assert_array_equal(dgamma, 0)


@pytest.mark.parametrize("mean, var", [(0, 1e-38), (1e8, 1e-6), (-1e30, 1e30), (1e-40, 0), (5, 1)])
@pytest.mark.parametrize("name", ["batchnorm", "spatial_batchnorm"])
def test_given_statistics(name, mean, var, dtype, level, num_threads, rng):
    shape = (70, 9) if name == "batchnorm" else (4, 9, 5, 3)
    deviation = np.sqrt(var + 1e-5)
    x = (mean + deviation * rng.standard_normal(shape)).astype(dtype)
    gamma, beta = rng.standard_normal((2, 9)).astype(dtype)
    dout = rng.standard_normal(shape).astype(dtype)
    param = {"mode": "test", "running_mean": np.full(9, mean, dtype)}
    param["running_var"] = np.full(9, var, dtype)
    statistics = [param[k].astype(L) for k in ("running_mean", "running_var")]
    out, cache = getattr(layers, f"{name}_forward")(x, gamma, beta, param)
    gradients = getattr(layers, f"{name}_backward")(dout, cache)
    wide = (1, 9, 1, 1)[: x.ndim]
    axes = (0, *range(2, x.ndim))
    mean, rstd, gamma, beta = (
        a.astype(L).reshape(wide)
        for a in (statistics[0], 1 / np.sqrt(statistics[1] + L(1e-5)), gamma, beta)
    )
    xhat = (x.astype(L) - mean) * rstd
    bound = 16 * np.finfo(dtype).eps
    size = np.abs(gamma * xhat) + np.abs(beta) + np.abs(gamma)
    _assert_within(out, gamma * xhat + beta, size, bound, "out")
    _assert_within(gradients[0], dout * gamma * rstd, np.abs(dout * gamma * rstd), bound, "dx")
    scale = np.abs(dout * xhat).sum(axis=axes)
    _assert_within(gradients[1], (dout * xhat).sum(axis=axes), scale, bound, "dgamma")


# Gradients at these points


@pytest.mark.parametrize(
    "scale, offset, eps",
    [(1e-100, 0, 0), (1e-9, 0, 0), (1e100, 0, 1e-5), (1e140, 0, 1e-5), (1, 1e6, 1e-5)],
)
@pytest.mark.parametrize(
    "kind", KINDS[2:3] + [Kind("batchnorm", (6, 3)), Kind("layernorm", (3, 6))]
)
def test_gradients_by_central_differences(kind, scale, offset, eps):
    x, gamma, beta, dout = _arguments(kind, lambda x: scale * x + offset, 1, F8)
    (_, dx, dgamma, dbeta), _ = kind.run(layers, x, gamma, beta, eps, dout)
    for array, gradient, h in ((x, dx, 1e-5 * scale), (gamma, dgamma, 1e-5), (beta, dbeta, 1e-5)):

        def out(changed, array=array):
            arguments = [changed if a is array else a for a in (x, gamma, beta)]
            return kind.run(layers, *arguments, eps, dout)[0][0]

        numeric = eval_numerical_gradient_array(out, array.copy(), dout, h=h)
        # The difference of two outputs has lost what x + h has: eps * offset / h.
        bound = 1e-6 + 8 * np.finfo(F8).eps * offset / h
        assert np.abs(gradient - numeric).max() < bound * np.abs(gradient).max()
