"""Data sets.

CIFAR-10 and TinyImageNet from folders, some images of ImageNet, and the small digits that come with
scikit-learn.

The CIFAR-10 batches are pickles, and an ordinary unpickler runs whatever code a pickle names.
The one here knows nothing but plain arrays, so that a data folder from anywhere can be opened.
"""

from __future__ import annotations

import os
import zipfile
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from . import _check, _checkpoint, _cifar10, _plain_pickle, _tiny_imagenet

__all__ = [
    "np",
    "load_pickle",
    "load_CIFAR_batch",
    "load_CIFAR10",
    "get_CIFAR10_data",
    "load_tiny_imagenet",
    "load_imagenet_val",
    "load_models",
    "get_digits_data",
]

# Where the course's get_datasets.sh puts data, seen from an assignment's folder; then two natural
# places for whoever downloads them by hand.
_DATASETS = (os.path.join("cs231n", "datasets"), "datasets", os.curdir)

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

    Examples
    --------
    >>> import io
    >>> import pickle
    >>> import numpy as np
    >>> from fastbn.data_utils import load_pickle
    >>> load_pickle(io.BytesIO(pickle.dumps({"data": np.arange(3)})))
    {'data': array([0, 1, 2])}
    >>> load_pickle(io.BytesIO(pickle.dumps(print)))
    Traceback (most recent call last):
        ...
    ValueError: ...it names builtins.print, which no plain array needs
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
    pixels, labels = _cifar10.read_batch(_check.path("filename", filename))
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
    ROOT = _check.path("ROOT", ROOT)
    if not os.path.isdir(ROOT):
        raise FileNotFoundError(f"no such folder of CIFAR-10 batches: {ROOT!r}")
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
    if cifar10_dir is None:
        cifar10_dir = _find("cifar-10-batches-py", "cifar10_dir")
    cifar10_dir = _check.path("cifar10_dir", cifar10_dir)
    X, y, X_test, y_test = load_CIFAR10(cifar10_dir)
    return _split(
        (X.transpose(0, 3, 1, 2), y),
        (X_test.transpose(0, 3, 1, 2), y_test),
        num_training,
        num_validation,
        num_test,
        subtract_mean,
    )


def load_tiny_imagenet(
    path: str | os.PathLike[str], dtype: npt.DTypeLike = np.float32, subtract_mean: bool = True
) -> dict[str, Any]:
    """Read TinyImageNet, in any of its sizes (TinyImageNet-100-A, -100-B, -200).

    Parameters
    ----------
    path : str or path-like
        Its folder, with ``wnids.txt``, ``words.txt``, ``train``, ``val`` and ``test``.
    dtype : dtype, default numpy.float32
        Floating dtype of the images. 100000 of them are 4.9 GB in float32.
    subtract_mean : bool, default True
        Subtract the mean training image from all three sets.

    Returns
    -------
    dict
        ``class_names``, a list of words for every class; ``X_train``, ``X_val`` and ``X_test``,
        (N, 3, 64, 64), with ``y_train``, ``y_val`` and ``y_test``, int64 (N,); and ``mean_image``,
        (3, 64, 64). Classes are numbered in the order of ``wnids.txt``; test images are in that of
        their names, and ``y_test`` is None where the folder does not tell.

    Raises
    ------
    FileNotFoundError
        If the folder or one of its files is missing.
    ValueError
        If a file does not hold what it should, or is cut short.
    TypeError
        If `dtype` is not a floating one.
    ImportError
        If Pillow is not installed.

    Notes
    -----
    In 2016 the course returned a tuple; the dict is that of all later years.
    """
    if not np.issubdtype(np.dtype(dtype), np.floating):
        raise TypeError(f"dtype must be a floating dtype; got {dtype!r}")
    data = _tiny_imagenet.read(_check.path("path", path), dtype)
    # In float64: a float32 sum of 100000 pixels has lost its third decimal.
    mean = data["X_train"].mean(axis=0, dtype=np.float64).astype(dtype)
    if subtract_mean:
        for key in ("X_train", "X_val", "X_test"):
            data[key] -= mean
    return {**data, "mean_image": mean}


def load_imagenet_val(
    num: int | None = None, imagenet_file: str | os.PathLike[str] | None = None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], dict[int, str]]:
    """Read the handful of validation images of ImageNet that the course hands out.

    Parameters
    ----------
    num : int, optional
        The first so many images; all of the 25 by default.
    imagenet_file : str or path-like, optional
        The file. By default the first that exists of ``cs231n/datasets/imagenet_val_25.npz``,
        ``datasets/imagenet_val_25.npz`` and ``imagenet_val_25.npz`` in the current folder.

    Returns
    -------
    X : ndarray (num, 224, 224, 3)
        Images, as they are in the file.
    y : ndarray of int, (num,)
        Classes.
    class_names : dict of int to str
        Their names.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it does not hold such data, or is cut short. Nothing in it is run.
    TypeError
        If `num` is not an integer.
    """
    if num is not None:
        num = _check.integer("num", num, 0)
    if imagenet_file is None:
        imagenet_file = _find("imagenet_val_25.npz", "imagenet_file")
    name = _check.path("imagenet_file", imagenet_file)
    with open(name, "rb") as file:
        # For a damaged archive, zipfile, zlib and NumPy raise nearly anything.
        try:
            with zipfile.ZipFile(file) as archive:
                X, y, label_map = (_member(archive, key) for key in ("X", "y", "label_map"))
        except Exception as error:
            raise ValueError(f"{name} is not a readable npz of images: {error}") from error
    class_names = label_map.item() if label_map.shape == () else None
    if X.ndim != 4 or y.shape != X.shape[:1] or not isinstance(class_names, dict):
        raise ValueError(
            f"{name} must hold images (N, H, W, 3) as X, N classes as y and a dict as label_map; "
            f"got {X.shape}, {y.shape} and {type(class_names).__name__}"
        )
    return X[:num], y[:num], class_names


def _member(archive: zipfile.ZipFile, key: str) -> npt.NDArray[Any]:
    with archive.open(f"{key}.npy") as file:
        return _plain_pickle.load_npy(file)


def load_models(models_dir: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Read the models out of all checkpoints in a folder.

    Parameters
    ----------
    models_dir : str or path-like
        The folder. Files that are no pickles (a README, say) are passed over, but for those named
        ``.pkl`` or ``.pickle``.

    Returns
    -------
    dict
        File name to model: the dict of its attributes (``params`` among them), as in
        :func:`fastbn.solver.load_checkpoint`.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If a checkpoint is damaged, has no model, or would have to call something to be read.
    """
    models = {}
    models_dir = _check.path("models_dir", models_dir)
    for name in sorted(os.listdir(models_dir)):
        path = os.path.join(models_dir, name)
        if not os.path.isfile(path):
            continue
        try:
            models[name] = _checkpoint.read(path)["model"]
        except ValueError:
            if name.endswith((".pkl", ".pickle")):
                raise
    return models


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

    Examples
    --------
    >>> from fastbn.data_utils import get_digits_data
    >>> data = get_digits_data()
    >>> for name, array in data.items():
    ...     print(name, array.shape)
    X_train (1257, 1, 8, 8)
    y_train (1257,)
    X_val (180, 1, 8, 8)
    y_val (180,)
    X_test (360, 1, 8, 8)
    y_test (360,)
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
    num_validation = _check.integer("num_validation", num_validation, 1)
    num_test = _check.integer("num_test", num_test, 1)
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
    num_training = _check.integer("num_training", num_training, 1)
    num_validation = _check.integer("num_validation", num_validation, 1)
    num_test = _check.integer("num_test", num_test, 1)
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


def _find(name: str, argument: str) -> str:
    """The first place of data that has `name`; `argument` says it otherwise."""
    for folder in _DATASETS:
        if os.path.exists(os.path.join(folder, name)):
            return os.path.join(folder, name)
    raise FileNotFoundError(
        f"no {name} in {', '.join(_DATASETS)} of {os.getcwd()!r}; pass {argument}"
    )
