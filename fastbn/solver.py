"""Training loop: minibatches, update rules, accuracies, checkpoints."""

from __future__ import annotations

import contextlib
import math
import numbers
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _check, _checkpoint, optim
from ._atomic import atomic_write

if TYPE_CHECKING:
    from typing import Unpack

    import numpy.typing as npt

    from .typing import SolverOptions

__all__ = ["np", "Solver", "load_checkpoint"]

_DATA_KEYS = ("X_train", "y_train", "X_val", "y_val")


class Solver:
    """Train a model by stochastic gradient descent or a variant of it.

    Parameters
    ----------
    model : object
        Has ``params``, a dict of arrays, ``loss(X) -> scores`` of shape (N, C), and
        ``loss(X, y) -> (loss, grads)`` with one gradient per key of ``params``.
    data : mapping
        ``X_train`` (N, ...), ``y_train`` (N,), ``X_val`` (M, ...) and ``y_val`` (M,), N, M >= 1.
        Classes are integers.
    update_rule : str, default "sgd"
        Name of a rule of :mod:`fastbn.optim`.
    optim_config : mapping, default {}
        Hyperparameters of the rule; every parameter gets a copy.
    lr_decay : float, default 1.0
        The learning rate is multiplied by it after every epoch.
    batch_size : int, default 100
        Samples a step, drawn with replacement, so it may exceed N.
    num_epochs : int, default 10
        One epoch is ``max(N // batch_size, 1)`` steps.
    num_train_samples : int or None, default 1000
        Training samples that the training accuracy is measured on; None is all.
    num_val_samples : int or None, default None
        Validation samples that the validation accuracy is measured on; None is all.
    checkpoint_name : str or path-like or None, default None
        If given, ``<checkpoint_name>_epoch_<epoch>.pkl`` is written whenever accuracies are
        measured: see :meth:`resume` and :func:`load_checkpoint`.
    print_every : int, default 10
        Print the loss every so many steps.
    verbose : bool, default True
        Print at all, and show a progress bar if tqdm is installed and stderr is a terminal.

    Attributes
    ----------
    model, update_rule, optim_config, lr_decay, batch_size, num_epochs, num_train_samples, \
num_val_samples, checkpoint_name, print_every, verbose, X_train, y_train, X_val, y_val
        As passed; `update_rule` is the function.
    optim_configs : dict
        Parameter name to its own configuration and state.
    epoch : int
        Epochs completed.
    iteration : int
        Steps of the present :meth:`train` that are done; 0 outside it.
    best_val_acc : float
        Best validation accuracy so far, 0 at first.
    best_params : dict
        Copies of the parameters that reached it, ``{}`` at first.
    loss_history, train_acc_history, val_acc_history : list of float
        One loss a step; accuracies after the first step, every epoch and the last step.

    Raises
    ------
    ValueError
        For an unknown argument or update rule, a value out of range, missing data, lengths that
        differ, or classes that have more than one axis.
    TypeError
        For an argument of the wrong type.

    Notes
    -----
    Random numbers come from the global stream of ``numpy.random``: one ``choice`` a step, and
    one for every accuracy that is measured on a sample.

    Examples
    --------
    >>> from fastbn.classifiers import FullyConnectedNet
    >>> from fastbn.data_utils import get_digits_data
    >>> from fastbn.solver import Solver
    >>> net = FullyConnectedNet([50], input_dim=64, normalization="batchnorm")
    >>> options = {"num_epochs": 2, "verbose": False, "optim_config": {"learning_rate": 1e-2}}
    >>> solver = Solver(net, get_digits_data(), update_rule="adam", **options)
    >>> solver.train()
    >>> len(solver.loss_history), len(solver.val_acc_history)
    (24, 3)
    >>> print(solver.best_val_acc > 0.8)
    True
    """

    def __init__(
        self, model: Any, data: Mapping[str, npt.ArrayLike], **kwargs: Unpack[SolverOptions]
    ) -> None:
        _check_model(model)
        self.model = model
        self.X_train, self.y_train, self.X_val, self.y_val = _check_data(data)

        self.update_rule: Any = kwargs.pop("update_rule", "sgd")
        self.optim_config = kwargs.pop("optim_config", {})
        self.lr_decay = kwargs.pop("lr_decay", 1.0)
        self.batch_size = kwargs.pop("batch_size", 100)
        self.num_epochs = kwargs.pop("num_epochs", 10)
        self.num_train_samples = kwargs.pop("num_train_samples", 1000)
        self.num_val_samples = kwargs.pop("num_val_samples", None)
        self.checkpoint_name = kwargs.pop("checkpoint_name", None)
        self.print_every = kwargs.pop("print_every", 10)
        self.verbose = kwargs.pop("verbose", True)
        if kwargs:
            names = ", ".join(f'"{name}"' for name in kwargs)
            raise ValueError(f"Unrecognized arguments {names}")

        self._check_arguments()
        self._rule_name, self.update_rule = self.update_rule, _find_rule(self.update_rule)
        self._reset()

    def _check_arguments(self) -> None:
        if not isinstance(self.optim_config, Mapping):
            raise TypeError(f"optim_config must be a dict; got {type(self.optim_config).__name__}")
        if not isinstance(self.lr_decay, numbers.Real) or isinstance(self.lr_decay, bool):
            raise TypeError(f"lr_decay must be a number; got {self.lr_decay!r}")
        lr_decay = _check.real("lr_decay", self.lr_decay)
        if not 0 < lr_decay < math.inf:
            raise ValueError(f"lr_decay must be positive and finite; got {self.lr_decay!r}")
        self.lr_decay = lr_decay
        self.batch_size = _check.integer("batch_size", self.batch_size, 1)
        self.num_epochs = _check.integer("num_epochs", self.num_epochs, 0)
        self.print_every = _check.integer("print_every", self.print_every, 1)
        for name in ("num_train_samples", "num_val_samples"):
            if getattr(self, name) is not None:
                setattr(self, name, _check.integer(name, getattr(self, name), 1))
        if not isinstance(self.checkpoint_name, (str, os.PathLike, type(None))):
            raise TypeError(
                f"checkpoint_name must be a string, a path or None; got {self.checkpoint_name!r}"
            )

    def _reset(self) -> None:
        """Set up the bookkeeping of a fresh run."""
        self.epoch = 0
        self.iteration = 0
        self.best_val_acc: float = 0
        self.best_params: dict[str, npt.NDArray[Any]] = {}
        self.loss_history: list[float] = []
        self.train_acc_history: list[float] = []
        self.val_acc_history: list[float] = []
        self.optim_configs = {name: dict(self.optim_config) for name in self.model.params}

    def _step(self) -> None:
        """Make one update of every parameter."""
        batch = np.random.choice(self.X_train.shape[0], self.batch_size)
        loss, grads = self.model.loss(self.X_train[batch], self.y_train[batch])
        self.loss_history.append(loss)
        for name, w in self.model.params.items():
            self.model.params[name], self.optim_configs[name] = self.update_rule(
                w, grads[name], self.optim_configs[name]
            )

    def _save_checkpoint(self) -> None:
        if self.checkpoint_name is None:
            return
        checkpoint = _checkpoint.plain(
            {
                "model": _checkpoint.state_of(self.model),
                **self._settings(),
                **{name: getattr(self, name) for name in _checkpoint.PROGRESS},
                "random_state": np.random.get_state(legacy=False),
            }
        )
        filename = f"{os.fspath(self.checkpoint_name)}_epoch_{self.epoch}.pkl"
        self._print(f'Saving checkpoint to "{filename}"')
        with atomic_write(filename) as file:
            pickle.dump(checkpoint, file)

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Take up a run where a checkpoint was written: :meth:`train` then does the rest of it.

        The parameters, losses and accuracies are those of the run that was not interrupted, to the
        bit, if the model, the data and the arguments are those of that run. `num_epochs` may be
        larger.

        Parameters
        ----------
        path : str or path-like
            A checkpoint that a `Solver` of fastbn wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no checkpoint, or damaged, or one of the course's (which hold no state of the
            optimiser), or of another model, or the solver has other arguments. Nothing is changed
            then.

        Notes
        -----
        The model gets back its parameters and all else that was plain data among its attributes
        (running statistics, for instance), and ``numpy.random`` its global state.
        """
        name = _check.path("path", path)
        checkpoint = load_checkpoint(path)
        _checkpoint.check(name, checkpoint, self._settings(), self.model)
        np.random.set_state(checkpoint["random_state"])
        for key, value in checkpoint["model"].items():
            if key != "__class__":
                setattr(self.model, key, value)
        for key in _checkpoint.PROGRESS:
            setattr(self, key, checkpoint[key])

    def _settings(self) -> dict[str, Any]:
        """The arguments that a run cannot change on the way."""
        names = ("lr_decay", "batch_size", "num_train_samples", "num_val_samples")
        return {
            "update_rule": self._rule_name,
            "optim_config": dict(self.optim_config),
            **{name: getattr(self, name) for name in names},
        }

    def check_accuracy(
        self,
        X: npt.NDArray[Any],
        y: npt.NDArray[Any],
        num_samples: int | None = None,
        batch_size: int = 100,
    ) -> float:
        """Return the share of samples whose highest score is that of their class.

        Parameters
        ----------
        X : ndarray (N, ...)
            Samples, N >= 1.
        y : ndarray of int, (N,)
            Classes.
        num_samples : int or None, default None
            If smaller than N, measure on so many samples, drawn with replacement.
        batch_size : int, default 100
            Samples in one call of the model.

        Returns
        -------
        float
            Between 0 and 1.

        Raises
        ------
        ValueError
            If `X` is empty, the lengths differ, `y` has more than one axis, or a count is below 1.
        TypeError
            If a count or a class is not an integer.
        """
        X, y = _check_pair("X", X, "y", y)
        batch_size = _check.integer("batch_size", batch_size, 1)
        N = X.shape[0]
        if num_samples is not None:
            num_samples = _check.integer("num_samples", num_samples, 1)
            if N > num_samples:
                sample = np.random.choice(N, num_samples)
                X, y, N = X[sample], y[sample], num_samples
        predicted = [
            np.argmax(self.model.loss(X[start : start + batch_size]), axis=1)
            for start in range(0, N, batch_size)
        ]
        accuracy: float = np.mean(np.concatenate(predicted) == y)
        return accuracy

    def train(self) -> None:
        """Run `num_epochs` epochs, then give the model its best parameters.

        The best parameters are those of the highest validation accuracy that was measured. After
        :meth:`resume`, the epochs that its run had done count.

        Raises
        ------
        FileNotFoundError
            If the folder of `checkpoint_name` does not exist.
        TypeError
            If a checkpoint is wanted and the parameters or the state of the rule are not plain
            data: text, numbers, arrays of numbers, or a nest of them.
        """
        self._check_checkpoint_folder()
        iterations_per_epoch = max(self.X_train.shape[0] // self.batch_size, 1)
        num_iterations = self.num_epochs * iterations_per_epoch
        try:
            with self._progress(num_iterations) as advance:
                advance(self.iteration)
                for t in range(self.iteration, num_iterations):
                    self._step()
                    if t % self.print_every == 0:
                        self._print(
                            f"(Iteration {t + 1} / {num_iterations}) "
                            f"loss: {self.loss_history[-1]:f}"
                        )
                    self.iteration = t + 1
                    epoch_end = self.iteration % iterations_per_epoch == 0
                    if epoch_end:
                        self.epoch += 1
                        for config in self.optim_configs.values():
                            # Not in place: an array would be one for all, and the caller's.
                            config["learning_rate"] = config["learning_rate"] * self.lr_decay
                    if t == 0 or self.iteration == num_iterations or epoch_end:
                        self._measure()
                    advance(1)
        finally:
            self.iteration = 0  # the next call runs as many epochs again

        # Should no validation accuracy have beaten 0 (a handful of validation samples, a loss
        # that is NaN), there are no best parameters. The model then keeps its own: handing it the
        # empty dict, as the course does, leaves a net that cannot even compute a loss.
        if self.best_params:
            # Copies, so that training on, in place, does not change best_params under its name.
            self.model.params = {name: w.copy() for name, w in self.best_params.items()}

    def _measure(self) -> None:
        """Record both accuracies, keep the best parameters, write a checkpoint."""
        train_acc = self.check_accuracy(self.X_train, self.y_train, self.num_train_samples)
        val_acc = self.check_accuracy(self.X_val, self.y_val, self.num_val_samples)
        self.train_acc_history.append(train_acc)
        self.val_acc_history.append(val_acc)
        if val_acc > self.best_val_acc:
            self.best_val_acc = val_acc
            self.best_params = {name: w.copy() for name, w in self.model.params.items()}
        self._save_checkpoint()
        self._print(
            f"(Epoch {self.epoch} / {self.num_epochs}) "
            f"train acc: {train_acc:f}; val_acc: {val_acc:f}"
        )

    def _check_checkpoint_folder(self) -> None:
        # Here rather than in __init__: the folder may be made between the two. And here rather
        # than at the first checkpoint: that comes after a step, which may take a while.
        if self.checkpoint_name is None:
            return
        folder = os.path.dirname(os.fspath(self.checkpoint_name))
        if folder and not os.path.isdir(folder):
            raise FileNotFoundError(
                f"checkpoint_name must lie in an existing folder; "
                f"got {os.fspath(self.checkpoint_name)!r}"
            )

    def _print(self, line: str) -> None:
        if not self.verbose:
            return
        # The bar is on stderr, the lines on stdout. On one terminal they would overwrite each
        # other, so that tqdm has to clear the bar, print and draw it again.
        if self._bar is None:
            print(line)
        else:
            self._bar.write(line, file=sys.stdout)

    # Not part of the state of a run: set by _progress while train() runs, None otherwise.
    _bar: Any = None

    @contextlib.contextmanager
    def _progress(self, total: int) -> Iterator[Callable[[int], object]]:
        """Yield the function to call with steps that are done; it moves the bar if there is one."""
        bar: Any = None
        if self.verbose and sys.stderr is not None and sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                import tqdm

                bar = tqdm.tqdm
        if bar is None:
            yield lambda steps: None
            return
        with bar(total=total, unit="step", leave=False) as self._bar:
            try:
                yield self._bar.update
            finally:
                self._bar = None


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint of a `Solver`, of fastbn or of the course, without running anything in it.

    Parameters
    ----------
    path : str or path-like
        The file, a pickle.

    Returns
    -------
    dict
        ``model``, the dict of its attributes that are plain data (``params`` among them) and,
        under ``"__class__"``, the name of its class; ``update_rule``, a name; ``epoch``,
        ``loss_history``, ``train_acc_history``, ``val_acc_history`` and the arguments of the
        solver. In those of fastbn also what :meth:`Solver.resume` needs, and ``best_params``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a pickle of a dict, or damaged, or would have to call something to be read.

    Notes
    -----
    The course's checkpoints are pickles of the model itself: unpickled in the ordinary way, they
    need its very classes and run whatever they name. Here an instance becomes the dict of its
    attributes, and a function or class its name. What fastbn writes is plain data from the start;
    ``pickle.load`` gives the same dict.

    Examples
    --------
    >>> from fastbn.classifiers import TwoLayerNet
    >>> from fastbn.data_utils import get_digits_data
    >>> from fastbn.solver import Solver, load_checkpoint
    >>> net = TwoLayerNet(input_dim=64)
    >>> solver = Solver(net, get_digits_data(), num_epochs=1, checkpoint_name="run", verbose=False)
    >>> solver.train()
    >>> checkpoint = load_checkpoint("run_epoch_1.pkl")
    >>> checkpoint["model"]["__class__"]
    'fastbn.classifiers.fc_net.TwoLayerNet'
    >>> net.params = checkpoint["model"]["params"]
    """
    return _checkpoint.read(path)


def _find_rule(name: Any) -> Callable[..., tuple[Any, dict[str, Any]]]:
    if not isinstance(name, str):
        raise TypeError(f"update_rule must be the name of a rule of fastbn.optim; got {name!r}")
    # By attribute, so that a rule that a user adds to fastbn.optim is found as well.
    rule: Any = getattr(optim, name, None)
    if name.startswith("_") or not callable(rule) or isinstance(rule, type):
        raise ValueError(f'Invalid update_rule "{name}"')
    found: Callable[..., tuple[Any, dict[str, Any]]] = rule
    return found


def _check_model(model: Any) -> None:
    if not callable(getattr(model, "loss", None)) or not hasattr(model, "params"):
        raise TypeError(
            f"model must have a dict params and a method loss; got {type(model).__name__}"
        )


def _check_data(data: Any) -> list[npt.NDArray[Any]]:
    """The four arrays of the data of a training, checked."""
    values = {key: _check.key(data, "data", key) for key in _DATA_KEYS}
    pairs: list[npt.NDArray[Any]] = []
    for x_key, y_key in (_DATA_KEYS[:2], _DATA_KEYS[2:]):
        pairs += _check_pair(f"data[{x_key!r}]", values[x_key], f"data[{y_key!r}]", values[y_key])
    return pairs


def _check_pair(
    x_name: str, x: npt.ArrayLike, y_name: str, y: npt.ArrayLike
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return samples and classes as arrays, an ndarray (or memmap) as it is."""
    x, y = np.asanyarray(x), np.asanyarray(y)
    for name, array in ((x_name, x), (y_name, y)):
        if array.ndim == 0 or array.shape[0] == 0:
            raise ValueError(f"{name} must have at least one sample; got shape {array.shape}")
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"{name} must be a plain array; got a masked array")
    if x.shape[0] != y.shape[0]:
        raise ValueError(
            f"{x_name} and {y_name} must have the same length; got {x.shape[0]} and {y.shape[0]}"
        )
    if y.ndim > 1:  # compared with the predictions (N,), a column would broadcast to (N, N)
        raise ValueError(f"{y_name} must have one axis; got shape {y.shape}")
    if y.dtype.kind not in "iu":
        raise TypeError(f"{y_name} must hold integer classes; got dtype {y.dtype}")
    return x, y
