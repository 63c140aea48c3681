"""What the probability of a dropout means, where the course's years disagree."""

CONVENTIONS = ("keep", "drop")

_convention = "keep"


def set_dropout_convention(convention: str) -> None:
    """Set what ``dropout_param["p"]`` means.

    The course gave one name two meanings: the probability to keep a number in 2015 and from 2018
    on, the probability to drop it in 2016 and 2017. Code of those two years runs as it is after
    ``set_dropout_convention("drop")``.

    Parameters
    ----------
    convention : {'keep', 'drop'}
        With ``'keep'``, the default, the mask is ``(u < p) / p``, with ``'drop'`` it is
        ``(u > p) / (1 - p)``, where ``u = np.random.rand(*x.shape)``.

    Raises
    ------
    ValueError
        If `convention` is neither of the two.

    Notes
    -----
    It holds for the whole process: for the layers, for :mod:`fastbn.reference`, and for the
    argument `dropout` of :class:`fastbn.classifiers.FullyConnectedNet`, whose
    `dropout_keep_ratio` is the share kept whatever is set here. Set it before the nets are made,
    and once: a net keeps its ``p``, which the layers read anew at every forward pass. Backward
    passes go by the mask.

    Examples
    --------
    >>> import fastbn
    >>> fastbn.set_dropout_convention("drop")
    >>> fastbn.get_dropout_convention()
    'drop'
    >>> fastbn.set_dropout_convention("keep")
    """
    global _convention
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}; got {convention!r}")
    _convention = convention


def get_dropout_convention() -> str:
    """What ``dropout_param["p"]`` means.

    Returns
    -------
    str
        What :func:`set_dropout_convention` set, at first ``'keep'``.
    """
    return _convention
