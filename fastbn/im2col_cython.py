"""The names of the course's compiled extension."""

from .layers._im2col import col2im_6d_cython, col2im_cython, im2col_cython

__all__ = [
    "col2im_6d_cython",
    "col2im_cython",
    "im2col_cython",
]
