"""How convolutions are computed, where there is a choice."""

from typing import Any

from ._ext import conv

ALGORITHMS = tuple(conv.ALGORITHMS)

_algorithm = "auto"


def checked(name: str, value: Any) -> str:
    """`value`, one of the algorithms."""
    if value not in ALGORITHMS:
        raise ValueError(f"{name} must be one of {', '.join(ALGORITHMS)}; got {value!r}")
    return str(value)


def set_conv_algorithm(algorithm: str) -> None:
    """Set how convolutions are computed whose `conv_param` does not say.

    Parameters
    ----------
    algorithm : {'auto', 'direct', 'winograd'}
        ``'direct'`` multiplies every place of every filter. ``'winograd'`` takes half the
        multiplications with filters 3 rows tall and three fifths with 5 rows, at stride 1 on
        float32, in the forward pass and in `dx`, and is direct elsewhere. ``'auto'``, the default,
        is ``'winograd'`` where that is faster: from 16 channels and 16 filters up, if the result
        has 4 rows (2 with 5 rows of filters).

    Raises
    ------
    ValueError
        If `algorithm` is none of these.

    Notes
    -----
    ``conv_param["algorithm"]`` says it for one call.

    Winograd's minimal filtering F(4, 3) and F(2, 5), applied along the rows, adds numbers of mixed
    signs before it multiplies. Its error is up to twice that of the direct way on ordinary data and
    stays under three times (root mean square, against float64), also with large offsets and large
    dynamic ranges; but where rows next to each other differ by orders of magnitude, the small
    ones get errors of the size of the large ones' last digits. float64 is always direct. A result
    that is not finite is computed again the direct way, which tells where a NaN belongs.

    Filters as large as the images, without padding, are one matrix product whatever this says.

    References
    ----------
    .. [1] A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.

    Examples
    --------
    >>> import fastbn
    >>> fastbn.set_conv_algorithm("direct")
    >>> fastbn.get_conv_algorithm()
    'direct'
    >>> fastbn.set_conv_algorithm("auto")
    """
    global _algorithm
    _algorithm = checked("algorithm", algorithm)


def get_conv_algorithm() -> str:
    """How convolutions are computed whose `conv_param` does not say.

    Returns
    -------
    str
        What :func:`set_conv_algorithm` set, at first ``'auto'``.
    """
    return _algorithm
