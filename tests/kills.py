"""Kill trainings and experiments at random moments; each must go on as if it had not been.

    python tests/kills.py --kills 200

Prints a JSON object of what happened. Raises if a checkpoint or a result is damaged, if a run
cannot be resumed, or if it comes out other than the uninterrupted one, by a single bit.
"""

import argparse
import faulthandler
import glob
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
import warnings

import numpy as np

from fastbn import experiments
from fastbn._atomic import atomic_write
from fastbn.classifiers import FullyConnectedNet
from fastbn.solver import Solver, load_checkpoint

EPOCHS = 60
RNG = np.random.default_rng(5)
X, Y = RNG.standard_normal((40, 20)), np.arange(40) % 4
DATA = {"X_train": X, "y_train": Y, "X_val": X[:20], "y_val": Y[:20]}
STUDY = {
    "data": DATA,
    "num_train": 40,
    "hidden": (8,),
    "weight_scales": tuple(0.01 * i for i in range(1, 13)),
    "epochs": 8,
    "batch_size": 10,
    "n_jobs": 1,
}


def solver(folder):
    """A checkpoint after every step: an epoch is one."""
    np.random.seed(3)
    net = FullyConnectedNet(
        [12, 9], input_dim=20, num_classes=4, normalization="batchnorm", dropout_keep_ratio=0.8
    )
    return Solver(
        net,
        DATA,
        update_rule="adam",
        lr_decay=0.99,
        batch_size=40,
        num_epochs=EPOCHS,
        num_train_samples=30,
        checkpoint_name=os.path.join(folder, "run"),
        verbose=False,
    )


def newest(folder):
    """(epoch, path) of the last checkpoint; (0, None) if there is none."""
    found = [(0, None)]
    for path in glob.glob(os.path.join(folder, "run_epoch_*.pkl")):
        found.append((int(re.search(r"_(\d+)\.pkl$", path)[1]), path))
    return max(found, key=lambda pair: pair[0])


def train(folder):
    run = solver(folder)
    _, path = newest(folder)
    if path is not None:
        run.resume(path)
    run.train()


def study(folder):
    result = experiments.weight_scale.run(**STUDY, out=folder)
    with atomic_write(os.path.join(folder, "result")) as file:
        file.write(json.dumps(result, sort_keys=True).encode())


def same(a, b):
    """Whether two nests of plain data are equal, to the bit."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def check_training(folder, whole):
    """What is on disk is a checkpoint of the uninterrupted run; (whether it is the last, work)."""
    epoch, path = newest(folder)
    if path is not None:
        name = os.path.basename(path)
        assert same(load_checkpoint(path), load_checkpoint(os.path.join(whole, name))), path
    return epoch == EPOCHS, epoch


def check_study(folder, whole):
    paths = glob.glob(os.path.join(folder, "trainings", "*.json"))
    for path in paths:
        other = os.path.join(whole, "trainings", os.path.basename(path))
        with open(path) as ours, open(other) as theirs:
            assert ours.read() == theirs.read(), path
    done = os.path.exists(os.path.join(folder, "result"))
    if done:
        with open(os.path.join(folder, "result")) as ours:
            with open(os.path.join(whole, "result")) as theirs:
                assert ours.read() == theirs.read()
    return done, len(paths)


def left_over(folder):
    return set(glob.glob(os.path.join(glob.escape(folder), "**", ".*.tmp"), recursive=True))


def kill(work, check, kills, longest, rng, top):
    """Fork `work`, kill it after up to `longest` seconds, check, go on, until it was so often."""
    whole = os.path.join(top, f"{work.__name__}-whole")
    os.mkdir(whole)
    work(whole)
    counts = {"kills": 0, "in a write": 0, "runs": 0, "resumed": 0}
    folder = None
    while counts["kills"] < kills or folder is not None:
        if folder is None:
            folder = os.path.join(top, f"{work.__name__}-{counts['runs']}")
            os.mkdir(folder)
        before = left_over(folder)
        counts["resumed"] += check(folder, whole)[1] > 0
        child = os.fork()
        if child == 0:
            try:
                faulthandler.register(signal.SIGALRM, chain=True)
                signal.alarm(100)
                np.random.seed(counts["kills"])  # not where the run was
                work(folder)
                os._exit(0)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(1)
        if counts["kills"] < kills:
            time.sleep(rng.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -signal.SIGKILL), f"a resumed run failed with {code}"
        counts["kills"] += code != 0
        counts["in a write"] += bool(left_over(folder) - before)
        done, _ = check(folder, whole)
        if code == 0:
            assert done
            assert not left_over(folder), "temporary files were left behind"
            counts["runs"] += 1
            folder = None
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="of each (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as top:
        counts = {
            "training": kill(train, check_training, args.kills, 0.06, rng, top),
            "experiment": kill(study, check_study, args.kills, 0.3, rng, top),
        }
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
