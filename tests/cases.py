"""The matrices that the tests run over: shapes, sizes, dtypes, tolerances. They live here once.

Shapes stand at the edges of the loops: 0 and 1, odd, one over a vector, a tile, a block or a part,
tall and wide.
"""

import numpy as np

from fastbn import _ext

DTYPES = (np.float32, np.float64)
LEVELS = _ext.available_levels()
THREADS = (1, 2, 5)

#: (N, D)
MATRICES = [
    (0, 5),
    (5, 0),
    (1, 1),
    (1, 7),
    (7, 1),
    (3, 33),
    (16, 16),
    (100, 50),
    (33, 257),
    (130, 65),
    (2, 4099),  # wide: more than one block of a row
    (5000, 3),
    (4097, 65),  # tall: rows are cut into parts
    (70, 2049),  # wide blocks of columns
]

#: (N, C, H, W)
IMAGES = [
    (0, 3, 4, 4),
    (2, 0, 4, 4),
    (1, 1, 1, 1),
    (2, 3, 1, 1),
    (2, 3, 4, 5),
    (3, 2, 7, 7),
    (1, 6, 17, 3),
    (4, 12, 8, 8),
    (40, 2, 33, 31),  # few channels: images are cut into parts
    (9, 9, 16, 16),
    (2, 4, 48, 47),  # a plane of more than one block
]

#: shape, G
GROUPS = [
    ((0, 4, 3, 3), 2),
    ((1, 1, 1, 1), 1),
    ((2, 6, 4, 5), 1),
    ((2, 6, 4, 5), 3),
    ((3, 6, 1, 1), 6),
    ((5, 12, 7, 7), 4),
    ((2, 8, 33, 32), 2),  # a group of more than one block
    ((40, 16, 8, 8), 8),
]

#: shape of x, F, HH, WW, stride, pad
CONVOLUTIONS = [
    ((0, 3, 5, 5), 2, 3, 3, 1, 1),
    ((2, 0, 5, 5), 2, 3, 3, 1, 1),
    ((2, 3, 5, 5), 0, 3, 3, 1, 1),
    ((2, 3, 0, 4), 2, 1, 1, 1, 1),
    ((1, 1, 1, 1), 1, 1, 1, 1, 0),
    ((1, 1, 1, 1), 2, 3, 3, 1, 1),
    ((2, 3, 5, 5), 2, 3, 3, 2, 1),
    ((2, 3, 7, 6), 5, 3, 3, 2, 0),  # the stride does not tile
    ((3, 2, 6, 9), 4, 2, 3, 1, 2),  # non-square filter and image
    ((2, 2, 5, 4), 3, 5, 4, 1, 0),  # filter as large as the image
    ((1, 3, 4, 4), 2, 1, 1, 3, 0),  # stride larger than the filter
    ((2, 3, 4, 5), 3, 2, 2, 1, 4),  # windows of padding alone
    ((1, 1, 23, 23), 7, 11, 11, 4, 2),
    ((4, 7, 8, 8), 13, 3, 3, 1, 1),  # one filter over a tile
    ((5, 3, 7, 7), 33, 3, 3, 1, 1),  # one over two vectors; panels run over images
    ((17, 4, 2, 2), 6, 1, 1, 1, 0),
    ((2, 31, 9, 9), 12, 3, 3, 1, 1),  # more than DEPTH rows of patches, two chunks of channels
    ((2, 4, 6, 6), 260, 3, 3, 1, 0),  # more than DEPTH filters
    ((1, 2, 40, 33), 3, 3, 3, 1, 1),  # more than one block of pixels
    ((3, 2, 4, 130), 4, 1, 5, 1, 2),  # rows wider than a panel
    ((2, 70, 3, 3), 5, 3, 3, 1, 1),
    ((1, 2, 1030, 1), 3, 2, 1, 1, 0),  # more rows of one output than a block may have
    ((2, 3, 23, 19), 4, 2, 3, 5, 1),  # rows and columns that no filter sees
    ((1, 1, 3, 3), 2, 1, 1, 40, 60),  # next to nothing but padding
]

#: shape of x, pool_height, pool_width, stride
POOLINGS = [
    ((0, 3, 4, 4), 2, 2, 2),
    ((2, 0, 4, 4), 2, 2, 2),
    ((1, 1, 1, 1), 1, 1, 1),
    ((2, 3, 4, 4), 2, 2, 2),
    ((2, 3, 5, 7), 2, 2, 2),  # a row and a column left over
    ((3, 2, 9, 9), 3, 3, 3),
    ((2, 2, 9, 8), 3, 3, 2),  # overlapping
    ((2, 3, 8, 8), 3, 3, 1),
    ((2, 2, 7, 5), 2, 3, 1),
    ((1, 2, 10, 11), 2, 2, 3),  # gaps
    ((1, 2, 6, 5), 6, 5, 1),  # the whole plane
    ((3, 5, 2, 70), 1, 2, 2),
    ((2, 3, 4, 66), 2, 2, 2),  # one over a vector of outputs
    ((1, 1, 18, 18), 17, 17, 1),  # more places than a byte counts
]

#: shape of x, field_height, field_width, padding, stride
FIELDS = [
    ((0, 3, 5, 5), 3, 3, 1, 1),
    ((2, 0, 5, 5), 3, 3, 1, 1),
    ((1, 1, 1, 1), 1, 1, 0, 1),
    ((2, 3, 5, 5), 3, 3, 1, 1),
    ((3, 2, 6, 7), 2, 3, 0, 2),
    ((17, 3, 7, 5), 3, 2, 2, 3),  # one image over a block
    ((2, 2, 3, 4), 5, 6, 2, 1),
    ((1, 2, 3, 3), 2, 2, 5, 1),  # windows of padding alone
    ((33, 2, 3, 17), 3, 3, 1, 1),  # one image and one pixel over a block
    ((18, 2, 2, 3), 1, 2, 0, 1),  # many rows to a block of pixels
    ((3, 2, 8, 12), 3, 3, 1, 2),  # strides that tile the rows
    ((2, 2, 5, 34), 4, 4, 1, 2),
    ((3, 2, 7, 13), 3, 3, 1, 2),  # a pixel short of that
    ((2, 2, 8, 10), 3, 3, 1, 4),
    ((2, 2, 9, 9), 2, 3, 0, 3),
    ((16, 1, 8, 6), 1, 1, 0, 2),  # most pixels in no window
    ((2, 1, 4, 4), 9, 9, 5, 1),  # columns of the filter that see padding alone
    ((2, 2, 3, 5), 2, 2, 1, 7),  # one window, stride to the end
    ((2, 2, 3, 5), 2, 2, 9, 11),
    ((400, 1, 3, 60), 3, 3, 1, 1),  # rows cut into strips
    ((2060, 1, 3, 17), 3, 3, 1, 1),  # images cut into blocks, not whole lines apart
    ((40, 1, 7, 300), 3, 5, 2, 2),
    ((1, 1, 140, 130), 3, 3, 1, 1),  # planes cut into bands
    ((2, 1, 90, 100), 3, 3, 1, 2),
    ((2, 1, 140, 131), 3, 2, 0, 1),
]


def tolerance(dtype, terms=1):
    """Bound for the relative difference of two sums of `terms` numbers of order one.

    Rounding errors add up like a random walk; eight times that is far from any real mistake.
    """
    return 8 * np.finfo(dtype).eps * np.sqrt(max(terms, 4))


def condition(x, axis, eps):
    """By how much normalizing x over `axis` magnifies rounding errors: max |x| / deviation."""
    if not x.size:
        return 1
    exact = x.astype(np.float64)
    spread = np.sqrt(exact.var(axis=axis) + eps)
    return max(1, (np.abs(exact).max(axis=axis) / spread).max())


def assert_same(actual, expected, dtype, terms=1, condition=1):
    """Equal up to rounding on the scale of the expected array, with the same dtype and shape.

    `condition`: by how much the function itself magnifies its arguments' rounding errors.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    scale = np.abs(expected[finite]).max(initial=1) * condition
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance(dtype, terms) * scale)
