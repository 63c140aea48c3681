"""The layers in plain NumPy: what the tests compare with and the benchmarks measure against."""

import numpy as np

from ._affine import affine_backward, affine_forward
from ._batchnorm import (
    batchnorm_backward,
    batchnorm_backward_alt,
    batchnorm_forward,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
)
from ._conv import (
    conv_backward_fast,
    conv_backward_im2col,
    conv_backward_naive,
    conv_backward_strides,
    conv_forward_fast,
    conv_forward_im2col,
    conv_forward_naive,
    conv_forward_strides,
)
from ._dropout import dropout_backward, dropout_forward
from ._groupnorm import (
    spatial_groupnorm_backward,
    spatial_groupnorm_forward,
    spatial_quick_groupnorm_backward,
    spatial_quick_groupnorm_forward,
)
from ._im2col import (
    col2im_6d_cython,
    col2im_cython,
    col2im_indices,
    get_im2col_indices,
    im2col_cython,
    im2col_indices,
)
from ._layernorm import layernorm_backward, layernorm_forward
from ._loss import softmax_loss, svm_loss
from ._pool import (
    max_pool_backward_fast,
    max_pool_backward_im2col,
    max_pool_backward_naive,
    max_pool_backward_reshape,
    max_pool_forward_fast,
    max_pool_forward_im2col,
    max_pool_forward_naive,
    max_pool_forward_reshape,
)
from ._relu import relu_backward, relu_forward

__all__ = [
    "np",
    "affine_backward",
    "affine_forward",
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
    "conv_backward_fast",
    "conv_backward_im2col",
    "conv_backward_naive",
    "conv_backward_strides",
    "conv_forward_fast",
    "conv_forward_im2col",
    "conv_forward_naive",
    "conv_forward_strides",
    "dropout_backward",
    "dropout_forward",
    "spatial_groupnorm_backward",
    "spatial_groupnorm_forward",
    "spatial_quick_groupnorm_backward",
    "spatial_quick_groupnorm_forward",
    "col2im_6d_cython",
    "col2im_cython",
    "col2im_indices",
    "get_im2col_indices",
    "im2col_cython",
    "im2col_indices",
    "layernorm_backward",
    "layernorm_forward",
    "softmax_loss",
    "svm_loss",
    "max_pool_backward_fast",
    "max_pool_backward_im2col",
    "max_pool_backward_naive",
    "max_pool_backward_reshape",
    "max_pool_forward_fast",
    "max_pool_forward_im2col",
    "max_pool_forward_naive",
    "max_pool_forward_reshape",
    "relu_backward",
    "relu_forward",
]
