"""Fully connected nets with a softmax loss.

The star imports are the course's: its notebooks take the layers from here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from .. import _check, _convention, layer_utils
from ..layer_utils import *
from ..layers import *
from ..layers import _check as _arrays
from . import _base

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, DTypeLike

    from ..typing import Array, IntArray

__all__ = ["TwoLayerNet", "FullyConnectedNet"]
__all__ += layer_utils.__all__


class TwoLayerNet(_base.Net):
    """affine - relu - affine - softmax.

    Parameters
    ----------
    input_dim : int, default 3*32*32
        Numbers in one sample, D.
    hidden_dim : int, default 100
        Width of the hidden layer, H.
    num_classes : int, default 10
        Classes, C.
    weight_scale : float, default 1e-3
        Standard deviation of the initial weights. Biases start at 0.
    reg : float, default 0.0
        Strength of the L2 regularisation of the weights.

    Attributes
    ----------
    params : dict
        ``W1`` (D, H), ``b1`` (H,), ``W2`` (H, C) and ``b2`` (C,), float64.
    reg : float
        As passed.
    layers : module
        Class attribute: where the layer functions come from, :mod:`fastbn.layers`.

    Raises
    ------
    ValueError
        If a size is below 1, or `weight_scale` or `reg` is negative or not finite.
    TypeError
        If an argument has the wrong type.

    Notes
    -----
    The weights are drawn from the global stream of ``numpy.random``, layer by layer.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.classifiers import TwoLayerNet
    >>> net = TwoLayerNet(input_dim=8, hidden_dim=5, num_classes=3, reg=0.1)
    >>> X, y = np.ones((4, 8)), np.array([0, 1, 2, 0])
    >>> net.loss(X).shape
    (4, 3)
    >>> loss, grads = net.loss(X, y)
    >>> sorted(grads)
    ['W1', 'W2', 'b1', 'b2']
    """

    def __init__(
        self,
        input_dim: int = 3 * 32 * 32,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
    ) -> None:
        super().__init__(reg)
        D = _check.integer("input_dim", input_dim, 1)
        H = _check.integer("hidden_dim", hidden_dim, 1)
        C = _check.integer("num_classes", num_classes, 1)
        scale = _base.check_number("weight_scale", weight_scale)
        self.params["W1"] = np.random.randn(D, H) * scale
        self.params["b1"] = np.zeros(H)
        self.params["W2"] = np.random.randn(H, C) * scale
        self.params["b2"] = np.zeros(C)

    @overload
    def loss(self, X: Array, y: None = None) -> Array: ...
    @overload
    def loss(self, X: Array, y: IntArray) -> tuple[float, _base.Arrays]: ...
    def loss(self, X: Array, y: IntArray | None = None) -> Any:
        """Return the scores, or, given classes, the loss and its gradients.

        Parameters
        ----------
        X : ndarray (N, d1, ..., dk), with d1 * ... * dk = D
            Samples.
        y : ndarray of int, (N,), optional
            Classes.

        Returns
        -------
        scores : ndarray (N, C)
            If `y` is None.
        loss, grads : float and dict
            Otherwise; one gradient for every parameter, under the same name.
        """
        layers, params = self.layers, self.params
        hidden, first_cache = layers.affine_forward(X, params["W1"], params["b1"])
        hidden, relu_cache = layers.relu_forward(hidden)
        scores, second_cache = layers.affine_forward(hidden, params["W2"], params["b2"])
        if y is None:
            return scores

        grads: _base.Arrays = {}
        loss, dout = layers.softmax_loss(scores, y)
        dout, grads["W2"], grads["b2"] = layers.affine_backward(dout, second_cache)
        dout = layers.relu_backward(dout, relu_cache)
        _, grads["W1"], grads["b1"] = layers.affine_backward(dout, first_cache)
        return loss + self._weight_decay(grads), grads


class FullyConnectedNet(_base.Net):
    """{affine - [norm] - relu - [dropout]} x (L - 1) - affine - softmax.

    Parameters
    ----------
    hidden_dims : iterable of int
        Width of every hidden layer; empty for a linear classifier.
    input_dim : int, default 3*32*32
        Numbers in one sample, D.
    num_classes : int, default 10
        Classes, C.
    dropout_keep_ratio : float, default 1
        Probability that dropout keeps a unit. 1 is no dropout, and so is 0, which was the off
        value of 2016 and 2017.
    normalization : {"batchnorm", "layernorm", None}, default None
        What stands between an affine layer and its relu.
    reg : float, default 0.0
        Strength of the L2 regularisation of the weights.
    weight_scale : float, default 1e-2
        Standard deviation of the initial weights. Biases and beta start at 0, gamma at 1.
    dtype : dtype, default numpy.float32
        Floating dtype of the parameters; samples are cast to it.
    seed : int, optional
        If given, dropout draws the same mask at every call (the global stream is seeded anew
        each time): for gradient checks only.
    dropout : float, optional
        The name of `dropout_keep_ratio` in 2018 to 2020, and that of the share that is dropped in
        2016 and 2017: after ``fastbn.set_dropout_convention("drop")`` it is read so. Without that,
        `dropout` between 0 and 1 together with `use_batchnorm` is refused.
    use_batchnorm : bool, optional
        The spelling of 2016 and 2017: True is ``normalization="batchnorm"``. A bool in the place
        of `normalization` is taken for it, and the argument before for `dropout`.

    Attributes
    ----------
    params : dict
        ``W{i}`` and ``b{i}`` for i = 1 to L; with a normalization also ``gamma{i}`` and
        ``beta{i}`` for i = 1 to L - 1.
    num_layers : int
        L, one more than the hidden layers.
    use_dropout : bool
        Whether there is dropout.
    dropout_param : dict
        ``mode``, ``p`` and perhaps ``seed``, shared by all dropout layers; empty without dropout.
        ``p`` is in the convention that was set when the net was made.
    bn_params : list of dict
        One for every normalization layer; with batchnorm they hold the running statistics.
    normalization, reg, dtype
        As passed.
    layers : module
        Class attribute: where the layer functions come from, :mod:`fastbn.layers`.

    Raises
    ------
    ValueError
        For an unknown normalization, a size below 1, a share outside 0 to 1, a `dropout` that
        may mean either share, or a `weight_scale` or `reg` that is negative or not finite.
    TypeError
        If an argument has the wrong type, or is given in both of its spellings.

    Notes
    -----
    The weights are drawn from the global stream of ``numpy.random``, layer by layer.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.classifiers import FullyConnectedNet
    >>> net = FullyConnectedNet([6, 5], input_dim=8, num_classes=3, normalization="batchnorm")
    >>> X, y = np.ones((4, 2, 2, 2)), np.array([0, 1, 2, 0])
    >>> loss, grads = net.loss(X, y)
    >>> grads["gamma2"].shape
    (5,)
    >>> net.loss(X).dtype
    dtype('float32')
    """

    def __init__(
        self,
        hidden_dims: Iterable[int],
        input_dim: int = 3 * 32 * 32,
        num_classes: int = 10,
        dropout_keep_ratio: float = 1,
        normalization: str | None = None,
        reg: float = 0.0,
        weight_scale: float = 1e-2,
        dtype: DTypeLike = np.float32,
        seed: int | None = None,
        *,
        dropout: float | None = None,
        use_batchnorm: bool | None = None,
    ) -> None:
        if isinstance(normalization, bool) and dropout is use_batchnorm is None:
            # By position, as in 2016 and 2017: dropout, use_batchnorm.
            dropout, use_batchnorm = dropout_keep_ratio, normalization
            dropout_keep_ratio, normalization = 1, None
        super().__init__(reg, normalization, use_batchnorm)
        self.dtype = _base.check_dtype(dtype)
        p = _one_dropout(dropout_keep_ratio, dropout, use_batchnorm)
        scale = _base.check_number("weight_scale", weight_scale)
        dims = [_check.integer("input_dim", input_dim, 1)]
        dims += [_check.integer(f"hidden_dims[{i}]", dim, 1) for i, dim in enumerate(hidden_dims)]
        dims += [_check.integer("num_classes", num_classes, 1)]
        self.num_layers = len(dims) - 1

        for i in range(1, self.num_layers + 1):
            weights = np.random.randn(dims[i - 1], dims[i]) * scale
            self.params[f"W{i}"] = weights.astype(self.dtype)
            self.params[f"b{i}"] = np.zeros(dims[i], self.dtype)
            if self.normalization and i < self.num_layers:
                self._add_normalization(i, dims[i])

        self.use_dropout = p is not None
        self.dropout_param: dict[str, Any] = {}
        if self.use_dropout:
            self.dropout_param = {"mode": "train", "p": p}
            if seed is not None:
                self.dropout_param["seed"] = seed
        self._set_mode("train")

    @overload
    def loss(self, X: ArrayLike, y: None = None) -> Array: ...
    @overload
    def loss(self, X: ArrayLike, y: IntArray) -> tuple[float, _base.Arrays]: ...
    def loss(self, X: ArrayLike, y: IntArray | None = None) -> Any:
        """Return the scores, or, given classes, the loss and its gradients.

        Parameters
        ----------
        X : array_like (N, d1, ..., dk), with d1 * ... * dk = D
            Samples, cast to `dtype`.
        y : ndarray of int, (N,), optional
            Classes. With them, normalization and dropout run in training mode, without in test
            mode.

        Returns
        -------
        scores : ndarray (N, C)
            If `y` is None.
        loss, grads : float and dict
            Otherwise; one gradient for every parameter, under the same name.
        """
        out = _arrays.array("X", X).astype(self.dtype, copy=False)
        self._set_mode("test" if y is None else "train")
        layers, last = self.layers, self.num_layers
        caches = []
        for i in range(1, last):
            out, cache = self._hidden_forward(out, i)
            caches.append(cache)
        scores, cache = layers.affine_forward(out, self.params[f"W{last}"], self.params[f"b{last}"])
        if y is None:
            return scores

        grads: _base.Arrays = {}
        loss, dout = layers.softmax_loss(scores, y)
        dout, grads[f"W{last}"], grads[f"b{last}"] = layers.affine_backward(dout, cache)
        for i in range(last - 1, 0, -1):
            dout = self._hidden_backward(dout, i, caches.pop(), grads)
        return loss + self._weight_decay(grads), grads

    def _hidden_forward(self, x: Array, i: int) -> tuple[Any, Any]:
        """affine - [norm] - relu - [dropout] number `i`."""
        layers, params = self.layers, self.params
        norm_cache = dropout_cache = None
        out, affine_cache = layers.affine_forward(x, params[f"W{i}"], params[f"b{i}"])
        if self.normalization:
            forward = self._norm_relu("forward")
            out, (norm_cache, relu_cache) = forward(
                out, params[f"gamma{i}"], params[f"beta{i}"], self.bn_params[i - 1]
            )
        else:
            out, relu_cache = layers.relu_forward(out)
        if self.use_dropout:
            out, dropout_cache = layers.dropout_forward(out, self.dropout_param)
        return out, (affine_cache, norm_cache, relu_cache, dropout_cache)

    def _hidden_backward(self, dout: Any, i: int, cache: Any, grads: _base.Arrays) -> Any:
        """Return the gradient of the input of hidden layer `i`; add those of its parameters."""
        layers = self.layers
        affine_cache, norm_cache, relu_cache, dropout_cache = cache
        if self.use_dropout:
            dout = layers.dropout_backward(dout, dropout_cache)
        if self.normalization:
            backward = self._norm_relu("backward")
            dout, grads[f"gamma{i}"], grads[f"beta{i}"] = backward(dout, (norm_cache, relu_cache))
        else:
            dout = layers.relu_backward(dout, relu_cache)
        dout, grads[f"W{i}"], grads[f"b{i}"] = layers.affine_backward(dout, affine_cache)
        return dout

    def _set_mode(self, mode: str) -> None:
        if self.use_dropout:
            self.dropout_param["mode"] = mode
        super()._set_mode(mode)


def _one_dropout(
    keep_ratio: float, dropout: float | None, use_batchnorm: bool | None
) -> float | None:
    """``dropout_param["p"]`` in the convention that is set, None for no dropout."""
    drops = _convention.get_dropout_convention() == "drop"
    if dropout is None:
        keep = _base.check_number("dropout_keep_ratio", keep_ratio, 1)
        return None if keep in (0, 1) else 1 - keep if drops else keep
    # A keep ratio of 1 cannot be told from the default, and is no dropout in any case.
    if keep_ratio != 1:
        raise TypeError(
            "dropout_keep_ratio and dropout are two spellings of one argument: "
            f"give one of them; got {keep_ratio!r} and {dropout!r}"
        )
    p = _base.check_number("dropout", dropout, 1)
    if drops and p == 1:
        raise ValueError(f"dropout must be below 1: it is the share dropped; got {dropout!r}")
    # Code of 2016 or 2017: to read its share as a keep ratio would train another net in silence.
    if not drops and use_batchnorm is not None and 0 < p < 1:
        raise ValueError(
            "in the years of use_batchnorm, dropout was the share that is dropped: call "
            f'fastbn.set_dropout_convention("drop"), or write dropout_keep_ratio={1 - p:g} '
            f"instead of dropout={p:g}"
        )
    return None if p in (0, 1) else p
