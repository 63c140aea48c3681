"""What a sample of one of PyTorch's operators is here: `torch_samples.py` has the adapters."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np


class NoCounterpart(Exception):
    """Our functions have nothing that a sample could be turned into."""


class Counterpart(NamedTuple):
    """A call of ours that must give what PyTorch gives."""

    #: () -> (out, backward); backward(dout) -> gradients; all in PyTorch's shapes
    run: Callable
    #: the tensors that the gradients belong to; None where the sample has no such tensor
    leaves: tuple
    #: length of the longest sum
    terms: int
    #: size of the largest term of a sum, for a dout of order one
    scale: float
    #: called once PyTorch has run: more to compare
    after: Callable = lambda: None


def bind(sample, *names, **defaults):
    """The sample's arguments by name; in the order of `names` where they have none."""
    given = dict(zip(names, sample.args, strict=False)) | sample.kwargs
    unknown = set(given) - set(names) - set(defaults)
    assert not unknown, f"an argument that the adapter does not know: {unknown}"
    return SimpleNamespace(**{**dict.fromkeys(names), **defaults, **given})


def as_array(tensor):
    return tensor.detach().numpy()


def array_or(tensor, value, length, like):
    """The tensor as an array, or so many values where there is none."""
    return np.full(length, value, as_array(like).dtype) if tensor is None else as_array(tensor)


def largest(*arrays):
    """The product of the largest numbers of arrays, each at least 1."""
    return float(np.prod([np.abs(a).max(initial=1) for a in arrays]))
