"""The course's ``im2col`` names."""

import numpy as np

from .layers._im2col import col2im_indices, get_im2col_indices, im2col_indices

__all__ = [
    "np",
    "col2im_indices",
    "get_im2col_indices",
    "im2col_indices",
]
