"""Numerical gradients against derivatives known in closed form."""

import numpy as np
import pytest

from fastbn.gradient_check import (
    eval_numerical_gradient,
    eval_numerical_gradient_array,
    eval_numerical_gradient_blobs,
    eval_numerical_gradient_net,
    grad_check_sparse,
    rel_error,
)


def layouts():
    base = np.random.RandomState(0).randn(6, 8)
    return {
        "C": base[:3, :4].copy(),
        "Fortran": np.asfortranarray(base[:3, :4]),
        "strided": base.copy()[::2, 1::2],
        "negative": base.copy()[::-2, ::-2],
        "0-d": np.array(0.7),
        "empty": np.zeros((0, 3)),
    }


@pytest.fixture(params=list(layouts()))
def x(request):
    return layouts()[request.param]


class Blob:
    def __init__(self, vals, diffs=None):
        self.vals, self.diffs = vals, np.zeros_like(vals) if diffs is None else diffs


def test_rel_error():
    assert rel_error([1.0, 2.0], [1.0, 2.0]) == 0
    assert rel_error(3.0, 1.0) == 0.5
    assert rel_error(0.0, 0.0) == 0
    assert rel_error(1e-10, 0.0) == pytest.approx(1e-2)
    assert rel_error(np.zeros(0), np.zeros(0)) == 0
    assert np.isnan(rel_error([np.nan, 1.0], [0.0, 1.0]))


def test_scalar_function(x):
    before = x.copy()
    gradient = eval_numerical_gradient(lambda x: np.sum(x**3), x, verbose=False)
    np.testing.assert_allclose(gradient, 3 * before**2, rtol=1e-8, atol=1e-9)
    np.testing.assert_array_equal(x, before)
    assert gradient.shape == x.shape


def test_callable_may_ignore_its_argument(x):
    gradient = eval_numerical_gradient(lambda _: np.sum(np.sin(x)), x, verbose=False)
    np.testing.assert_allclose(gradient, np.cos(x), atol=1e-9)


def test_verbose_prints_every_element(capsys):
    eval_numerical_gradient(np.sum, np.zeros((1, 2)))
    lines = capsys.readouterr().out.splitlines()
    assert [line[:6] for line in lines] == ["(0, 0)", "(0, 1)"]
    eval_numerical_gradient(np.sum, np.zeros(2), False)
    assert capsys.readouterr().out == ""


def test_array_function(x):
    before = x.copy()
    df = np.random.RandomState(1).randn(*x.shape)
    gradient = eval_numerical_gradient_array(np.exp, x, df)
    np.testing.assert_allclose(gradient, np.exp(before) * df, rtol=1e-8, atol=1e-9)
    np.testing.assert_array_equal(x, before)


def test_function_that_reuses_its_output():
    x, buffer = np.array([1.0, 2.0]), np.empty(2)
    gradient = eval_numerical_gradient_array(lambda x: np.square(x, out=buffer), x, np.ones(2))
    np.testing.assert_allclose(gradient, [2, 4], rtol=1e-8)


def test_h_is_used():
    # The centred difference of x**3 is 3 x**2 + h**2 exactly.
    gradient = eval_numerical_gradient(lambda x: float(x[0] ** 3), np.zeros(1), False, h=0.5)
    assert gradient[0] == 0.25


def blobs():
    rng = np.random.RandomState(2)
    a, b = Blob(rng.randn(2, 3)), Blob(rng.randn(3, 2))
    return a, b, Blob(np.zeros((2, 2)), rng.randn(2, 2))


def test_blobs():
    a, b, out = blobs()
    before = a.vals.copy()

    def matmul(a, b, out):
        out.vals = a.vals @ b.vals

    da, db = eval_numerical_gradient_blobs(matmul, (a, b), out)
    np.testing.assert_allclose(da, out.diffs @ b.vals.T, atol=1e-9)
    np.testing.assert_allclose(db, a.vals.T @ out.diffs, atol=1e-9)
    np.testing.assert_array_equal(a.vals, before)


def test_net():
    a, b, out = blobs()

    class Net:
        def forward(self):
            out.vals[...] = a.vals @ b.vals

    da, db = eval_numerical_gradient_net(Net(), [a, b], out)
    np.testing.assert_allclose(da, out.diffs @ b.vals.T, atol=1e-9)
    np.testing.assert_allclose(db, a.vals.T @ out.diffs, atol=1e-9)


def test_sparse(capsys):
    x = np.random.RandomState(3).randn(4, 5)
    before, state = x.copy(), np.random.get_state()[1].copy()
    assert grad_check_sparse(lambda x: np.sum(x**2), x, 2 * x, num_checks=3) is None
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("numerical: ")
        assert float(line.split("relative error: ")[1]) < 1e-8
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_sparse_of_two_zeros(capsys):
    grad_check_sparse(lambda x: 0.0, np.zeros(3), np.zeros(3), num_checks=1)
    assert "relative error: 0.0" in capsys.readouterr().out


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("fail_at", [1, 2, 4])
def test_x_is_restored_when_f_raises(fail_at, error):
    x, calls = np.array([1.0, 2.0, 3.0]), []

    def f(x):
        calls.append(None)
        if len(calls) == fail_at:
            raise error("broken")
        return np.sum(x)

    with pytest.raises(error, match="broken"):
        eval_numerical_gradient(f, x, verbose=False)
    np.testing.assert_array_equal(x, [1, 2, 3])


@pytest.mark.parametrize(
    "check",
    [
        lambda x, **kwargs: eval_numerical_gradient(np.sum, x, False, **kwargs),
        lambda x, **kwargs: eval_numerical_gradient_array(np.exp, x, 1.0, **kwargs),
        lambda x, **kwargs: grad_check_sparse(np.sum, x, x, **kwargs),
    ],
)
def test_rejects_what_cannot_be_perturbed(check):
    with pytest.raises(TypeError, match="x must be a plain NumPy array.*; got list"):
        check([1.0, 2.0])
    with pytest.raises(TypeError, match="x must be a plain NumPy array.*; got MaskedArray"):
        check(np.ma.masked_equal([1.0, 2.0], 2))
    with pytest.raises(TypeError, match="x must have a floating dtype; got int64"):
        check(np.arange(3, dtype=np.int64))
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="x must be writable"):
        check(frozen)
    with pytest.raises(ValueError, match="h must be positive; got 0"):
        check(np.zeros(3), h=0)


def test_rel_error_of_integers():
    """Where they were subtracted as they are, 1 - 2 was 255, and True - False an error."""
    for dtype in (np.uint8, np.uint64, np.int8):
        assert rel_error(np.array([1], dtype), np.array([2], dtype)) == 1 / 3
    assert rel_error(np.array([True]), np.array([False])) == 1
    assert rel_error(np.array([-128], np.int8), np.array([127], np.int8)) == 1
    for wrong in (1 << 64, "1", None):
        with pytest.raises(TypeError, match="y must hold numbers of at most 64 bits; got dtype"):
            rel_error(1.0, wrong)


def test_array_rejects_complex_gradients():
    with pytest.raises(TypeError, match="df must hold real numbers; got dtype complex128"):
        eval_numerical_gradient_array(np.exp, np.zeros(3), np.ones(3, complex))


def test_blobs_reject_other_gradients():
    def never(*blobs):
        raise AssertionError("called")

    x, out = Blob(np.zeros(2)), Blob(np.zeros(1))
    x.diffs = np.zeros((2, 3))  # which would have taken each derivative three times
    with pytest.raises(ValueError, match=r"inputs\[0\].diffs .* of its vals, \(2,\); .*\(2, 3\)"):
        eval_numerical_gradient_blobs(never, [x], out)
    out.diffs = np.ones(1, complex)  # whose imaginary part would have been lost
    with pytest.raises(TypeError, match=r"output.diffs must hold real numbers; got dtype complex"):
        eval_numerical_gradient_blobs(never, [Blob(np.zeros(2))], out)


def test_sparse_rejects_complex_gradients():
    with pytest.raises(TypeError, match="analytic_grad must hold real numbers; got dtype complex"):
        grad_check_sparse(np.sum, np.zeros(3), np.zeros(3, complex))


def test_sparse_rejects_other_shapes():
    with pytest.raises(ValueError, match=r"analytic_grad must have the shape of x, \(3,\)"):
        grad_check_sparse(np.sum, np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="x must have at least one element"):
        grad_check_sparse(np.sum, np.zeros(0), np.zeros(0))
    with pytest.raises(TypeError, match=r"inputs\[1\].vals must have a floating dtype"):
        eval_numerical_gradient_blobs(
            lambda *blobs: None, [Blob(np.zeros(0)), Blob(np.zeros(2, int))], Blob(np.zeros(1))
        )
