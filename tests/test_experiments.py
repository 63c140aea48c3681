"""The studies: what they train, what they keep, what they say and draw."""

import copy
import io
import json
import os
import signal
import sys

import joblib
import numpy as np
import pytest
import threadpoolctl

import fastbn
from fastbn import data_utils
from fastbn.classifiers.fc_net import FullyConnectedNet
from fastbn.experiments import _parallel, _trainings, batch_size, batchnorm, speed, weight_scale
from fastbn.solver import Solver

#: Trainings of some milliseconds.
EMPTY = {
    key: np.zeros((N, 2) if key[0] == "X" else N, float if key[0] == "X" else int)
    for key, N in (("X_train", 0), ("y_train", 0), ("X_val", 1), ("y_val", 1))
}
TINY = {"hidden": (6, 5), "num_train": 40, "epochs": 2}
STUDIES = [
    pytest.param(batchnorm, {**TINY, "batch_size": 10}, 2, id="batchnorm"),
    pytest.param(
        weight_scale, {**TINY, "batch_size": 10, "weight_scales": (1e-3, 0.1)}, 4, id="weight-scale"
    ),
    pytest.param(batch_size, {**TINY, "batch_sizes": (5, 20)}, 3, id="batch-size"),
]
every_study = pytest.mark.parametrize(("study", "options", "number"), STUDIES)


@pytest.fixture
def trained(monkeypatch):
    """What is trained from now on, in order."""
    calls, train = [], _trainings.train

    def counting(training, data):
        calls.append(training)
        return train(training, data)

    monkeypatch.setattr(_trainings, "train", counting)
    return calls


def drawn(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")
    return figure


# What is trained


def notebook(data, dtype=np.float32):
    """As the course's notebook does it: both nets first, one stream through both trainings.

    What it prints on CIFAR-10 is in test_cifar10.py.
    """
    np.random.seed(231)
    nets = [
        FullyConnectedNet(
            [100] * 5,
            input_dim=data["X_train"][0].size,
            weight_scale=2e-2,
            normalization=normalization,
            dtype=dtype,
        )
        for normalization in ("batchnorm", None)
    ]
    small = {
        "X_train": data["X_train"][:1000],
        "y_train": data["y_train"][:1000],
        "X_val": data["X_val"],
        "y_val": data["y_val"],
    }
    solvers = [
        Solver(
            net,
            small,
            num_epochs=10,
            batch_size=50,
            update_rule="adam",
            optim_config={"learning_rate": 1e-3},
            verbose=False,
        )
        for net in nets
    ]
    for solver in solvers:
        solver.train()
    return solvers


def test_batchnorm_is_the_notebooks_to_the_bit():
    solvers = notebook(data_utils.get_digits_data())
    result = batchnorm.run()
    assert [t["normalization"] for t in result["trainings"]] == ["batchnorm", None]
    for training, solver in zip(result["trainings"], solvers, strict=True):
        for name in ("loss_history", "train_acc_history", "val_acc_history"):
            assert training[name] == [float(value) for value in getattr(solver, name)]


def test_defaults_are_the_courses(trained):
    fast = {"num_train": 1, "epochs": 1}
    batchnorm.run(**fast)
    assert {t.hidden for t in trained} == {(100,) * 5}
    assert {(t.batch_size, t.learning_rate, t.weight_scale) for t in trained} == {(50, 1e-3, 2e-2)}
    trained.clear()
    weight_scale.run(**fast)
    assert {t.hidden for t in trained} == {(50,) * 7}
    assert {(t.batch_size, t.learning_rate) for t in trained} == {(50, 1e-3)}
    for kind in ("batchnorm", None):
        scales = [t.weight_scale for t in trained if t.normalization == kind]
        np.testing.assert_array_equal(scales, np.logspace(-4, 0, 20))
    trained.clear()
    batch_size.run(**fast)
    assert [(t.normalization, t.batch_size) for t in trained] == [
        (None, 5),
        ("batchnorm", 5),
        ("batchnorm", 10),
        ("batchnorm", 50),
    ]
    assert {(t.hidden, t.learning_rate, t.weight_scale) for t in trained} == {
        ((100,) * 5, 10**-3.5, 2e-2)
    }
    assert {t.seed for t in trained} == {231}


@every_study
def test_layernorm(study, options, number, trained):
    result = study.run(**options, normalization="layernorm")
    assert {t.normalization for t in trained} == {"layernorm", None} and len(trained) == number
    assert "layer normalization" in study.conclusion(result)


@every_study
def test_a_training_is_what_its_options_say(study, options, number):
    result = study.run(**options)
    assert len(result["trainings"]) == number
    for t in result["trainings"]:
        steps = 2 * (40 // t["batch_size"])
        assert len(t["loss_history"]) == steps
        assert len(t["train_acc_history"]) == len(t["val_acc_history"]) == 3
        assert t["best_train_acc"] == max(t["train_acc_history"])
        assert t["best_val_acc"] == max(t["val_acc_history"])
        assert t["final_loss"] == pytest.approx(np.mean(t["loss_history"][-100:]), rel=1e-12)
        assert (t["hidden"], t["epochs"], t["seed"]) == ([6, 5], 2, 231)
    assert result["data"] == "digits" and result["num_train"] == 40
    assert result["versions"] == fastbn.show_config("dict")["versions"]
    # Plain data, which JSON holds as it is.
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_scales_and_sizes_are_the_only_difference(trained):
    """Without normalization the first loss of a paired net is the same function of its scale."""
    result = weight_scale.run(**TINY, batch_size=10, weight_scales=(0.1, 0.1))
    pairs = result["trainings"]
    assert pairs[0]["loss_history"] == pairs[2]["loss_history"]
    assert pairs[1]["loss_history"] == pairs[3]["loss_history"] != pairs[0]["loss_history"]


@every_study
def test_options_may_be_numpys(study, options, number):
    arrays = {
        key: np.array(value) if isinstance(value, tuple) else np.int64(value)
        for key, value in options.items()
    }
    result = study.run(**arrays, learning_rate=np.float32(0.5), seed=np.uint8(7))
    assert result == study.run(**options, learning_rate=0.5, seed=7)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_data_folder_and_mapping(tmp_path, rng):
    data = {
        "X_train": rng.standard_normal((12, 3, 2, 2)),
        "y_train": rng.integers(3, size=12),
        "X_val": rng.standard_normal((5, 3, 2, 2)),
        "y_val": rng.integers(3, size=5),
    }
    before = copy.deepcopy(data)
    result = batchnorm.run(data, **{**TINY, "num_train": 10}, batch_size=5)
    assert result["data"] == "own data" and result["num_train"] == 10
    for key, array in data.items():
        np.testing.assert_array_equal(array, before[key])
    with pytest.raises(FileNotFoundError, match="no such folder of CIFAR-10 batches"):
        batchnorm.run(tmp_path / "nowhere")


# Side by side


@every_study
def test_same_bits_whatever_runs_side_by_side(study, options, number):
    expected = study.run(**options, n_jobs=1)
    assert study.run(**options, n_jobs=2) == expected
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert study.run(**options) == expected


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_backend_that_returns_lists(tmp_path, monkeypatch):
    """multiprocessing, and Ray: what is finished is kept batch by batch."""
    options = {**TINY, "batch_sizes": (5, 10, 20)}
    expected = batch_size.run(**options)
    with joblib.parallel_config(backend="multiprocessing", n_jobs=2):
        assert batch_size.run(**options, out=tmp_path) == expected
    monkeypatch.setattr(_trainings, "train", None)  # all is there
    assert batch_size.run(**options, out=tmp_path) == expected


def test_large_arrays_are_mapped_into_memory(rng):
    """joblib does that from a mebibyte on, read-only."""
    data = {"X_train": rng.standard_normal((120, 3, 32, 32)), "y_train": np.arange(120) % 10}
    data |= {"X_val": data["X_train"], "y_val": data["y_train"]}
    options = {**TINY, "num_train": 120, "batch_size": 60}
    assert batchnorm.run(data, **options, n_jobs=2) == batchnorm.run(data, **options)


def test_workers_do_not_fight_for_cores():
    fastbn.set_num_threads(2)
    try:
        alone = [n for _, n in _parallel.side_by_side(fastbn.get_num_threads, [()] * 2, 1)]
        both = [n for _, n in _parallel.side_by_side(fastbn.get_num_threads, [()] * 2, 2)]
        assert fastbn.get_num_threads() == alone[0] == alone[1]
    finally:
        fastbn.set_num_threads(None)
    assert both == [1, 1]
    pools = [pools for _, pools in _parallel.side_by_side(threadpoolctl.threadpool_info, [()], 2)]
    most = max(1, joblib.cpu_count() // 2)
    assert pools[0] and all(pool["num_threads"] <= most for pool in pools[0])


def test_only_workers_ignore_interrupts():
    handler = signal.getsignal(signal.SIGINT)
    for n_jobs, expected in ((1, handler), (2, signal.SIG_IGN)):
        calls = _parallel.side_by_side(signal.getsignal, [(signal.SIGINT,)], n_jobs)
        assert [got for _, got in calls] == [expected]
    assert signal.getsignal(signal.SIGINT) is handler


def test_results_come_with_their_numbers():
    calls = [(number,) for number in (3, -1, 2, -7)]
    for n_jobs in (1, 2):
        results = dict(_parallel.side_by_side(abs, calls, n_jobs))
        assert results == {0: 3, 1: 1, 2: 2, 3: 7}


def test_an_error_in_a_worker_is_raised():
    with pytest.raises(TypeError, match="bad operand type"):
        list(_parallel.side_by_side(abs, [("x",)], 2))


def test_the_callers_stream_is_left_alone():
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    batchnorm.run(**TINY)
    assert np.random.rand() == expected


def test_without_joblib(monkeypatch):
    data = data_utils.get_digits_data()  # scikit-learn needs joblib, too
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(ImportError, match=r"need joblib.*pip install 'fastbn\[train\]'"):
        batchnorm.run(data, **TINY)


def test_without_tqdm(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert len(batchnorm.run(**TINY, progress=True)["trainings"]) == 2
    assert capsys.readouterr() == ("", "")


# Resuming


@every_study
def test_what_is_finished_is_not_trained_again(study, options, number, tmp_path, trained):
    expected = study.run(**options)
    trained.clear()
    assert study.run(**options, out=tmp_path) == expected and len(trained) == number
    assert study.run(**options, out=tmp_path) == expected and len(trained) == number
    assert study.run(**options, out=tmp_path, n_jobs=2) == expected and len(trained) == number
    assert sorted(os.listdir(tmp_path)) == ["trainings"]
    assert len(os.listdir(tmp_path / "trainings")) == number


@every_study
def test_an_interruption_costs_one_training(study, options, number, tmp_path, monkeypatch):
    train, begun = _trainings.train, []

    def interrupted(training, data):
        begun.append(training)
        if len(begun) == number:
            raise KeyboardInterrupt
        return train(training, data)

    monkeypatch.setattr(_trainings, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.run(**options, out=tmp_path)
    assert len(os.listdir(tmp_path / "trainings")) == number - 1
    result = study.run(**options, out=tmp_path)
    assert len(begun) == number + 1 and begun[-1] == begun[-2]
    assert result == study.run(**options)


def test_a_changed_option_is_another_training(tmp_path, trained, monkeypatch):
    options = {**TINY, "batch_size": 10}
    changes = [
        {},
        {"normalization": "layernorm"},
        {"hidden": (6, 6)},
        {"hidden": (6,)},
        {"num_train": 41},
        {"epochs": 3},
        {"batch_size": 11},
        {"learning_rate": 2e-3},
        {"weight_scale": 3e-2},
        {"dtype": "float64"},
        {"seed": 232},
        {"data": {k: v + (k == "X_val") for k, v in data_utils.get_digits_data().items()}},
    ]
    for number, change in enumerate(changes, 1):
        batchnorm.run(**{**options, **change}, out=tmp_path)
        # The net without normalization is the same one with layernorm.
        assert len(trained) == 2 * number - (number > 1)
    # The same, by other code: both are trained, each time.
    elsewhere = {"versions": {"numpy": "3"}}
    monkeypatch.setattr(_trainings.config, "show_config", lambda mode: elsewhere)
    batchnorm.run(**options, out=tmp_path)
    assert len(trained) == 2 * len(changes) + 1
    monkeypatch.setattr(_trainings._ext, "level", "another")
    batchnorm.run(**options, out=tmp_path)
    assert len(trained) == 2 * len(changes) + 3


def test_trainings_are_shared_between_studies(tmp_path, trained):
    """The same training is the same file, whichever study asks for it."""
    weight_scale.run(**TINY, batch_size=5, weight_scales=(2e-2,), out=tmp_path)
    batch_size.run(**TINY, batch_sizes=(5,), learning_rate=1e-3, out=tmp_path)
    assert len(trained) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: text[: len(text) // 2],
        lambda text: b"[1, 2]",
        lambda text: b"{}",
        lambda text: b"\xff\xfe" + text,
        lambda text: text.replace(b'"best_val_acc": 0.', b'"best_val_acc": 1.'),
        lambda text: text.replace(b'"seed": 231', b'"seed": 230'),
    ],
    ids=["empty", "cut", "list", "no keys", "not text", "value", "key"],
)
def test_a_damaged_file_is_trained_anew(damage, tmp_path, trained):
    options = {**TINY, "batch_size": 10, "out": tmp_path}
    expected = batchnorm.run(**options)
    path = sorted((tmp_path / "trainings").iterdir())[0]
    whole = path.read_bytes()
    damaged = damage(whole)
    assert damaged != whole
    path.write_bytes(damaged)
    assert batchnorm.run(**options) == expected
    assert len(trained) == 3 and path.read_bytes() == whole


def test_a_result_that_cannot_be_kept(tmp_path):
    (tmp_path / "trainings").write_text("a file")
    with pytest.raises(OSError):
        batchnorm.run(**TINY, out=tmp_path)


# What is said and drawn


@every_study
def test_a_net_that_diverges(study, options, number):
    """Its losses are null in the JSON, gaps in the figure, and said in the table."""
    result = study.run(**options, learning_rate=1e38)
    for t in result["trainings"]:
        assert t["loss_history"][-1] is None and t["final_loss"] is None
        assert t["loss_history"][0] is not None
    json.dumps(result, allow_nan=False)
    assert study.table(result).count("diverged") == number
    drawn(study.plot(result))


@every_study
def test_tables_and_figures_show_every_training(study, options, number):
    result = study.run(**options)
    figure = drawn(study.plot(result))
    lines = study.table(result).splitlines()
    best = [f"{100 * t['best_val_acc']:.1f} %" for t in result["trainings"]]
    assert all(any(value in line for line in lines[1:]) for value in best)
    assert len({len(line) for line in lines}) == 1
    assert len(figure.axes) == 3 and "40 training images" in figure.get_suptitle()
    assert "6, 1 x 5 hidden units" in figure.get_suptitle()
    curves = [len(axes.get_lines()) for axes in figure.axes]
    assert curves == [2 if study is weight_scale else number] * 3


def test_weight_scale_draws_against_the_scale():
    scales = [1e-3, 1e-2, 1e-1]
    result = weight_scale.run(**TINY, batch_size=10, weight_scales=scales)
    for axes, key in zip(
        weight_scale.plot(result).axes,
        ("best_val_acc", "best_train_acc", "final_loss"),
        strict=True,
    ):
        assert axes.get_xscale() == "log"
        for line, first in zip(axes.get_lines(), (0, 1), strict=True):
            expected = [(t["weight_scale"], t[key]) for t in result["trainings"][first::2]]
            np.testing.assert_array_equal(line.get_xydata(), expected)


def training(normalization, accuracy, **options):
    return {"normalization": normalization, "best_val_acc": accuracy, **options}


@pytest.mark.parametrize(
    ("normalized", "plain", "sentence"),
    [
        (0.95, 0.92, "gains 3 points of validation accuracy (95.0 % with it, 92.0 % without)."),
        (0.3, 0.335, "costs 3.5 points of validation accuracy (30.0 % with it, 33.5 % without)."),
        (0.5, 0.5, "makes no difference to the validation accuracy (50.0 % with it and without)."),
    ],
)
def test_what_batchnorm_says(normalized, plain, sentence):
    result = {
        "options": {"epochs": 7},
        "trainings": [training("batchnorm", normalized), training(None, plain)],
    }
    said = batchnorm.conclusion(result)
    assert said == f"Within 7 epochs batch normalization {sentence}"


@pytest.mark.parametrize(
    ("normalized", "plain", "counts", "effect"),
    [
        ([0.9, 0.85, 0.1], [0.1, 0.79, 0.81], (2, 1), "less"),
        ([0.1, 0.1, 0.1], [0.3, 0.2, 0.21], (0, 3), "more"),
        ([0.5, 0.1, 0.1], [0.1, 0.1, 0.45], (1, 1), "no more and no less"),
    ],
)
def test_what_weight_scale_says(normalized, plain, counts, effect):
    pairs = zip(normalized, plain, strict=True)
    trainings = [t for a, b in pairs for t in (training("batchnorm", a), training(None, b))]
    said = weight_scale.conclusion({"trainings": trainings})
    best = 100 * max(*normalized, *plain)
    assert said == (
        f"With batch normalization {counts[0]} of 3 weight scales come within 10 points of the "
        f"best validation accuracy ({best:.1f} %), without it {counts[1]}: by this count it makes "
        f"the training depend {effect} on the weight scale."
    )


@pytest.mark.parametrize(
    ("normalized", "plain", "sizes", "effect"),
    [
        ([0.4, 0.6, 0.5], 0.3, "10 (60.0 %)", "gains 10 points"),
        ([0.4, 0.4, 0.1], 0.45, "5 and 10 (40.0 %)", "costs 5 points"),
        ([0.4, 0.4, 0.6], 0.4, "50 (60.0 %)", "makes no difference"),
        ([0.4, 0.4, 0.4], 0.3, "5, 10 and 50 (40.0 %)", "gains 10 points"),
    ],
)
def test_what_batch_size_says(normalized, plain, sizes, effect):
    trainings = [
        training("layernorm", accuracy, batch_size=size)
        for accuracy, size in zip(normalized, (5, 10, 50), strict=True)
    ]
    said = batch_size.conclusion({"trainings": [training(None, plain), *trainings]})
    assert said.startswith(
        f"With layer normalization the validation accuracy is highest at batch size {sizes}; "
        f"at batch size 5 layer normalization {effect} "
    )
    assert said.endswith(").") and "\n" not in said


# Options


@pytest.mark.parametrize(
    ("study", "options", "error", "message"),
    [
        (batchnorm, {"normalization": None}, ValueError, "normalization must be one of .*got None"),
        (batchnorm, {"hidden": (5, 0)}, ValueError, "hidden must be at least 1; got 0"),
        (batchnorm, {"epochs": 0}, ValueError, "epochs must be at least 1; got 0"),
        (batchnorm, {"epochs": 1.5}, TypeError, "epochs must be an integer; got 1.5"),
        (batchnorm, {"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
        (batchnorm, {"num_train": 0}, ValueError, "num_train must be at least 1; got 0"),
        (
            batchnorm,
            {"num_train": 1258},
            ValueError,
            "num_train must be at most 1257, the training images of digits; got 1258",
        ),
        (batchnorm, {"learning_rate": -1}, ValueError, "learning_rate must be finite and not neg"),
        (batchnorm, {"learning_rate": "x"}, TypeError, "learning_rate must be a number; got 'x'"),
        (batchnorm, {"weight_scale": np.nan}, ValueError, "weight_scale must be finite"),
        (batchnorm, {"dtype": "float16"}, ValueError, "dtype must be 'float32' or 'float64'"),
        (batchnorm, {"dtype": np.dtype("f4")}, ValueError, "dtype must be 'float32' or 'float64'"),
        (batchnorm, {"seed": -1}, ValueError, "seed must be at least 0; got -1"),
        (batchnorm, {"seed": 2**32}, ValueError, "seed must be at most 4294967295"),
        (batchnorm, {"data": {"X_train": []}}, ValueError, "data must have the key 'y_train'"),
        (
            batchnorm,
            {"data": EMPTY},
            ValueError,
            r"data\['X_train'\] must have at least one sample",
        ),
        (
            batchnorm,
            {
                "data": {**EMPTY, "X_train": np.ones((1, 2), complex), "y_train": [0]},
                "num_train": 1,
            },
            TypeError,
            r"data\['X_train'\] must hold real numbers; got dtype complex128",
        ),
        (weight_scale, {"weight_scales": ()}, ValueError, "weight_scales must hold at least 1"),
        (
            weight_scale,
            {"weight_scales": 1.0},
            TypeError,
            "weight_scales must be a sequence of .*1.0",
        ),
        (weight_scale, {"weight_scales": (1, 0)}, ValueError, "weight_scales must be .* positive"),
        (batch_size, {"batch_sizes": ()}, ValueError, "batch_sizes must hold at least 1"),
        (batch_size, {"batch_sizes": "55"}, TypeError, "batch_sizes must be a sequence .*'55'"),
        (batchnorm, {"hidden": 5}, TypeError, "hidden must be a sequence of numbers; got 5"),
        (batchnorm, {"data": 3}, TypeError, "data must be a folder, a mapping or None; got 3"),
        (batchnorm, {"n_jobs": 1.5}, TypeError, "n_jobs must be an integer; got 1.5"),
        (batch_size, {"batch_sizes": (5, 0)}, ValueError, "batch_sizes must be at least 1; got 0"),
        (speed, {"only": "nothing"}, ValueError, "only must be in the name of a case .*'nothing'"),
        (speed, {"dtype": int}, ValueError, "dtype must be 'float32' or 'float64'"),
        (speed, {"seconds": 0}, ValueError, "seconds must be finite and positive; got 0"),
    ],
)
def test_bad_options(study, options, error, message, tmp_path, trained):
    with pytest.raises(error, match=message):
        study.run(**options, out=tmp_path / "out")
    assert not trained and not (tmp_path / "out").exists()


@pytest.mark.parametrize("study", [batchnorm, speed])
def test_out_is_a_folder(study, trained):
    with pytest.raises(TypeError, match="out must be a folder or None; got 3"):
        study.run(out=3)
    assert not trained


# Speed


def quick(**options):
    return speed.run(seconds=1e-3, **options)


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.setattr(speed, "_torch", lambda: None)


def test_speed_has_every_layer():
    measured = {name.split()[0] for name in speed.cases()}
    layers = {name.split("_forward")[0] for name in dir(fastbn.layers) if "_forward" in name}
    losses = {name for name in dir(fastbn.layers) if name in ("softmax_loss", "svm_loss")}
    # A spelling of spatial_groupnorm.
    assert measured == (layers | losses | {"step"}) - {"spatial_quick_groupnorm"}
    assert len([name for name in speed.cases() if name.startswith("step of ")]) == 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("only", ["batchnorm 100x500", "svm_loss", "step of FullyConnectedNet"])
def test_speed_measures_each_side(only, dtype, without_torch):
    result = quick(only=only, dtype=dtype)
    (case,) = result["cases"]
    assert only in case["name"] and result["peers"] == ["reference"]
    for side in ("fastbn", "reference"):
        forward, both = case[side]
        assert 0 < forward <= both
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert case["name"] in speed.table(result) and "NumPy" in speed.conclusion(result)
    drawn(speed.plot(result))


def test_speed_against_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    threads = torch.get_num_threads()
    result = quick(only="batchnorm")
    assert result["peers"] == ["reference", "torch"] and len(result["cases"]) == 3
    assert all(case["torch"][1] > 0 for case in result["cases"])
    assert torch.get_num_threads() == threads
    assert result["versions"]["torch"] == torch.__version__


def test_speed_resumes(tmp_path, without_torch, monkeypatch):
    first = quick(only="loss", out=tmp_path)
    measured = []
    monkeypatch.setattr(speed._timing, "measure", lambda sides, seconds: measured.append(sides))
    assert quick(only="loss", out=tmp_path) == first and not measured
    assert quick(only="softmax", out=tmp_path)["cases"] == first["cases"][:1] and not measured
    for change in ({"dtype": "float64"}, {"seconds": 2e-3}):
        with pytest.raises(AttributeError):
            speed.run(**{"seconds": 1e-3, "only": "softmax", "out": tmp_path, **change})
    for change, value, back in (
        (fastbn.set_num_threads, 1 + fastbn.get_num_threads(), None),
        (fastbn.set_conv_algorithm, "direct", fastbn.get_conv_algorithm()),
    ):
        change(value)
        try:
            with pytest.raises(AttributeError):
                quick(only="softmax", out=tmp_path)
        finally:
            change(back)
    assert len(measured) == 4


def test_what_speed_says():
    cases = [
        {"name": "a", "fastbn": [1, 2.0], "reference": [1, 8.0], "torch": [1, 1.0]},
        {"name": "b", "fastbn": [1, 1.0], "reference": [1, 9.0], "torch": [1, 1.0]},
    ]
    result = {"cases": cases, "peers": ["reference", "torch"]}
    assert speed.conclusion(result) == (
        "Forward and backward, fastbn is faster than NumPy in 2 of 2 cases (at 6 times its speed "
        "in the geometric mean) and than PyTorch in 0 of 2 cases (at 0.71 times its speed in the "
        "geometric mean)."
    )
    assert speed.table(result).splitlines()[1].split() == [
        "a", "2000.000", "8000.000", "4.00", "1000.000", "0.50",
    ]  # fmt: skip


def test_speed_leaves_the_stream_of_random_numbers():
    np.random.seed(1)
    expected = np.random.rand()
    np.random.seed(1)
    speed.run(only="step of FullyConnectedNet", seconds=1e-3)
    assert np.random.rand() == expected


def test_weights_too_large_for_the_dtype_are_a_training_that_diverges():
    result = batchnorm.run(weight_scale=1e300, num_train=50, epochs=1, hidden=(5,), n_jobs=1)
    assert [training["final_loss"] for training in result["trainings"]] == [None, None]
