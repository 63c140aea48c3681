"""The command line: results, files, and what it says when something is wrong."""

import functools
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fastbn
import fastbn.experiments
from fastbn import _atomic, _train, cli, data_utils
from fastbn.cli import main

# Half a second instead of several.
QUICK = ["--epochs", "2", "--hidden", "20"]


def train(tmp_path, *options):
    return main(["train", "--out", str(tmp_path / "out"), *options])


def history(tmp_path):
    return json.loads((tmp_path / "out" / "history.json").read_text())


@pytest.fixture
def cifar(tmp_path):
    rng = np.random.RandomState(0)
    folder = tmp_path / "cifar"
    folder.mkdir()
    for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]:
        pixels = rng.randint(256, size=(8, 3072)).astype(np.uint8)
        batch = {"data": pixels, "labels": rng.randint(10, size=8).tolist()}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_defaults_learn_the_digits(seed, tmp_path, capsys):
    assert train(tmp_path, "--seed", seed) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("(Epoch ") for line in lines) == 16
    assert float(lines[-4].removeprefix("test accuracy: ")) >= 0.97
    assert history(tmp_path)["accuracies"]["test"] >= 0.97


def test_output_and_files(tmp_path, capsys):
    assert train(tmp_path, *QUICK) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert [line.split(":")[0] for line in lines[-6:-3]] == [
        "train accuracy",
        "validation accuracy",
        "test accuracy",
    ]
    assert lines[-3].startswith("training step: fastbn ") and "ratio" in lines[-3]
    written = [str(tmp_path / "out" / name) for name in ("history.json", "history.png")]
    assert lines[-2:] == [f"wrote {path}" for path in written]
    assert sorted(os.listdir(tmp_path / "out")) == ["history.json", "history.png"]
    assert (tmp_path / "out" / "history.png").read_bytes().startswith(b"\x89PNG")

    result = history(tmp_path)
    assert result["options"]["hidden"] == [20]
    assert result["options"]["normalization"] == "batchnorm"
    assert result["options"]["learning_rate"] == 1e-3
    assert len(result["loss_history"]) == 2 * (1257 // 50)
    assert len(result["train_acc_history"]) == len(result["val_acc_history"]) == 3
    assert set(result["accuracies"]) == {"train", "val", "test"}
    times = result["step_seconds"]
    assert times["ratio"] == pytest.approx(times["numpy"] / times["fastbn"])
    assert result["versions"]["fastbn"] == fastbn.__version__
    assert result["versions"]["numpy"] == np.__version__


def test_same_seed_same_run(tmp_path):
    losses = []
    for seed in ("3", "3", "4"):
        train(tmp_path, *QUICK, "--quiet", "--seed", seed)
        losses.append(history(tmp_path)["loss_history"])
    assert losses[0] == losses[1] != losses[2]


def test_quiet(tmp_path, capsys):
    assert train(tmp_path, *QUICK, "--quiet") == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 6 and "Epoch" not in out and err == ""


@pytest.mark.parametrize(
    "options",
    [
        ["--normalization", "layernorm", "--dropout", "0.8", "--dtype", "float64", "--reg", "0.01"],
        ["--normalization", "none", "--optimizer", "sgd", "--lr-decay", "0.5"],
        ["--optimizer", "sgd_momentum", "--learning-rate", "0.01", "--weight-scale", "0.1"],
        ["--optimizer", "rmsprop", "--hidden", "", "--batch-size", "2000", "--epochs", "1"],
    ],
    ids=" ".join,
)
def test_options(options, tmp_path):
    assert train(tmp_path, *QUICK, "--quiet", *options) == 0


def test_threads(tmp_path):
    before = fastbn.get_num_threads()
    try:
        assert train(tmp_path, *QUICK, "--quiet", "--threads", "1") == 0
        assert history(tmp_path)["step_seconds"]["threads"] == fastbn.get_num_threads() == 1
    finally:
        fastbn.set_num_threads(None)
    assert fastbn.get_num_threads() == before


def test_diverging_loss_is_valid_json(tmp_path):
    with np.errstate(all="ignore"):
        train(
            tmp_path,
            "--quiet",
            "--optimizer",
            "sgd",
            "--normalization",
            "none",
            "--epochs",
            "5",
            "--learning-rate",
            "1e30",
        )
    text = (tmp_path / "out" / "history.json").read_text()
    assert None in json.loads(text, parse_constant=pytest.fail)["loss_history"]


def test_cifar_folder(cifar, tmp_path):
    sizes = ["--num-training", "30", "--num-validation", "10", "--num-test", "8"]
    assert train(tmp_path, *QUICK, "--quiet", "--data", str(cifar), *sizes) == 0
    assert len(history(tmp_path)["loss_history"]) == 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: [path.unlink() for path in folder.iterdir()], "no such CIFAR-10 batch"),
        (lambda folder: (folder / "test_batch").write_bytes(b"\x80\x02}"), "not a readable pickle"),
        (lambda folder: None, "num_training + num_validation must be at most 40; got 49000 + 1000"),
    ],
)
def test_bad_data_folder(spoil, message, cifar, tmp_path, capsys):
    spoil(cifar)
    assert train(tmp_path, "--data", str(cifar)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastbn: error: ") and message in err and len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_missing_data_folder(tmp_path, capsys):
    assert train(tmp_path, "--data", str(tmp_path / "nowhere")) == 1
    assert "no such folder of CIFAR-10 batches" in capsys.readouterr().err


def test_out_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert train(tmp_path, *QUICK) == 1
    out, err = capsys.readouterr()
    assert out == "" and "cannot make the folder" in err and len(err.splitlines()) == 1


def test_failed_write_leaves_the_old_file(tmp_path, capsys, monkeypatch):
    path = tmp_path / "out" / "history.json"
    path.parent.mkdir()
    path.write_text("old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_atomic.os, "replace", fail)
    assert train(tmp_path, *QUICK, "--quiet") == 1
    assert "cannot write" in capsys.readouterr().err
    assert path.read_text() == "old" and os.listdir(path.parent) == ["history.json"]


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("matplotlib", "history.png needs matplotlib: pip install 'fastbn[train]'"),
        ("sklearn.datasets", "scikit-learn, which is not installed: pip install 'fastbn[train]'"),
    ],
)
def test_missing_extra(module, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    assert train(tmp_path, *QUICK) == 1
    out, err = capsys.readouterr()
    assert out == "" and message in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--normalization", "groupnorm"], "--normalization: invalid choice: 'groupnorm'"),
        (["--optimizer", "lbfgs"], "--optimizer: invalid choice: 'lbfgs'"),
        (["--dtype", "int"], "--dtype: invalid choice: 'int'"),
        (["--hidden", "10,x"], "--hidden: must be an integer; got 'x'"),
        (["--hidden", "10,0"], "--hidden: must be an integer at least 1; got '0'"),
        (["--epochs", "0"], "--epochs: must be an integer at least 1; got '0'"),
        (["--epochs", "1" + 19 * "0"], "--epochs: is too large; got '10000000000000000000'"),
        (["--hidden", "1" + 400 * "0"], "--hidden: is too large; got '1000"),
        (["--batch-size", "ten"], "--batch-size: must be an integer; got 'ten'"),
        (["--learning-rate", "-1"], "--learning-rate: must be a number at least 0; got '-1'"),
        (["--learning-rate", "nan"], "--learning-rate: must be a number at least 0; got 'nan'"),
        (["--reg", "inf"], "--reg: must be a number at least 0; got 'inf'"),
        (["--lr-decay", "0"], "--lr-decay: must be a number above 0; got '0'"),
        (["--dropout", "1.5"], "--dropout: must be a number above 0 and at most 1; got '1.5'"),
        (
            ["--seed", "-1"],
            "--seed: must be an integer at least 0 and at most 4294967295; got '-1'",
        ),
        (["--threads", "100000"], "--threads: num_threads must be"),
        (["--num-test", "5"], "--num-test need --data"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_options(options, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        train(tmp_path, *options)
    assert error.value.code == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [
        # More than any address space, so that no system promises the memory.
        ["--hidden", "9999999999999"],
        ["--hidden", "99999999999,99999999999"],
        ["--batch-size", "999999999999999"],
        ["--batch-size", str(10**18)],
    ],
    ids=" ".join,
)
def test_too_little_memory(options, tmp_path, capsys):
    assert train(tmp_path, *options) == 1
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert err.startswith("fastbn: error: not enough memory: ")


def test_interrupt(tmp_path, capsys, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(_train.Solver, "train", interrupt)
    assert train(tmp_path) == 130
    assert capsys.readouterr() == ("", "fastbn: interrupted\n")


@pytest.mark.parametrize("error", [ValueError, TypeError, OSError, AssertionError])
def test_bugs_are_not_hidden(error, tmp_path, monkeypatch):
    def fail(self):
        raise error("a bug")

    monkeypatch.setattr(_train.Solver, "train", fail)
    with pytest.raises(error, match="a bug"):
        train(tmp_path)


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("command", [["info"], ["train", *QUICK]], ids=lambda command: command[0])
def test_reader_that_went_away(command, buffered, tmp_path):
    read, write = os.pipe()
    os.close(read)
    try:
        result = subprocess.run(
            [sys.executable, *([] if buffered else ["-u"]), "-m", "fastbn", *command],
            cwd=tmp_path,
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(write)
    assert (result.returncode, result.stderr) == (141, "")


def test_info(capsys):
    assert main(["info"]) == 0
    assert fastbn.__version__ in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as error:
        main(["--version"])
    assert error.value.code == 0
    assert capsys.readouterr().out == f"fastbn {fastbn.__version__}\n"


def run(folder, *arguments):
    # Not from the repository's root: `python -m` would find the unbuilt source tree there.
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_as_a_module(tmp_path):
    assert run(tmp_path, "-m", "fastbn", "info").returncode == 0
    result = run(tmp_path, "-m", "fastbn")
    assert result.returncode == 2 and "usage: fastbn" in result.stderr


def test_nothing_heavy_at_import(tmp_path):
    modules = "tqdm", "matplotlib", "sklearn", "scipy", "joblib", "torch"
    code = f"import sys, fastbn.cli; print([m for m in {modules} if m in sys.modules])"
    result = run(tmp_path, "-c", code)
    assert result.stdout == "[]\n", result.stderr


def bench(*options):
    return cli.main(["bench", "--seconds", "0.001", *options])


def test_bench_prints_the_limit_and_every_case(tmp_path, capsys):
    path = tmp_path / "times.json"
    assert bench("--only", "batchnorm 100x500", "--peer", "reference", "--json", str(path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (f"float32, threads {fastbn.get_num_threads()}, level {fastbn._ext.level}")
    assert re.fullmatch(r"multiply-adds in registers: \d+\.\d GFLOP/s", lines[1])
    assert [line.split()[0] for line in lines[3:8]] == ["0.25", "1", "4", "16", "64"]
    assert re.fullmatch(
        r"batchnorm 100x500 +(\d+\.\d+ +){2}(\d+% +){2}\d+\.\d GB/s( +\d+\.\d\d){2}", lines[-1]
    )
    times = json.loads(path.read_text())["batchnorm 100x500"]
    assert set(times) == {"fastbn", "limit", "reference"}
    assert all(0 < forward < both for forward, both in times.values())


@pytest.mark.parametrize(
    "only",
    ["layernorm 100", "groupnorm 8x", "pool 16x", "relu 100x", "dropout 100x", "loss 100x",
     "batchnorm 8x512", "conv 100x3x", "affine 100x", "im2col 50x3"],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bench_runs_each_kind_of_case(only, dtype, capsys):
    assert bench("--only", only, "--dtype", dtype) == 0
    unit = "GFLOP/s" if only[:2] in ("co", "af") else "GB/s"
    assert capsys.readouterr().out.rstrip().endswith(unit)


def test_bench_says_where_torch_has_no_such_function(capsys):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    assert bench("--only", "im2col 50x3", "--peer", "torch") == 0
    assert capsys.readouterr().out.split()[-2:] == ["-", "-"]


def test_bench_sets_the_threads(capsys):
    try:
        assert bench("--only", "relu 100x500", "--threads", "1") == 0
        assert capsys.readouterr().out.startswith("float32, threads 1,")
    finally:
        fastbn.set_num_threads(None)


def test_bench_refuses_what_it_cannot_do(tmp_path, capsys, monkeypatch):
    for options, message in (
        (["--only", "nothing"], "no case has 'nothing' in its name"),
        (["--peer", "jax"], "invalid choice: 'jax'"),
        (["--threads", "0"], "at least 1"),
        (["--threads", "1000"], "from 1 to 256"),
        (["--seconds", "0"], "above 0"),
    ):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["bench", *options])
        assert message in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "torch", None)
    assert bench("--only", "relu 100x500", "--peer", "torch") == 1
    assert "--peer torch needs PyTorch" in capsys.readouterr().err
    path = tmp_path / "none" / "times.json"
    assert bench("--only", "relu 100x500", "--json", str(path)) == 1
    assert f"cannot write {path}" in capsys.readouterr().err


# experiment

STUDIES = {
    "batchnorm": [],
    "weight-scale": ["--weight-scales", "1e-3,0.1"],
    "batch-size": ["--batch-sizes", "5,20"],
    "speed": ["--only", "svm_loss", "--seconds", "0.001"],
}


def experiment(name, out, *options):
    quick = [] if name == "speed" else ["--hidden", "6,5", "--num-train", "40", "--epochs", "2"]
    return main(["experiment", name, "--out", str(out), *STUDIES[name], *quick, *options])


@pytest.mark.parametrize("name", STUDIES)
def test_experiment_prints_and_writes(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fastbn.experiments.speed, "_torch", lambda: None)
    out = tmp_path / "some" / "where"
    assert experiment(name, out) == 0
    printed, err = capsys.readouterr()
    *table, sentence, wrote_json, wrote_png = printed.splitlines()
    assert err == "" and len(table) >= 2 and sentence.endswith(".")
    paths = [out / f"{name}.json", out / f"{name}.png"]
    assert [wrote_json, wrote_png] == [f"wrote {path}" for path in paths]
    result = json.loads(paths[0].read_text(), parse_constant=pytest.fail)
    assert result["experiment"] == name and result["conclusion"] == sentence
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    kept = "timings" if name == "speed" else "trainings"
    assert sorted(os.listdir(out)) == sorted([f"{name}.json", f"{name}.png", kept])
    # Again: nothing is trained, and so not even timings change.
    before = paths[0].read_bytes()
    assert experiment(name, out) == 0
    assert capsys.readouterr().out == printed and paths[0].read_bytes() == before


def test_experiment_options_reach_the_trainings(tmp_path):
    options = ["--normalization", "layernorm", "--batch-size", "7", "--learning-rate", "0.5"]
    options += ["--weight-scale", "0.25", "--dtype", "float64", "--seed", "9", "--jobs", "1"]
    assert experiment("batchnorm", tmp_path, *options) == 0
    # Under a name of its own: the study of batch normalization stays.
    names = ["batchnorm-layernorm.json", "batchnorm-layernorm.png", "trainings"]
    assert sorted(os.listdir(tmp_path)) == names
    result = json.loads((tmp_path / names[0]).read_text())
    assert result["options"] == {
        "normalization": "layernorm",
        "hidden": [6, 5],
        "epochs": 2,
        "batch_size": 7,
        "learning_rate": 0.5,
        "weight_scale": 0.25,
        "dtype": "float64",
        "seed": 9,
    }
    assert (result["data"], result["num_train"]) == ("digits", 40)


def test_experiment_on_a_cifar_folder(tmp_path, cifar, monkeypatch):
    read = functools.partial(
        data_utils.get_CIFAR10_data, num_training=30, num_validation=10, num_test=8
    )
    monkeypatch.setattr(data_utils, "get_CIFAR10_data", read)
    options = ["--data", str(cifar), "--num-train", "20", "--batch-size", "5"]
    assert experiment("batchnorm", tmp_path, *options) == 0
    result = json.loads((tmp_path / "batchnorm.json").read_text())
    assert (result["data"], result["num_train"]) == ("CIFAR-10", 20)
    assert [len(training["loss_history"]) for training in result["trainings"]] == [8, 8]


def test_experiment_that_diverges_is_valid_json(tmp_path, capsys):
    assert experiment("batchnorm", tmp_path, "--learning-rate", "1e38") == 0
    result = json.loads((tmp_path / "batchnorm.json").read_text(), parse_constant=pytest.fail)
    assert [training["final_loss"] for training in result["trainings"]] == [None, None]
    assert capsys.readouterr().out.count("diverged") == 2


def test_experiment_shows_a_bar_on_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert experiment("batchnorm", tmp_path) == 0
    assert re.search(r"\d+/\d+ \[\d\d:\d\d<", capsys.readouterr().err)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="interrupts of a terminal are POSIX's here")
def test_experiment_interrupted_goes_on_where_it_was(tmp_path):
    """Ctrl-C goes to all processes of the terminal; what is finished stays."""
    # As from a terminal, even where the tests run with interrupts ignored.
    code = "import signal, sys; from fastbn.cli import main; "
    code += "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main())"
    command = [sys.executable, "-c", code, "experiment", "batch-size", "--out", "runs"]
    command += ["--jobs", "2", "--batch-sizes", "50,49,48,1", "--epochs", "4", "--hidden", "10"]
    folder = tmp_path / "runs" / "trainings"
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        # The last training takes fifty times as long as each of the others.
        while process.poll() is None and not (folder.is_dir() and any(folder.glob("[!.]*"))):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    # A worker that is still being started may have a word to say before.
    assert (process.returncode, out) == (130, "") and err.endswith("fastbn: interrupted\n")
    finished = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert 1 <= len(finished) < 5 and all(name.endswith(".json") for name in finished)
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert result.returncode == 0
    assert len(list(folder.iterdir())) == 5
    for name, written in finished.items():
        assert (folder / name).stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: NAME"),
        (["dropout"], "invalid choice: 'dropout'"),
        (["batchnorm", "--normalization", "none"], "--normalization: invalid choice: 'none'"),
        (["batchnorm", "--hidden", "5,0"], "--hidden: must be an integer at least 1"),
        (["batchnorm", "--jobs", "0"], "--jobs: must be an integer at least 1; got '0'"),
        (["batchnorm", "--only", "x"], "unrecognized arguments: --only x"),
        (["weight-scale", "--weight-scales", "1,0"], "--weight-scales: must be a number above 0"),
        (["weight-scale", "--weight-scale", "x"], "--weight-scales: must be a number; got 'x'"),
        (["batch-size", "--batch-sizes", "5,x"], "--batch-sizes: must be an integer; got 'x'"),
        (["speed", "--only", "nothing"], "only must be in the name of a case (affine"),
        (["speed", "--jobs", "2"], "unrecognized arguments: --jobs 2"),
        (["speed", "--threads", "1000"], "--threads: num_threads must be from 1 to 256"),
    ],
)
def test_experiment_bad_options(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["experiment", *arguments])
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err and not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "no such folder of CIFAR-10 batches: 'nowhere'"),
        (["--num-train", "1258"], "num_train must be at most 1257"),
        (["--hidden", "999999999,999999999"], "not enough memory"),
    ],
)
def test_experiment_that_cannot_be(options, message, tmp_path, capsys):
    assert experiment("batchnorm", tmp_path / "out", *options) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("fastbn: error: ") and message in err
    assert len(err.splitlines()) == 1


def test_experiment_out_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert experiment("batchnorm", tmp_path / "out") == 1
    assert "cannot write to" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["matplotlib", "joblib", "sklearn.datasets"])
def test_experiment_without_an_extra(module, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    assert experiment("batchnorm", tmp_path / "out") == 1
    assert "pip install 'fastbn[train]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
