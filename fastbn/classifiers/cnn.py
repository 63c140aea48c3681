"""A small convolutional net with a softmax loss.

The star imports are the course's: its notebooks take the layers from here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from .. import _check, layer_utils
from .. import layers as compiled
from ..fast_layers import *
from ..layer_utils import *
from ..layers import *
from ..layers import _fused
from . import _base

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike

    from ..typing import Array, IntArray

__all__ = ["ThreeLayerConvNet"]
__all__ += layer_utils.__all__

_POOL_PARAM = {"pool_height": 2, "pool_width": 2, "stride": 2}


class ThreeLayerConvNet(_base.Net):
    """conv - [norm] - relu - 2x2 max pool - affine - [norm] - relu - affine - softmax.

    Parameters
    ----------
    input_dim : (int, int, int), default (3, 32, 32)
        Channels, height and width of an image: C, H, W.
    num_filters : int, default 32
        Filters of the convolution, F.
    filter_size : int, default 7
        Height and width of a filter, S. The padding keeps the size of the image if S is odd.
    hidden_dim : int, default 100
        Width of the hidden affine layer.
    num_classes : int, default 10
        Classes.
    weight_scale : float, default 1e-3
        Standard deviation of the initial weights. Biases start at 0.
    reg : float, default 0.0
        Strength of the L2 regularisation of the weights.
    dtype : dtype, default numpy.float32
        Floating dtype of the parameters. Samples are *not* cast to it: with float64 images
        the net computes in float64.
    normalization : {"batchnorm", "layernorm", None}, default None
        What stands between a convolution or affine layer and its relu. After the convolution,
        that is the spatial batch normalization, or the group normalization with one group, which
        normalizes all of an image.
    use_batchnorm : bool, optional
        The spelling of 2016 and 2017: True is ``normalization="batchnorm"``.

    Attributes
    ----------
    params : dict
        ``W1`` (F, C, S, S), ``b1`` (F,), ``W2`` (F * (H // 2) * (W // 2), hidden_dim) for odd S,
        ``b2`` (hidden_dim,), ``W3`` (hidden_dim, num_classes) and ``b3`` (num_classes,). With a
        normalization also ``gamma1`` and ``beta1`` (F,), ``gamma2`` and ``beta2`` (hidden_dim,).
    bn_params : list of dict
        One for every normalization layer; with batchnorm they hold the running statistics.
    reg, dtype, normalization
        As passed.
    layers : module
        Class attribute: where the layer functions come from, :mod:`fastbn.layers`.

    Raises
    ------
    ValueError
        For an unknown normalization, a size below 1, an image too small for the filter or the
        pool, or a `weight_scale` or `reg` that is negative or not finite.
    TypeError
        If an argument has the wrong type, or is given in both of its spellings.

    Notes
    -----
    The weights are drawn from the global stream of ``numpy.random``, layer by layer.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.classifiers import ThreeLayerConvNet
    >>> net = ThreeLayerConvNet(input_dim=(3, 8, 8), num_filters=4, filter_size=3, hidden_dim=10)
    >>> X, y = np.ones((2, 3, 8, 8), np.float32), np.array([0, 9])
    >>> net.loss(X).shape
    (2, 10)
    >>> loss, grads = net.loss(X, y)
    >>> grads["W1"].shape
    (4, 3, 3, 3)
    """

    def __init__(
        self,
        input_dim: Sequence[int] = (3, 32, 32),
        num_filters: int = 32,
        filter_size: int = 7,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
        dtype: DTypeLike = np.float32,
        *,
        normalization: str | None = None,
        use_batchnorm: bool | None = None,
    ) -> None:
        super().__init__(reg, normalization, use_batchnorm)
        self.dtype = _base.check_dtype(dtype)
        if np.shape(input_dim) != (3,):
            raise ValueError(f"input_dim must be (channels, height, width); got {input_dim!r}")
        C, H, W = (_check.integer(f"input_dim[{i}]", size, 1) for i, size in enumerate(input_dim))
        F = _check.integer("num_filters", num_filters, 1)
        S = _check.integer("filter_size", filter_size, 1)
        hidden_dim = _check.integer("hidden_dim", hidden_dim, 1)
        num_classes = _check.integer("num_classes", num_classes, 1)
        scale = _base.check_number("weight_scale", weight_scale)

        # An even filter takes one row and one column off.
        pooled = [(size - (S + 1) % 2) // 2 for size in (H, W)]
        if min(pooled) < 1:
            raise ValueError(
                "input_dim must leave at least 2x2 numbers to pool; "
                f"got {input_dim!r} with filter_size {filter_size!r}"
            )
        shapes = {
            1: (F, C, S, S),
            2: (F * pooled[0] * pooled[1], hidden_dim),
            3: (hidden_dim, num_classes),
        }
        for i, shape in shapes.items():
            self.params[f"W{i}"] = (np.random.randn(*shape) * scale).astype(self.dtype)
            size = shape[0] if i == 1 else shape[1]
            self.params[f"b{i}"] = np.zeros(size, self.dtype)
            if self.normalization and i < 3:
                self._add_normalization(i, size)
        self._set_mode("train")

    @overload
    def loss(self, X: Array, y: None = None) -> Array: ...
    @overload
    def loss(self, X: Array, y: IntArray) -> tuple[float, _base.Arrays]: ...
    def loss(self, X: Array, y: IntArray | None = None) -> Any:
        """Return the scores, or, given classes, the loss and its gradients.

        Parameters
        ----------
        X : ndarray (N, C, H, W)
            Images.
        y : ndarray of int, (N,), optional
            Classes. With them, a batch normalization runs in training mode, without in test mode.

        Returns
        -------
        scores : ndarray (N, num_classes)
            If `y` is None.
        loss, grads : float and dict
            Otherwise; one gradient for every parameter, under the same name.
        """
        self._set_mode("test" if y is None else "train")
        layers, params = self.layers, self.params
        # Keeps the size of the image, if that of the filter is odd.
        conv_param = {"stride": 1, "pad": (params["W1"].shape[2] - 1) // 2}
        out, conv_cache = layers.conv_forward_fast(X, params["W1"], params["b1"], conv_param)
        if self.normalization:
            forward = self._spatial("forward")
            groups = () if self.normalization == "batchnorm" else (1,)
            out, norm_cache = forward(
                out, params["gamma1"], params["beta1"], *groups, self.bn_params[0]
            )
        out, relu_pool_cache = self._relu_pool("forward")(out, _POOL_PARAM)
        out, hidden_cache = layers.affine_forward(out, params["W2"], params["b2"])
        if self.normalization:
            out, hidden_relu_cache = self._norm_relu("forward")(
                out, params["gamma2"], params["beta2"], self.bn_params[1]
            )
        else:
            out, hidden_relu_cache = layers.relu_forward(out)
        scores, scores_cache = layers.affine_forward(out, params["W3"], params["b3"])
        if y is None:
            return scores

        grads: _base.Arrays = {}
        loss, dout = layers.softmax_loss(scores, y)
        dout, grads["W3"], grads["b3"] = layers.affine_backward(dout, scores_cache)
        if self.normalization:
            backward = self._norm_relu("backward")
            dout, grads["gamma2"], grads["beta2"] = backward(dout, hidden_relu_cache)
        else:
            dout = layers.relu_backward(dout, hidden_relu_cache)
        dout, grads["W2"], grads["b2"] = layers.affine_backward(dout, hidden_cache)
        dout = self._relu_pool("backward")(dout, relu_pool_cache)
        if self.normalization:
            backward = self._spatial("backward")
            dout, grads["gamma1"], grads["beta1"] = backward(dout, norm_cache)
        _, grads["W1"], grads["b1"] = layers.conv_backward_fast(dout, conv_cache)
        return loss + self._weight_decay(grads), grads

    def _spatial(self, direction: str) -> Any:
        """The normalization of images."""
        name = "batchnorm" if self.normalization == "batchnorm" else "groupnorm"
        return getattr(self.layers, f"spatial_{name}_{direction}")

    def _relu_pool(self, direction: str) -> Any:
        """relu and the pooling after it: in one if `layers` are the compiled ones."""
        layers = self.layers
        if layers is compiled:
            return getattr(_fused, f"relu_pool_{direction}")

        def forward(x: Any, pool_param: Any) -> Any:
            out, relu_cache = layers.relu_forward(x)
            out, pool_cache = layers.max_pool_forward_fast(out, pool_param)
            return out, (relu_cache, pool_cache)

        def backward(dout: Any, cache: Any) -> Any:
            relu_cache, pool_cache = cache
            return layers.relu_backward(layers.max_pool_backward_fast(dout, pool_cache), relu_cache)

        return {"forward": forward, "backward": backward}[direction]
