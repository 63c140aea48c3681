"""Data sets: CIFAR-10 from a folder, and the small digits that come with scikit-learn.

The CIFAR-10 batches are pickles, and an ordinary unpickler runs whatever code a pickle names.
The one here knows nothing but plain arrays, so that a data folder from anywhere can be opened.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from . import _check, _plain_pickle

# Where the course's get_datasets.sh puts the batches, seen from an assignment's folder; then two
# natural places for whoever downloads them by hand.
_CIFAR10_DIRS = tuple(
    os.path.join(*parent, "cifar-10-batches-py")
    for parent in (("cs231n", "datasets"), ("datasets",), (os.curdir,))
)
_CIFAR10_IMAGE = (3, 32, 32)

Data = dict[str, npt.NDArray[Any]]


def load_pickle(f: BinaryIO) -> Any:
    """Read a pickle of dicts, lists, tuples, strings, numbers and NumPy arrays of numbers.

    Byte strings of Python 2 are decoded as Latin-1.

    Parameters
    ----------
    f : binary file object
        Open for reading.

    Returns
    -------
    object
        What the pickle holds.

    Raises
    ------
    ValueError
        If the pickle is malformed, cut short, or names anything but a plain array. Nothing that
        it names is imported or called.
    """
    return _plain_pickle.load(f)


def load_CIFAR_batch(
    filename: str | os.PathLike[str],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Read one batch of CIFAR-10 in the version for Python.

    Parameters
    ----------
    filename : str or path-like
        For instance ``cifar-10-batches-py/data_batch_1``.

    Returns
    -------
    X : ndarray of float64, (N, 32, 32, 3)
        Images, 0 to 255. N is 10000 in the published batches.
    Y : ndarray of int64, (N,)
        Classes, 0 to 9.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a batch, or cut short.
    """
    pixels, labels = _read_batch(filename)
    return pixels.transpose(0, 2, 3, 1).astype(np.float64, order="C"), labels


def load_CIFAR10(
    ROOT: str | os.PathLike[str],
) -> tuple[
    npt.NDArray[np.float64],
    npt.NDArray[np.int64],
    npt.NDArray[np.float64],
    npt.NDArray[np.int64],
]:
    """Read all of CIFAR-10.

    Parameters
    ----------
    ROOT : str or path-like
        Folder with ``data_batch_1`` to ``data_batch_5`` and ``test_batch``.

    Returns
    -------
    Xtr, Ytr : ndarrays, (50000, 32, 32, 3) of float64 and (50000,) of int64
        Training images and classes.
    Xte, Yte : ndarrays, (10000, 32, 32, 3) of float64 and (10000,) of int64
        Test images and classes.

    Raises
    ------
    FileNotFoundError
        If the folder or one of the files is missing.
    ValueError
        If a file is not a batch, or cut short.
    """
    if not os.path.isdir(ROOT):
        raise FileNotFoundError(f"no such folder of CIFAR-10 batches: {os.fspath(ROOT)!r}")
    names = [f"data_batch_{number}" for number in range(1, 6)]
    batches = [load_CIFAR_batch(os.path.join(ROOT, name)) for name in names]
    Xtr = np.concatenate([X for X, _ in batches])
    Ytr = np.concatenate([Y for _, Y in batches])
    return Xtr, Ytr, *load_CIFAR_batch(os.path.join(ROOT, "test_batch"))


def get_CIFAR10_data(
    num_training: int = 49000,
    num_validation: int = 1000,
    num_test: int = 1000,
    subtract_mean: bool = True,
    cifar10_dir: str | os.PathLike[str] | None = None,
) -> Data:
    """Read CIFAR-10 and split it for training.

    Parameters
    ----------
    num_training : int, default 49000
        The first so many training images.
    num_validation : int, default 1000
        The training images that follow them.
    num_test : int, default 1000
        The first so many test images.
    subtract_mean : bool, default True
        Subtract the mean training image from all three sets.
    cifar10_dir : str or path-like, optional
        Folder of the batches. By default the first that exists of
        ``cs231n/datasets/cifar-10-batches-py``, ``datasets/cifar-10-batches-py`` and
        ``cifar-10-batches-py`` in the current folder.

    Returns
    -------
    dict
        ``X_train``, ``X_val`` and ``X_test``, float64 (N, 3, 32, 32), with ``y_train``, ``y_val``
        and ``y_test``, int64 (N,).

    Raises
    ------
    FileNotFoundError
        If the folder or one of the files is missing.
    ValueError
        If a file is not a batch, or there are fewer images than asked for.
    TypeError
        If a count is not an integer.
    """
    X, y, X_test, y_test = load_CIFAR10(_find_CIFAR10() if cifar10_dir is None else cifar10_dir)
    return _split(
        (X.transpose(0, 3, 1, 2), y),
        (X_test.transpose(0, 3, 1, 2), y_test),
        num_training,
        num_validation,
        num_test,
        subtract_mean,
    )


def get_digits_data(
    num_validation: int = 180,
    num_test: int = 360,
    subtract_mean: bool = True,
    seed: int = 0,
) -> Data:
    """Return the handwritten digits that are bundled with scikit-learn, split for training.

    Parameters
    ----------
    num_validation : int, default 180
        Images of the validation set.
    num_test : int, default 360
        Images of the test set. The rest of the 1797 is the training set.
    subtract_mean : bool, default True
        Subtract the mean training image from all three sets, after scaling to 0 to 1.
    seed : int, default 0
        The split is drawn with it, and leaves the global stream of random numbers alone.

    Returns
    -------
    dict
        ``X_train``, ``X_val`` and ``X_test``, float64 (N, 1, 8, 8), with ``y_train``, ``y_val``
        and ``y_test``, int64 (N,).

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    ValueError
        If there are fewer images than asked for.
    TypeError
        If a count is not an integer.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits come with scikit-learn, which is not installed: pip install 'fastbn[train]'"
        ) from error
    digits = load_digits()
    # RandomState, whose stream NumPy has frozen, so that the split never changes.
    order = np.random.RandomState(seed).permutation(len(digits.target))
    X, y = digits.images[order, None] / 16.0, digits.target[order].astype(np.int64)
    _check.integer("num_validation", num_validation, 1)
    _check.integer("num_test", num_test, 1)
    rest = len(y) - num_test
    if num_validation >= rest:
        raise ValueError(
            f"num_validation + num_test must be less than {len(y)}; "
            f"got {num_validation} + {num_test}"
        )
    return _split(
        (X[:rest], y[:rest]),
        (X[rest:], y[rest:]),
        rest - num_validation,
        num_validation,
        num_test,
        subtract_mean,
    )


def _split(
    train: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    test: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    num_training: int,
    num_validation: int,
    num_test: int,
    subtract_mean: bool,
) -> Data:
    """Cut the three sets out of two, as C-contiguous copies."""
    counts = {"num_training": num_training, "num_validation": num_validation, "num_test": num_test}
    for name, count in counts.items():
        _check.integer(name, count, 1)
    (X, y), (X_test, y_test) = train, test
    end = num_training + num_validation
    if end > len(y):
        raise ValueError(
            f"num_training + num_validation must be at most {len(y)}; "
            f"got {num_training} + {num_validation}"
        )
    if num_test > len(y_test):
        raise ValueError(f"num_test must be at most {len(y_test)}; got {num_test}")
    data = {
        "X_train": X[:num_training].copy(),
        "y_train": y[:num_training].copy(),
        "X_val": X[num_training:end].copy(),
        "y_val": y[num_training:end].copy(),
        "X_test": X_test[:num_test].copy(),
        "y_test": y_test[:num_test].copy(),
    }
    if subtract_mean:
        mean = np.mean(data["X_train"], axis=0)
        for key in ("X_train", "X_val", "X_test"):
            data[key] -= mean
    return data


def _find_CIFAR10() -> str:
    for folder in _CIFAR10_DIRS:
        if os.path.isdir(folder):
            return folder
    raise FileNotFoundError(
        f"no CIFAR-10 batches in {' or '.join(_CIFAR10_DIRS)} of {os.getcwd()!r}; pass cifar10_dir"
    )


def _read_batch(
    filename: str | os.PathLike[str],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the pixels (N, 3, 32, 32) and classes (N,) of a batch, checked."""
    try:
        with open(filename, "rb") as file:
            batch = load_pickle(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"no such CIFAR-10 batch: {os.fspath(filename)!r}") from None
    name = os.fspath(filename)
    if not isinstance(batch, dict) or "data" not in batch or "labels" not in batch:
        raise ValueError(
            f"{name} is not a CIFAR-10 batch: it must hold a dict with the keys data and labels"
        )
    pixels = _flat_array(batch["data"])
    size = int(np.prod(_CIFAR10_IMAGE))
    if pixels.ndim != 2 or pixels.shape[1] != size or pixels.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} is not a CIFAR-10 batch: data must be numbers of shape "
            f"(N, {size}); got {pixels.dtype} of shape {pixels.shape}"
        )
    labels = _flat_array(batch["labels"])
    if labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{name} is not a CIFAR-10 batch: labels must be {len(pixels)} integers; "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    if len(labels) == 0 or labels.min() < 0 or labels.max() > 9:
        raise ValueError(f"{name} is not a CIFAR-10 batch: labels must be one or more of 0 to 9")
    return pixels.reshape(-1, *_CIFAR10_IMAGE), labels.astype(np.int64)


def _flat_array(value: Any) -> npt.NDArray[Any]:
    """An array as it is, a flat list as an array, anything else as an array of one object.

    NumPy would walk into a nest of lists, which can be exponentially larger than its pickle.
    """
    if isinstance(value, np.ndarray):
        return value
    containers = list, tuple
    flat = isinstance(value, containers) and not any(isinstance(v, containers) for v in value)
    return np.asarray(value if flat else None)
