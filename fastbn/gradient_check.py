"""Compare analytic gradients with centred differences.

Every function perturbs the array that it is given **in place**, one element at a time, and puts
the element back, whatever the callable does. So the callable may ignore its argument and read the
array from the enclosing scope, as notebooks do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .typing import Array, Floating

__all__ = [
    "np",
    "rel_error",
    "eval_numerical_gradient",
    "eval_numerical_gradient_array",
    "eval_numerical_gradient_blobs",
    "eval_numerical_gradient_net",
    "grad_check_sparse",
]


def rel_error(x: ArrayLike, y: ArrayLike) -> float:
    """Return the largest relative difference, ``max(|x - y| / max(1e-8, |x| + |y|))``.

    Parameters
    ----------
    x, y : array_like
        Numbers of shapes that broadcast together.

    Returns
    -------
    float
        Between 0 and 1 for finite input, 0 for empty input, NaN if there is a NaN or an infinity.

    Raises
    ------
    TypeError
        If one does not hold numbers.

    Examples
    --------
    >>> from fastbn.gradient_check import rel_error
    >>> rel_error([1.0, 2.0], [1.0, 3.0])
    0.2
    """
    x, y = _numbers("x", x), _numbers("y", y)
    with np.errstate(invalid="ignore", over="ignore"):  # of infinities: the answer says it
        errors = np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y))
    return float(np.max(errors, initial=0.0))


def _numbers(name: str, value: ArrayLike) -> NDArray[Any]:
    """An array whose differences are right: those of integers wrap around."""
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{name} must hold numbers of at most 64 bits; got dtype {array.dtype}")
    return array.astype(np.float64) if array.dtype.kind in "biu" else array


def eval_numerical_gradient(
    f: Callable[[NDArray[Floating]], float],
    x: NDArray[Floating],
    verbose: bool = True,
    h: float = 1e-5,
) -> NDArray[Floating]:
    """Return the numerical gradient of a scalar function.

    Parameters
    ----------
    f : callable
        ``f(x) -> number``.
    x : ndarray of a floating dtype, any shape and layout
        The point at which the gradient is taken. Restored after every evaluation.
    verbose : bool, default True
        Print every index with its derivative.
    h : float, default 1e-5
        Half of the distance between the two evaluations.

    Returns
    -------
    ndarray
        Gradient, shape and dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is not an array of a floating dtype.
    ValueError
        If `x` is read-only or `h` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.gradient_check import eval_numerical_gradient
    >>> x = np.array([1.0, 2.0])
    >>> eval_numerical_gradient(lambda x: (x**2).sum(), x, verbose=False).round(4)
    array([2., 4.])
    """
    _check(x, h)
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        plus, minus = _evaluate_around(lambda: f(x), x, index, h)
        gradient[index] = (plus - minus) / (2 * h)
        if verbose:
            print(index, gradient[index])
    return gradient


def eval_numerical_gradient_array(
    f: Callable[[NDArray[Floating]], Array],
    x: NDArray[Floating],
    df: ArrayLike,
    h: float = 1e-5,
) -> NDArray[Floating]:
    """Return the numerical gradient of ``sum(f(x) * df)``.

    Parameters
    ----------
    f : callable
        ``f(x) -> ndarray``.
    x : ndarray of a floating dtype, any shape and layout
        The point at which the gradient is taken. Restored after every evaluation.
    df : array_like
        Upstream gradient, shape of ``f(x)``.
    h : float, default 1e-5
        Half of the distance between the two evaluations.

    Returns
    -------
    ndarray
        Gradient, shape and dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is not an array of a floating dtype, or `df` does not hold real numbers.
    ValueError
        If `x` is read-only or `h` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.gradient_check import eval_numerical_gradient_array, rel_error
    >>> from fastbn.layers import affine_backward, affine_forward
    >>> x, w, b = np.arange(6.0).reshape(2, 3), np.ones((3, 4)), np.zeros(4)
    >>> dout = np.arange(8.0).reshape(2, 4)
    >>> dx = eval_numerical_gradient_array(lambda x: affine_forward(x, w, b)[0], x, dout)
    >>> rel_error(dx, affine_backward(dout, (x, w, b))[0]) < 1e-8
    True
    """
    _check(x, h)
    df = _real(df, "df")
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        plus, minus = _evaluate_around(lambda: f(x), x, index, h)
        gradient[index] = np.sum((plus - minus) * df) / (2 * h)
    return gradient


def eval_numerical_gradient_blobs(
    f: Callable[..., Any], inputs: Iterable[Any], output: Any, h: float = 1e-5
) -> list[Array]:
    """Return the numerical gradients of a function that works on blobs.

    A blob has two arrays of one shape, ``vals`` and ``diffs``. `f` reads the ``vals`` of the
    inputs and writes the ``vals`` of the output; the upstream gradient is ``output.diffs``.

    Parameters
    ----------
    f : callable
        ``f(*inputs, output)``; what it returns is ignored.
    inputs : iterable of blobs
        Their ``vals`` are arrays of a floating dtype, restored after every evaluation.
    output : blob
        Where `f` leaves its result.
    h : float, default 1e-5
        Half of the distance between the two evaluations.

    Returns
    -------
    list of ndarray
        One gradient per input, shape and dtype of its ``diffs``.

    Raises
    ------
    TypeError
        If the ``vals`` of an input are not an array of a floating dtype, or the ``diffs`` of the
        output do not hold real numbers.
    ValueError
        If the ``vals`` of an input are read-only, its ``diffs`` have another shape, or `h` is not
        positive.
    """
    inputs = tuple(inputs)

    def evaluate() -> Any:
        f(*inputs, output)
        return output.vals

    _real(output.diffs, "output.diffs")
    gradients = []
    for number, blob in enumerate(inputs):
        _check(blob.vals, h, name=f"inputs[{number}].vals")
        gradient = np.zeros_like(np.asarray(blob.diffs))
        if gradient.shape != blob.vals.shape:
            raise ValueError(
                f"inputs[{number}].diffs must have the shape of its vals, {blob.vals.shape}; "
                f"got shape {gradient.shape}"
            )
        for index in np.ndindex(blob.vals.shape):
            plus, minus = _evaluate_around(evaluate, blob.vals, index, h)
            gradient[index] = np.sum((plus - minus) * np.asarray(output.diffs)) / (2 * h)
        gradients.append(gradient)
    return gradients


def eval_numerical_gradient_net(
    net: Any, inputs: Iterable[Any], output: Any, h: float = 1e-5
) -> list[Array]:
    """Return the numerical gradients of a net whose ``forward()`` works on blobs.

    Parameters
    ----------
    net : object
        ``net.forward()`` reads the blobs of `inputs` and writes `output`.
    inputs : iterable of blobs
        See `eval_numerical_gradient_blobs`.
    output : blob
        Where the net leaves its result.
    h : float, default 1e-5
        Half of the distance between the two evaluations.

    Returns
    -------
    list of ndarray
        One gradient per input.
    """
    return eval_numerical_gradient_blobs(lambda *blobs: net.forward(), inputs, output, h=h)


def grad_check_sparse(
    f: Callable[[Array], float],
    x: Array,
    analytic_grad: Array,
    num_checks: int = 10,
    h: float = 1e-5,
) -> None:
    """Print analytic and numerical derivative at a few random elements.

    The elements are drawn with Python's `random`, so that the stream of ``numpy.random`` is left
    alone.

    Parameters
    ----------
    f : callable
        ``f(x) -> number``.
    x : ndarray of a floating dtype, not empty
        The point at which the gradient is checked. Restored after every evaluation.
    analytic_grad : ndarray, shape of `x`
        The gradient to check.
    num_checks : int, default 10
        How many elements to draw.
    h : float, default 1e-5
        Half of the distance between the two evaluations.

    Raises
    ------
    TypeError
        If `x` is not an array of a floating dtype.
    ValueError
        If `x` is read-only or empty, the shapes differ, or `h` is not positive.
    """
    _check(x, h)
    if x.size == 0:
        raise ValueError(f"x must have at least one element; got shape {x.shape}")
    analytic_grad = np.asarray(analytic_grad)
    if analytic_grad.dtype.kind not in "biuf":
        raise TypeError(f"analytic_grad must hold real numbers; got dtype {analytic_grad.dtype}")
    if analytic_grad.shape != x.shape:
        raise ValueError(
            f"analytic_grad must have the shape of x, {x.shape}; got shape {analytic_grad.shape}"
        )
    for _ in range(num_checks):
        index = tuple(random.randrange(length) for length in x.shape)
        plus, minus = _evaluate_around(lambda: f(x), x, index, h)
        numerical = float((plus - minus) / (2 * h))
        analytic = float(analytic_grad[index])
        size = abs(numerical) + abs(analytic)
        # Two zeros agree; dividing by their sum would say NaN.
        error = abs(numerical - analytic) / size if size else 0.0
        print(f"numerical: {numerical:f} analytic: {analytic:f}, relative error: {error:e}")


def _real(df: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(df)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers; got dtype {array.dtype}")
    return array


def _evaluate_around(
    evaluate: Callable[[], Any], x: Array, index: Sequence[int], h: float
) -> tuple[Array, Array]:
    """Call `evaluate` with ``x[index]`` raised and lowered by `h`, and put the element back."""
    value = x[index]
    try:
        # Copies, because a layer may reuse its output buffer in the second call.
        x[index] = value + h
        plus = np.array(evaluate())
        x[index] = value - h
        minus = np.array(evaluate())
    finally:
        x[index] = value
    return plus, minus


def _check(x: Array, h: float, name: str = "x") -> None:
    """Refuse what cannot be perturbed in place by `h`."""
    if not isinstance(x, np.ndarray) or isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must be a plain NumPy array, because it is perturbed in place; "
            f"got {type(x).__name__}"
        )
    if not np.issubdtype(x.dtype, np.floating):
        raise TypeError(f"{name} must have a floating dtype; got {x.dtype}")
    if not x.flags.writeable:
        raise ValueError(
            f"{name} must be writable, because it is perturbed in place; got a read-only array"
        )
    if not h > 0:
        raise ValueError(f"h must be positive; got {h!r}")
