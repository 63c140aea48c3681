"""First-order update rules.

Every rule has the signature ``rule(w, dw, config=None) -> (next_w, config)``. `config` holds the
hyperparameters and the state of one parameter: what is missing is filled in with the default,
and the same dict is returned, updated, to be passed to the next call. :class:`fastbn.solver.Solver`
finds a rule by its name in this module. ``x`` and ``dx``, the names of `w` and `dw` in 2016 and
2017, are taken as well.
"""

from __future__ import annotations

# Underscored: what is public here and can be called is a rule.
import functools as _functools
from typing import TYPE_CHECKING

import numpy as np

from . import _check

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ParamSpec, TypeVar

    from numpy.typing import ArrayLike, NDArray

    from .typing import Array, Floating

    P = ParamSpec("P")
    R = TypeVar("R")
    Config = dict[str, Any]

__all__ = ["np", "sgd", "sgd_momentum", "rmsprop", "adam"]


def _either_spelling(rule: Callable[P, R]) -> Callable[P, R]:
    """`rule`, which may be called with x and dx for w and dw."""

    @_functools.wraps(rule)
    def either(*args: Any, **kwargs: Any) -> R:
        for old, new in (("x", "w"), ("dx", "dw")):
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(f"{new} and {old} are two spellings of one argument")
                kwargs[new] = kwargs.pop(old)
        return rule(*args, **kwargs)

    return either


@_either_spelling
def sgd(
    w: NDArray[Floating], dw: ArrayLike, config: Config | None = None
) -> tuple[NDArray[Floating], Config]:
    """Step against the gradient: ``w -= learning_rate * dw``.

    Parameters
    ----------
    w : ndarray of float32 or float64, any shape
        The parameter. It is updated **in place**.
    dw : array_like, broadcastable to the shape of `w`
        Gradient of the loss with respect to `w`.
    config : dict, optional
        ``learning_rate`` (default 1e-2).

    Returns
    -------
    next_w : ndarray
        `w` itself.
    config : dict
        The dict that was passed, or a new one.

    Raises
    ------
    ValueError
        If `dw` does not broadcast to the shape of `w`, or a number or state of `config` is out of
        range or shape.
    TypeError
        If `w` is not an array of floats, `dw` or a state does not hold real numbers, `config` is
        not a dict, or a hyperparameter is not a number.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn import optim
    >>> w, config = optim.sgd(np.array([1.0, 2.0]), np.array([10.0, -10.0]))
    >>> w
    array([0.9, 2.1])
    >>> config
    {'learning_rate': 0.01}
    """
    if isinstance(w, np.ndarray) and not w.flags.writeable:
        raise ValueError("w must be writeable, since it is updated in place; it is read-only")
    dw, config, new = _prepare(w, dw, config, learning_rate=1e-2)
    step = _number(new, "learning_rate") * dw
    result = w, config
    _check.update(config, new)
    w -= step
    return result


@_either_spelling
def sgd_momentum(w: Array, dw: ArrayLike, config: Config | None = None) -> tuple[Array, Config]:
    """Step along a velocity that remembers earlier gradients.

    ``velocity = momentum * velocity - learning_rate * dw`` and ``next_w = w + velocity``.

    Parameters
    ----------
    w : ndarray of float32 or float64, any shape
        The parameter; it is not modified.
    dw : array_like, broadcastable to the shape of `w`
        Gradient of the loss with respect to `w`.
    config : dict, optional
        ``learning_rate`` (default 1e-2), ``momentum`` (default 0.9) and the state ``velocity``
        (default zeros, shape and dtype of `w`).

    Returns
    -------
    next_w : ndarray
        A new array.
    config : dict
        The dict that was passed, or a new one, with the new ``velocity``.

    Raises
    ------
    ValueError
        If `dw` does not broadcast to the shape of `w`, or a number or state of `config` is out of
        range or shape.
    TypeError
        If `w` is not an array of floats, `dw` or a state does not hold real numbers, `config` is
        not a dict, or a hyperparameter is not a number.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn import optim
    >>> config = {"learning_rate": 0.5, "momentum": 0.5}
    >>> w, config = optim.sgd_momentum(np.array([4.0]), np.array([2.0]), config)
    >>> w, config = optim.sgd_momentum(w, np.array([2.0]), config)
    >>> w
    array([1.5])
    >>> config["velocity"]
    array([-1.5])
    """
    dw, config, new = _prepare(w, dw, config, "velocity", learning_rate=1e-2, momentum=0.9)
    velocity = _number(new, "momentum") * _state(new, "velocity", w)
    velocity = velocity - _number(new, "learning_rate") * dw
    next_w = w + velocity
    result = next_w, config
    _check.update(config, {**new, "velocity": velocity})
    return result


@_either_spelling
def rmsprop(w: Array, dw: ArrayLike, config: Config | None = None) -> tuple[Array, Config]:
    """Step scaled, element by element, by a running mean of the squared gradient.

    ``cache = decay_rate * cache + (1 - decay_rate) * dw**2`` and
    ``next_w = w - learning_rate * dw / (sqrt(cache) + epsilon)``.

    Parameters
    ----------
    w : ndarray of float32 or float64, any shape
        The parameter; it is not modified.
    dw : array_like, broadcastable to the shape of `w`
        Gradient of the loss with respect to `w`.
    config : dict, optional
        ``learning_rate`` (default 1e-2), ``decay_rate`` (default 0.99), ``epsilon`` (default
        1e-8) and the state ``cache`` (default zeros, shape and dtype of `w`).

    Returns
    -------
    next_w : ndarray
        A new array.
    config : dict
        The dict that was passed, or a new one, with the new ``cache``.

    Raises
    ------
    ValueError
        If `dw` does not broadcast to the shape of `w`, or a number or state of `config` is out of
        range or shape.
    TypeError
        If `w` is not an array of floats, `dw` or a state does not hold real numbers, `config` is
        not a dict, or a hyperparameter is not a number.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn import optim
    >>> w, config = optim.rmsprop(np.array([1.0]), np.array([3.0]), {"learning_rate": 0.1})
    >>> w.round(4)
    array([0.])
    """
    dw, config, new = _prepare(
        w, dw, config, "cache", learning_rate=1e-2, decay_rate=0.99, epsilon=1e-8
    )
    decay_rate = _number(new, "decay_rate")
    cache = decay_rate * _state(new, "cache", w) + (1 - decay_rate) * dw**2
    step = _number(new, "learning_rate") * dw / (np.sqrt(cache) + _number(new, "epsilon"))
    next_w = w - step
    result = next_w, config
    _check.update(config, {**new, "cache": cache})
    return result


@_either_spelling
def adam(w: Array, dw: ArrayLike, config: Config | None = None) -> tuple[Array, Config]:
    """Step by running means of the gradient and of its square, both corrected for their start.

    Adam (Kingma and Ba, 2015): ``m = beta1 * m + (1 - beta1) * dw``,
    ``v = beta2 * v + (1 - beta2) * dw**2`` and, after t steps,
    ``next_w = w - learning_rate * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + epsilon)``.

    Parameters
    ----------
    w : ndarray of float32 or float64, any shape
        The parameter; it is not modified.
    dw : array_like, broadcastable to the shape of `w`
        Gradient of the loss with respect to `w`.
    config : dict, optional
        ``learning_rate`` (default 1e-3), ``beta1`` (default 0.9), ``beta2`` (default 0.999),
        ``epsilon`` (default 1e-8) and the state: ``m`` and ``v`` (default zeros, shape and dtype
        of `w`) and the step count ``t`` (default 0, incremented before it is used; in 2017 it
        started at 1, which changes every step: pass ``t=1`` for that year's figures).

    Returns
    -------
    next_w : ndarray
        A new array.
    config : dict
        The dict that was passed, or a new one, with the new ``m``, ``v`` and ``t``.

    Raises
    ------
    ValueError
        If `dw` does not broadcast to the shape of `w`, or a number or state of `config` is out of
        range or shape.
    TypeError
        If `w` is not an array of floats, `dw` or a state does not hold real numbers, `config` is
        not a dict, or a hyperparameter is not a number.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn import optim
    >>> w, config = optim.adam(np.array([1.0, 1.0]), np.array([30.0, -0.1]))
    >>> w.round(4)  # the first step is the learning rate, whatever the gradient's size
    array([0.999, 1.001])
    >>> config["t"]
    1
    """
    dw, config, new = _prepare(
        w, dw, config, "m", "v", learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, t=0
    )
    beta1, beta2 = _number(new, "beta1"), _number(new, "beta2")
    learning_rate, epsilon = _number(new, "learning_rate"), _number(new, "epsilon")
    t = new["t"] + 1
    m = beta1 * _state(new, "m", w) + (1 - beta1) * dw
    v = beta2 * _state(new, "v", w) + (1 - beta2) * dw**2
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    next_w = w - learning_rate * m_hat / (np.sqrt(v_hat) + epsilon)
    result = next_w, config
    _check.update(config, {**new, "m": m, "v": v, "t": t})
    return result


def _prepare(
    w: Array, dw: ArrayLike, config: Config | None, *states: str, **defaults: float
) -> tuple[Array, Config, Config]:
    """dw as an array, `config` or a new one, and what it is to hold: all checked, none changed.

    A rule updates the config when nothing can fail any more, memory included.
    """
    if type(w) is not np.ndarray or w.dtype.kind != "f":
        got = f"dtype {w.dtype}" if type(w) is np.ndarray else type(w).__name__
        raise TypeError(f"w must be an array of floats; got {got}")
    if config is None:
        config = {}
    elif not isinstance(config, dict):
        raise TypeError(f"config must be a dict or None; got {type(config).__name__}")
    dw = np.asarray(dw)
    if dw.dtype.kind not in "biuf":
        raise TypeError(f"dw must hold real numbers; got dtype {dw.dtype}")
    if dw.shape != w.shape:
        # A gradient with more axes than w would change the parameter's shape without a word.
        try:
            np.broadcast_to(dw, w.shape)
        except ValueError:
            raise ValueError(
                f"dw must broadcast to the shape of w, {w.shape}; got shape {dw.shape}"
            ) from None
    new = {**defaults, **config}
    for name in defaults:
        value = _number(new, name)
        if name in ("beta1", "beta2") and not 0 <= value < 1:  # 1 - beta**t is divided by
            raise ValueError(f"config[{name!r}] must be at least 0 and below 1; got {value}")
        if name == "t" and not value >= 0:
            raise ValueError(f"config['t'] must be at least 0, a count of steps; got {value}")
    for name in states:
        state = w if new.get(name) is None else np.asarray(new[name])
        if state.shape != w.shape:
            raise ValueError(
                f"config[{name!r}] must have the shape of w, {w.shape}; got {state.shape}"
            )
        if state.dtype.kind not in "biuf":
            raise TypeError(f"config[{name!r}] must hold real numbers; got dtype {state.dtype}")
    return dw, config, new


def _number(config: Config, name: str) -> float:
    """A hyperparameter as a Python float.

    A NumPy float64 scalar, as `np.logspace` yields, would turn float32 weights into float64.
    """
    try:
        return float(config[name])
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"config[{name!r}] must be a number; got {config[name]!r}") from None


def _state(config: Config, name: str, w: ArrayLike) -> Array:
    """A running array of `config`, zeros at the first step."""
    state = config.get(name)
    return np.zeros_like(w) if state is None else np.asarray(state)
