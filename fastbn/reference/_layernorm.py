"""Layer normalization."""

import numpy as np

from ._dtype import promote, working
from ._moments import centre, normalize_backward


@np.errstate(all="ignore")
def layernorm_forward(x, gamma, beta, ln_param):
    """out = gamma * (x - mean) / sqrt(var + eps) + beta, with mean and var of every row."""
    eps = float(ln_param.get("eps", 1e-5))
    values, scale, shift, dtype = working(x, gamma, beta)
    centred, _, var = centre(values, axis=1)
    std = np.sqrt(var + eps)
    xhat = centred / std.astype(centred.dtype)
    out = scale * xhat + shift
    return out.astype(dtype, copy=False), (xhat, std, gamma, dtype)


@np.errstate(all="ignore")
def layernorm_backward(dout, cache):
    """Gradient of layer normalization: that of batch normalization with the axes exchanged."""
    xhat, std, gamma, forward_dtype = cache
    _, dtype = promote(dout, forward_dtype)
    dout, xhat, scale, _ = working(dout, xhat, gamma)
    dbeta = np.sum(dout, axis=0, dtype=np.float64)
    dgamma = np.sum(dout * xhat, axis=0, dtype=np.float64)
    # Unlike in batch normalization, gamma varies along the axis of the means: it goes in first.
    dx = normalize_backward(dout * scale, xhat, std, axis=1)
    return dx.astype(dtype, copy=False), dgamma.astype(dtype), dbeta.astype(dtype)
