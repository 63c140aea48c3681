"""``fastbn.accelerate`` on miniature checkouts of every year, and what stays as it was."""

import concurrent.futures
import importlib
import json
import re
import sys
import textwrap
import threading
import types

import checkouts
import numpy as np
import pytest
from checkouts import SOLVED, python, unsolved

import fastbn
from fastbn import fast_layers, layer_utils, layers
from fastbn._accelerate import _hook, _report, _swap

PACKAGES = ("cs231n", "cs682", "torch")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Write a checkout and make it importable: checkout(year, **options) gives its folder."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    finders = list(sys.meta_path)

    def write(year, **options):
        root = checkouts.write(tmp_path, year, **options)
        if year == 2019:
            (tmp_path / "torch.py").write_text("")
        monkeypatch.syspath_prepend(tmp_path)
        return root

    kept = {name: sys.modules.pop(name) for name in before if name.split(".")[0] in PACKAGES}
    yield write
    for report in list(_report.standing):
        report.undo()
    assert not _swap.active and not _hook.finder.extensions and sys.meta_path == finders
    for name in set(sys.modules) - before:
        if name.split(".")[0] in (*PACKAGES, "helper"):
            del sys.modules[name]
    sys.modules.update(kept)


def module(name):
    return importlib.import_module(f"cs231n.{name}")


def conv_net_results():
    """Loss and gradients of the checkout's own ThreeLayerConvNet."""
    rng = np.random.RandomState(7)
    X, y = rng.randn(4, 3, 8, 8), rng.randint(10, size=4)
    np.random.seed(231)
    net = module("classifiers.cnn").ThreeLayerConvNet(
        (3, 8, 8), 4, 3, 12, weight_scale=0.1, dtype=np.float64
    )
    loss, grads = net.loss(X, y)
    return {"loss": np.asarray(loss), **grads}


# What is swapped, in every year


@pytest.mark.parametrize("year", checkouts.YEARS)
def test_every_year(year, checkout, capsys):
    checkout(year)
    report = fastbn.accelerate("cs231n")
    assert capsys.readouterr() == ("", "")

    names = {*checkouts.layers_of(year)} - ({"dropout_forward", "dropout_backward"}
                                            if year < 2018 else set())  # fmt: skip
    fast = {f"{kind}_{way}_{how}" for way in ("forward", "backward")
            for kind, hows in (("conv", ("fast", "strides", "im2col")),
                               ("max_pool", ("fast", "reshape", "im2col")))
            for how in hows}  # fmt: skip
    columns = {"get_im2col_indices", "im2col_indices", "col2im_indices"}
    compiled = {"im2col_cython", "col2im_cython", "col2im_6d_cython"}
    composed = {f"{name}_{way}" for name in ("affine_relu", "conv_relu", "conv_bn_relu",
                "conv_relu_pool") for way in ("forward", "backward")}  # fmt: skip
    assert set(report.swapped) == names | fast | columns | compiled | composed
    for name in names:
        assert vars(module("layers"))[name] is getattr(layers, name)
    for name in fast:
        assert vars(module("fast_layers"))[name] is getattr(fast_layers, name)
    for name in names | fast | composed:
        assert vars(module("classifiers.cnn"))[name] is getattr(layer_utils, name)
    assert module("im2col_cython").col2im_6d_cython is fast_layers.col2im_6d_cython
    assert module("solver").optim.sgd.__module__ == "cs231n.optim"

    swapped = conv_net_results()
    report.undo()
    theirs = conv_net_results()
    for name in theirs:
        np.testing.assert_allclose(swapped[name], theirs[name], rtol=1e-9, atol=1e-13)
    for name in names:
        assert vars(module("layers"))[name].__module__ == "cs231n.layers"


def test_2019_without_torch(checkout, monkeypatch):
    checkout(2019)
    with monkeypatch.context() as patch:  # ends before `checkout` puts the true one back
        patch.setitem(sys.modules, "torch", None)
        report = fastbn.accelerate("cs231n")
    assert "affine_forward" in report.swapped and "conv_forward_fast" not in report.left
    assert report.left["fast_layers"].startswith("cannot be imported: ModuleNotFoundError: ")
    assert "torch" in report.left["layer_utils"]


def test_dropout_of_2016_is_left(checkout):
    checkout(2016)
    report = fastbn.accelerate("cs231n")
    assert report.left["dropout_forward"] == (
        "p is the share dropped here; see fastbn.set_dropout_convention"
    )
    assert report.left["dropout_backward"] == "dropout_forward is left"
    assert module("layers").dropout_forward.__module__ == "cs231n.layers"


@pytest.mark.parametrize("year, left", [(2016, False), (2018, True)])
def test_dropout_goes_by_the_convention(year, left, checkout, monkeypatch):
    monkeypatch.setattr(fastbn._convention, "_convention", "drop")
    checkout(year)
    report = fastbn.accelerate("cs231n", verify=True)
    assert ("dropout_forward" in report.left) is left
    assert not left or report.left["dropout_forward"].startswith("p is the share kept here;")


def test_a_dropout_that_draws_otherwise_is_left(checkout):
    other = SOLVED["dropout_forward"].replace(
        "(np.random.rand(*x.shape) < p)", "(np.random.rand(*x.shape) > 1 - p)"
    )
    checkout(2024, replace={"dropout_forward": other})
    report = fastbn.accelerate("cs231n", verify=True)
    assert report.left["dropout_forward"] == "draws its mask in another way"
    assert not any(row.wrong for row in report.rows)
    wrong = SOLVED["dropout_forward"].replace("< p) / p", "> p) / p")
    vars(module("layers"))["dropout_forward"] = function(wrong, module("layers"))
    report = fastbn.accelerate("cs231n")
    assert report.left["dropout_forward"].startswith("differs: out by ")


def function(source, home):
    """Define a function in a module anew."""
    exec(textwrap.dedent(source), vars(home))
    name = source.split("def ")[1].split("(")[0]
    return vars(home)[name]


# Identity


def test_swapped_by_identity(checkout):
    root = checkout(
        2024,
        extra={
            "layers.py": "rectify = relu_forward\n",
            "classifiers/fc_net.py": (
                "\n\ndef relu_forward(x):\n    return 'mine', x\n"
                "\n\nfrom ..layers import affine_forward as af\n"
                "from ..layers import affine_backward\n"
            ),
        },
    )
    net = module("classifiers.fc_net")
    here = {"a": module("layers").affine_forward, "relu_forward": lambda x: x}
    own = dict(here)
    exec("import fastbn\nreport = fastbn.accelerate('cs231n')", here)
    assert net.af is here["a"] is layers.affine_forward
    assert net.relu_forward(3) == ("mine", 3)
    assert module("layers").rectify is layers.relu_forward
    assert here["relu_forward"] is own["relu_forward"]
    utils = module("layer_utils")
    assert utils.generic_forward.__module__ == "cs231n.layer_utils"
    assert utils.affine_bn_relu_forward.__module__ == "cs231n.layer_utils"
    assert "affine_bn_relu_forward" in here["report"].left
    here["report"].undo()
    assert here["a"] is own["a"] and net.af is own["a"]
    assert root.name == "cs231n"


def test_a_users_composed_layer_runs_on_the_swapped_parts(checkout, rng):
    checkout(2024)
    utils = module("layer_utils")
    x, w, b, gamma, beta = (rng.standard_normal(s) for s in ((5, 4), (4, 3), 3, 3, 3))
    expected, _ = utils.affine_bn_relu_forward(x, w, b, gamma, beta, {"mode": "train", "late": 1})
    with fastbn.accelerate("cs231n"):
        assert utils.batchnorm_forward is layers.batchnorm_forward
        got, _ = utils.affine_bn_relu_forward(x, w, b, gamma, beta, {"mode": "train", "late": 1})
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert np.abs(got - layer_utils.affine_bn_relu_forward(
        x, w, b, gamma, beta, {"mode": "train"})[0]).max() > 0.1  # fmt: skip


def test_modules_imported_later(checkout, tmp_path):
    root = checkout(2024)
    report = fastbn.accelerate("cs231n")
    (root / "mine.py").write_text("from .layers import *\nfrom .layer_utils import *\n")
    mine = module("mine")
    assert mine.conv_forward_naive is layers.conv_forward_naive
    assert mine.generic_forward.__module__ == "cs231n.layer_utils"
    report.undo()
    assert mine.conv_forward_naive is module("layers").conv_forward_naive
    assert mine.conv_forward_naive.__module__ == "cs231n.layers"


def test_what_was_fastbns_before_stays(checkout):
    root = checkout(2024)
    (root / "ported.py").write_text("from fastbn.layers import *\n")
    ported = module("ported")
    fastbn.accelerate("cs231n").undo()
    assert ported.affine_forward is layers.affine_forward


def test_a_ported_checkout_has_nothing_to_swap(checkout):
    root = checkout(2024)
    (root / "layers.py").write_text("from fastbn.layers import *\n")
    report = fastbn.accelerate("cs231n")
    assert report.left["affine_forward"] == "is fastbn's already"
    assert "conv_relu_forward" in report.swapped


def test_two_packages_at_once(checkout):
    checkout(2024)
    checkout(2018, package="cs682")
    here = {}
    exec("import fastbn\nfrom cs231n.layers import *\nimport cs682.layers as other", here)
    theirs = here["relu_forward"]
    exec("one = fastbn.accelerate('cs231n')\ntwo = fastbn.accelerate('cs682')", here)
    assert here["relu_forward"] is here["other"].relu_forward is layers.relu_forward
    here["one"].undo()
    assert here["relu_forward"] is theirs
    assert here["other"].relu_forward is layers.relu_forward
    here["two"].undo()
    assert here["other"].relu_forward.__module__ == "cs682.layers"


def test_one_module(checkout):
    checkout(2024)
    home = module("layers")
    net = module("classifiers.cnn")
    fast = net.conv_forward_fast
    report = fastbn.accelerate(home)
    assert home.affine_forward is net.affine_forward is layers.affine_forward
    assert net.conv_forward_fast is fast and "conv_forward_fast" not in report.swapped
    assert set(report.swapped) == {*checkouts.layers_of(2024)}
    report.undo()
    loose = types.ModuleType("homework")
    vars(loose).update({name: vars(home)[name] for name in ("relu_forward", "relu_backward")})
    with fastbn.accelerate(loose) as report:
        assert loose.relu_forward is layers.relu_forward
        assert report.swapped == ["relu_forward", "relu_backward"]
        assert home.relu_forward is not layers.relu_forward
    assert loose.relu_backward is home.relu_backward


# Back again


def test_undo_leaves_what_was_bound_since(checkout):
    checkout(2024)
    report = fastbn.accelerate("cs231n")
    home = module("layers")
    home.relu_forward = mine = lambda x: (x, x)
    report.undo()
    assert home.relu_forward is mine
    assert home.relu_backward.__module__ == "cs231n.layers"
    report.undo()


def test_twice_changes_nothing(checkout):
    checkout(2024)
    first = fastbn.accelerate("cs231n")
    names = dict(vars(module("layers")))
    second = fastbn.accelerate("cs231n")
    assert vars(module("layers")) == names
    assert second.swapped == first.swapped and second.left == first.left
    second.undo()
    assert module("layers").affine_forward is layers.affine_forward
    with fastbn.accelerate("cs231n"):
        pass
    assert module("layers").affine_forward is layers.affine_forward
    first.undo()
    assert module("layers").affine_forward.__module__ == "cs231n.layers"


def test_context_manager_undoes_after_an_error(checkout):
    checkout(2024)
    with pytest.raises(KeyError, match="mine"), fastbn.accelerate("cs231n"):
        assert module("layers").affine_forward is layers.affine_forward
        raise KeyError("mine")
    assert module("layers").affine_forward.__module__ == "cs231n.layers"


def test_from_two_threads(checkout):
    checkout(2024)
    barrier = threading.Barrier(4)
    reports = []

    def work():
        barrier.wait()
        reports.append(fastbn.accelerate("cs231n", verify=True))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == 4
    assert {tuple(report.swapped) for report in reports} == {tuple(reports[0].swapped)}
    assert module("classifiers.cnn").affine_forward is layers.affine_forward
    for report in reports:
        report.undo()
    assert module("classifiers.cnn").affine_forward.__module__ == "cs231n.layers"


def test_while_other_threads_call(checkout):
    """Swapped and put back under them: each call is one function or the other, and right."""
    checkout(2024)
    home, rng = module("layers"), np.random.default_rng(0)
    x, w, b = rng.standard_normal((6, 5)), rng.standard_normal((5, 4)), rng.standard_normal(4)
    expected = x @ w + b
    stop = threading.Event()

    def work():
        calls = 0
        while not stop.is_set():
            out, cache = home.affine_forward(x, w, b)
            np.testing.assert_allclose(out, expected, atol=1e-12)
            for got, wanted in zip(
                home.affine_backward(out, cache), (out @ w.T, x.T @ out, out.sum(0)), strict=True
            ):
                np.testing.assert_allclose(got, wanted, atol=1e-12)
            calls += 1
        return calls

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(work) for _ in range(3)]
        try:
            for _ in range(15):
                report = fastbn.accelerate("cs231n")
                assert home.affine_forward is layers.affine_forward
                report.undo()
                assert home.affine_forward.__module__ == "cs231n.layers"
        finally:
            stop.set()
    assert all(future.result() for future in futures)


# im2col_cython


def test_a_compiled_extension_of_theirs_is_taken(checkout):
    root = checkout(2024)
    names = ("im2col_cython", "col2im_cython", "col2im_6d_cython")
    (root / "im2col_cython.py").write_text(
        "import fastbn.im2col_cython as c\n"
        + "".join(f"def {name}(*args):\n    return c.{name}(*args)\n" for name in names)
    )
    report = fastbn.accelerate("cs231n", verify=True)
    # A Python function of (*args) does not fit; a compiled one has no signature to look at.
    assert report.left["im2col_cython"] == (
        "takes (*args), fastbn's takes (x, field_height, field_width, padding, stride)"
    )
    assert module("im2col_cython").__file__ == str(root / "im2col_cython.py")


def test_functions_without_a_signature(checkout):
    root = checkout(2024)
    (root / "im2col_cython.py").write_text(
        "im2col_cython = col2im_cython = col2im_6d_cython = max\n"  # two forms: no signature
    )
    home = module("layers")
    home.relu_forward = dict.fromkeys
    home.softmax_loss = int
    report = fastbn.accelerate("cs231n")
    assert "col2im_6d_cython" in report.swapped
    assert report.left["softmax_loss"] == "is no function: type"
    assert report.left["relu_forward"].startswith("takes (iterable")


def test_the_extension_stays_while_a_report_stands(checkout, capsys):
    checkout(2024)
    first, second = fastbn.accelerate("cs231n"), fastbn.accelerate("cs231n")
    first.undo()
    importlib.reload(module("fast_layers"))
    assert capsys.readouterr().out == ""
    second.undo()
    assert not _hook.finder.extensions


def test_undo_takes_the_extension_away(checkout):
    checkout(2024)
    fastbn.accelerate("cs231n").undo()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("cs231n.im2col_cython")


# What does not fit


@pytest.mark.parametrize(
    "replace, left",
    [
        (
            {"affine_forward": "def affine_forward(x, w, b, scale=1):\n    return x @ w + b, None"},
            {
                "affine_forward": "takes (x, w, b, scale=1), fastbn's takes (x, w, b)",
                "affine_backward": "affine_forward is left",
                "affine_relu_backward": "affine_forward is left",
            },
        ),
        (
            {"relu_forward": "def relu_forward(x, *rest, **more):\n    return x, x"},
            {
                "relu_forward": "takes (x, *rest, **more), fastbn's takes (x)",
                "conv_relu_forward": "relu_forward is left",
            },
        ),
        (
            {"batchnorm_backward_alt": "def batchnorm_backward_alt(dout, kept):\n    pass"},
            {
                "batchnorm_backward_alt": "takes (dout, kept), fastbn's takes (dout, cache)",
                "batchnorm_forward": "batchnorm_backward_alt is left",
                "batchnorm_backward": "batchnorm_backward_alt is left",
            },
        ),
        (
            {"layernorm_backward": None},
            {"layernorm_forward": "there is no layernorm_backward beside it"},
        ),
        (
            {"conv_forward_naive": None},
            {"conv_backward_naive": "there is no conv_forward_naive beside it"},
        ),
        ({"svm_loss": "svm_loss = None"}, {"svm_loss": "is no function: NoneType"}),
    ],
    ids=lambda value: next(iter(value)),
)
def test_what_does_not_fit_is_left_with_its_group(replace, left, checkout):
    checkout(2018, replace=replace)
    report = fastbn.accelerate("cs231n")
    for name, reason in left.items():
        assert report.left[name] == reason
        home = module("layers") if hasattr(module("layers"), name) else module("layer_utils")
        assert vars(home)[name] is not getattr(layer_utils, name)
    assert "conv_forward_fast" in report.swapped and "max_pool_backward_naive" in report.swapped


def test_a_read_only_module(checkout):
    checkout(2024)

    class ReadOnly(types.ModuleType):
        def __setattr__(self, name, value):
            raise AttributeError(f"{name} is read-only")

    home = module("layers")
    before = dict(vars(home))
    home.__class__ = ReadOnly
    report = fastbn.accelerate("cs231n")
    assert report.left["affine_forward"] == (
        "cannot be swapped: AttributeError: affine_forward is read-only"
    )
    assert report.left["affine_relu_forward"] == "affine_forward is left"
    assert vars(home) == before
    assert module("classifiers.cnn").affine_forward is before["affine_forward"]
    assert module("fast_layers").conv_backward_fast is layers.conv_backward_fast


@pytest.mark.parametrize(
    "target, error, message",
    [
        (3, TypeError, "target must be a module or its dotted name; got 3"),
        (None, TypeError, "target must be a module or its dotted name; got None"),
        ("", ValueError, "target must be a dotted name such as 'cs231n'; got ''"),
        (".layers", ValueError, "must be a dotted name"),
        ("no_such_course", ModuleNotFoundError, "sys.path; got 'no_such_course'"),
        ("json.layers", ModuleNotFoundError, "sys.path; got 'json.layers'"),
        ("json", ValueError, "target must be a course package, .*; json has none"),
        (np, ValueError, "target must be a course package, .*; numpy has none"),
        (sys, ValueError, "functions of the course's layers; sys has none"),
        ("zipimport", ValueError, "functions of the course's layers; zipimport has none"),
        (fastbn, ValueError, "not fastbn's own"),
        ("fastbn.layers", ValueError, "not fastbn's own; got 'fastbn.layers'"),
    ],
)
def test_wrong_targets(target, error, message, checkout):
    with pytest.raises(error, match=message):
        fastbn.accelerate(target)
    assert not _swap.active and not _report.standing


@pytest.mark.parametrize("ending", ["return 5", "raise RuntimeError(name)"])
def test_a_module_with_a_getattr_of_its_own(ending, checkout):
    checkout(2024, extra={"layers.py": f"\n\ndef __getattr__(name):\n    {ending}\n"})
    layers_of = module("layers")
    with fastbn.accelerate(layers_of):
        assert layers_of.relu_forward is layers.relu_forward


def test_a_module_that_exits(checkout):
    checkout(2024, extra={"layer_utils.py": "\nraise SystemExit(3)\n"})
    left = fastbn.accelerate("cs231n").left
    assert left == {"layer_utils": "cannot be imported: SystemExit: 3"}


def test_an_interrupt_while_the_modules_are_imported(checkout):
    checkout(2024, extra={"layer_utils.py": "\nraise KeyboardInterrupt\n"})
    with pytest.raises(KeyboardInterrupt):
        fastbn.accelerate("cs231n")
    assert not _hook.finder.extensions and not _report.standing


def test_an_interrupt_while_their_functions_are_tried(checkout):
    never = "def relu_forward(x):\n    raise KeyboardInterrupt"  # as of Ctrl-C in an endless loop
    checkout(2024, replace={"relu_forward": never})
    before = np.random.get_state()[1:3]
    with pytest.raises(KeyboardInterrupt):
        fastbn.accelerate("cs231n", verify=True)
    assert not _hook.finder.extensions and not _report.standing and not _swap.active
    assert module("layers").affine_forward.__module__ == "cs231n.layers"
    np.testing.assert_equal(np.random.get_state()[1:3], before)


def test_a_package_that_cannot_be_imported_says_why(checkout):
    root = checkout(2024)
    for name in ("layers", "fast_layers", "layer_utils", "im2col"):
        (root / f"{name}.py").write_text("def broken(:\n")
    with pytest.raises(ValueError, match="has none; layers cannot be imported: SyntaxError"):
        fastbn.accelerate("cs231n")
    (root / "__init__.py").write_text("import no_such_module\n")
    del sys.modules["cs231n"]
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_module'"):
        fastbn.accelerate("cs231n")


# verify


WRONG = {
    "affine_forward": (
        SOLVED["affine_forward"].replace(" + b, ", ", "),
        r"differs: out by \d",
    ),
    "affine_backward": (
        SOLVED["affine_backward"].replace("dout.sum(axis=0)", "dout.mean(axis=0)"),
        r"differs: db by \d",
    ),
    "relu_backward": (
        SOLVED["relu_backward"].replace("cache > 0", "cache < 0"),
        r"differs: dx by \d",
    ),
    "batchnorm_forward": (
        SOLVED["batchnorm_forward"].replace("x.var(axis=0)", "x.var(axis=0, ddof=1)"),
        r"differs: running_var by \d",
    ),
    "batchnorm_backward_alt": (
        SOLVED["batchnorm_backward_alt"].replace("(dout, cache)\n    ", "(2 * dout, cache)\n    "),
        r"differs: d\w+ by \d",
    ),
    "layernorm_backward": (
        SOLVED["layernorm_backward"].replace("return dx / std", "return dx"),
        r"differs: dx by \d",
    ),
    "spatial_groupnorm_backward": (
        SOLVED["spatial_groupnorm_backward"].replace(
            "*sums)", "*(s.ravel() for s in sums))"
        ),
        r"dgamma has shape \(6,\), fastbn's \(1, 6, 1, 1\)",
    ),
    "conv_forward_naive": (
        SOLVED["conv_forward_naive"].replace("HH, WW) = x.shape", "HH, _) = x.shape").replace(
            "WW", "HH"
        ),
        r"theirs raises ValueError: .* \(with filters that are not square\)$",
    ),
    "max_pool_backward_naive": (
        SOLVED["max_pool_backward_naive"].replace("+=", "="),
        r"differs on overlapping windows: dx by \d",
    ),
    "softmax_loss": (
        SOLVED["softmax_loss"].replace("p / len(x)", "p"),
        r"differs: dx by \d",
    ),
    "svm_loss": (
        "def svm_loss(x, y):\n    return {}['loss']",
        r"theirs raises KeyError: 'loss'",
    ),
    "dropout_backward": (
        "def dropout_backward(dout, cache):\n    return dout, cache",
        r"returns 2 results, fastbn's 1",
    ),
    "relu_forward": (
        "def relu_forward(x):\n    return x, x, x",
        r"returns 3 results, not \(out, cache\)",
    ),
    "layernorm_forward": (
        "def layernorm_forward(x, gamma, beta, ln_param):\n    return 'out', 1",
        r"out is no array of numbers: str",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_verify_finds_what_is_wrong(name, checkout):
    source, reason = WRONG[name]
    assert source != SOLVED[name]
    checkout(2018, replace={name: source})
    report = fastbn.accelerate("cs231n", verify=True)
    wrong = [row.name for row in report.rows if row.wrong]
    backward = name.replace("forward", "backward")
    assert wrong[0] == name and set(wrong) <= {name, backward, f"{backward}_alt"} | (
        {f"spatial_{name}", f"spatial_{backward}"} if "batchnorm" in name else set()
    )
    assert re.match(reason, report.left[name]), report.left[name]
    assert vars(module("layers"))[name].__module__ == "cs231n.layers"
    assert "conv_forward_fast" in report.swapped


@pytest.mark.parametrize(
    "body, reason",
    [
        ("return Tensor(), x", "out is no array of numbers: Tensor"),
        ("return x * np.nan, x", "differs: out is not finite"),
        ("input()", "theirs raises EOFError: EOF when reading a line"),
    ],
)
def test_verify_of_what_is_odd(body, reason, checkout, monkeypatch):
    stdin = types.SimpleNamespace()  # reading from it is an AttributeError
    monkeypatch.setattr(sys, "stdin", stdin)
    tensor = "class Tensor:\n    def __array__(self, *args, **kwargs):\n        raise RuntimeError"
    relu = f"{tensor}\n\n\ndef relu_forward(x):\n    {body}"
    checkout(2024, replace={"relu_forward": relu})
    assert fastbn.accelerate("cs231n", verify=True).left["relu_forward"] == reason
    assert sys.stdin is stdin


def test_verify_swaps_what_is_right(checkout, capsys, recwarn):
    noisy = SOLVED["relu_forward"].replace(
        "return", 'print("noise"); np.log(np.zeros(1)); np.random.rand(3); return'
    )
    checkout(2018, replace={"relu_forward": noisy})
    np.random.seed(5)
    report = fastbn.accelerate("cs231n", verify=True)
    assert np.random.rand() == np.random.RandomState(5).rand()
    assert capsys.readouterr() == ("", "") and not recwarn.list
    assert set(report.left) == {"affine_bn_relu_forward", "affine_bn_relu_backward"}
    rows = {row.name: row for row in report.rows}
    for name in checkouts.layers_of(2018):
        assert rows[name].found == "agrees" and 0 <= rows[name].error < 1e-10
    # What the course hands out and never worked, or does no more.
    assert rows["max_pool_forward_im2col"].swapped and rows["im2col_indices"].swapped
    assert rows["max_pool_forward_im2col"].reason == (
        "theirs raises NameError: name 'im2col' is not defined"
    )


@pytest.mark.parametrize(
    "name, source, reason",
    [
        (
            "relu_backward",
            SOLVED["relu_backward"].replace("cache > 0", "cache >= 0"),
            r"differs at x = 0: dx by",
        ),
        (
            "max_pool_backward_naive",
            SOLVED["max_pool_backward_naive"].replace(
                "a, b = np.unravel_index(window.argmax(), window.shape)\n",
                "a, b = np.argwhere(window == window.max())[-1]\n",
            ),
            r"differs at tied maxima: dx by",
        ),
    ],
)
def test_conventions_are_left_and_not_wrong(name, source, reason, checkout):
    assert source != SOLVED[name]
    checkout(2024, replace={name: source})
    report = fastbn.accelerate("cs231n", verify=True)
    assert report.left[name].startswith(reason)
    assert not any(row.wrong for row in report.rows)


@pytest.mark.parametrize("raising", [True, False])
def test_functions_not_written_yet(raising, checkout):
    names = ("batchnorm_forward", "batchnorm_backward", "conv_backward_naive", "relu_forward",
             "dropout_forward")  # fmt: skip
    checkout(2024, replace={name: unsolved(name, raising) for name in names})
    how = "NotImplementedError" if raising else "None"
    report = fastbn.accelerate("cs231n", verify=True)
    for name in names[:1] + names[2:]:
        assert report.left[name] == f"not written yet ({how})"
    assert report.left["batchnorm_backward"] == "batchnorm_forward is left"
    assert report.left["spatial_batchnorm_forward"].startswith(
        "not written yet" if raising else "needs batchnorm_forward, not written yet"
    )
    assert not any(row.wrong for row in report.rows)
    assert report.left["affine_relu_forward"] == "relu_forward is left"
    assert module("layers").conv_forward_naive.__module__ == "cs231n.layers"
    assert "conv_forward_fast" in report.swapped and "affine_forward" in report.swapped
    report.undo()
    report = fastbn.accelerate("cs231n", verify=True, unsolved=True)
    assert {*names, "affine_relu_forward", "conv_relu_pool_backward"} <= set(report.swapped)
    assert not any(row.wrong for row in report.rows)
    report.undo()
    assert set(names) <= set(fastbn.accelerate("cs231n").swapped)


def test_what_is_handed_out_without_a_part_is_not_wrong(checkout):
    # As in assignment 3, whose layers have no layer normalization.
    composed = """

def affine_ln_relu_forward(x, w, b, gamma, beta, ln_param):
    a, fc_cache = affine_forward(x, w, b)
    an, ln_cache = layernorm_forward(a, gamma, beta, ln_param)
    out, relu_cache = relu_forward(an)
    return out, (fc_cache, ln_cache, relu_cache)


def affine_ln_relu_backward(dout, cache):
    fc_cache, ln_cache, relu_cache = cache
    dout, dgamma, dbeta = layernorm_backward(relu_backward(dout, relu_cache), ln_cache)
    return (*affine_backward(dout, fc_cache), dgamma, dbeta)
"""
    gone = {f"{name}_{way}": None for name in checkouts.SINCE_2018 for way in
            ("forward", "backward")}  # fmt: skip
    checkout(2018, replace=gone, extra={"layer_utils.py": composed})
    report = fastbn.accelerate("cs231n", verify=True)
    rows = {row.name: row for row in report.rows}
    assert rows["affine_ln_relu_forward"].swapped and not rows["affine_ln_relu_forward"].wrong
    assert rows["affine_ln_relu_forward"].reason == (
        "theirs raises NameError: name 'layernorm_forward' is not defined"
    )


def test_unsolved_dropout_of_a_year_whose_p_is_not_known(checkout):
    checkout(2016, replace={"dropout_forward": unsolved("dropout_forward")})
    report = fastbn.accelerate("cs231n", verify=True, unsolved=True)
    assert report.left["dropout_forward"] == "not written yet (NotImplementedError)"


def test_verify_after_a_swap_runs_theirs(checkout):
    source, _ = WRONG["batchnorm_backward_alt"]
    checkout(2024, replace={"batchnorm_backward_alt": source})
    first = fastbn.accelerate("cs231n")
    assert module("layers").batchnorm_forward is layers.batchnorm_forward
    report = fastbn.accelerate("cs231n", verify=True)
    assert [row.name for row in report.rows if row.wrong] == ["batchnorm_backward_alt"]
    assert module("layers").batchnorm_forward.__module__ == "cs231n.layers"
    assert module("layers").relu_forward is layers.relu_forward
    first.undo()
    assert module("layers").relu_forward.__module__ == "cs231n.layers"


# The report


def test_the_report_reads_well(checkout):
    checkout(2024, replace={"affine_forward": WRONG["affine_forward"][0]})
    report = fastbn.accelerate("cs231n", verify=True)
    lines = str(report).splitlines()
    swapped, left = len(report.swapped), len(report.left)
    assert lines[0] == f"cs231n: {swapped} functions swapped, {left} left"
    assert lines[1].split()[:2] == ["layers", "relu_forward,"]
    assert max(map(len, lines)) <= 120
    assert any(
        line.split() == ["affine_backward", "left:", "affine_forward", "is", "left"]
        for line in lines
    )
    html = report._repr_html_()
    assert html.startswith("<table>") and html.count("<tr>") == html.count("</tr>") > 5
    assert repr(report) == str(report)


# The whole way: scripts, as they are, ported, accelerated, and run by fastbn

CELLS = """
import json, sys
import numpy as np
from cs231n.layers import *
from cs231n.fast_layers import *
from cs231n.layer_utils import *
from cs231n.classifiers.fc_net import FullyConnectedNet
from cs231n.classifiers.cnn import ThreeLayerConvNet
from cs231n import optim

np.random.seed(231)
x, w, b = np.random.randn(4, 3, 9, 9), np.random.randn(5, 3, 3, 3), np.random.randn(5)
conv_param = {"stride": 2, "pad": 1}
naive, cache = conv_forward_naive(x, w, b, conv_param)
fast, fast_cache = conv_forward_fast(x, w, b, conv_param)
dout = np.random.randn(*naive.shape)
numbers = [float(np.abs(naive).sum()), float(np.abs(fast).sum())]
for grads in (conv_backward_naive(dout, cache), conv_backward_fast(dout, fast_cache)):
    numbers += [float(np.abs(g).sum()) for g in grads]
net = FullyConnectedNet([7, 6], input_dim=12, num_classes=4, NET_OPTIONS,
                        weight_scale=0.5, dtype=np.float64)
X, y = np.random.randn(10, 12), np.random.randint(4, size=10)
model = ThreeLayerConvNet((3, 8, 8), 4, 3, 12, weight_scale=0.1, dtype=np.float64)
images, classes = np.random.randn(6, 3, 8, 8), np.random.randint(10, size=6)
for net, data in ((net, (X, y)), (model, (images, classes))):
    for step in range(5):
        loss, grads = net.loss(*data)
        numbers.append(float(loss))
        for name in sorted(net.params):
            net.params[name], _ = optim.sgd(net.params[name], grads[name],
                                            {"learning_rate": 0.05})
print(json.dumps({"numbers": numbers, "from": affine_forward.__module__}))
"""


@pytest.mark.parametrize(
    "year, options",
    [
        (2016, "dropout=0, use_batchnorm=False"),
        (2018, "dropout=1, normalization=None"),
        (2024, "dropout_keep_ratio=1, normalization=None"),
    ],
)
def test_three_ways_to_run_a_notebooks_cells(year, options, tmp_path):
    checkouts.write(tmp_path, year)
    cells = CELLS.replace("NET_OPTIONS", options)
    scripts = {
        "accelerated": "import fastbn\nreport = fastbn.accelerate('cs231n')\n" + cells,
        "ported": cells.replace("cs231n", "fastbn"),
        "untouched": cells,
    }
    # Theirs, with the one thing that was compiled in place.
    scripts["theirs"] = (
        "import fastbn.im2col_cython, sys\n"
        "sys.modules['cs231n.im2col_cython'] = fastbn.im2col_cython\n" + cells
    )
    results = {}
    for name, text in scripts.items():
        (tmp_path / f"{name}.py").write_text(text)
        command = ["-m", "fastbn", "run"] if name == "untouched" else []
        stdout, stderr = python(tmp_path, *command, f"{name}.py")
        assert stderr == ""
        results[name] = json.loads(stdout)
    assert results["theirs"].pop("from") == "cs231n.layers"
    for name in ("accelerated", "ported", "untouched"):
        assert results[name]["from"] == "fastbn.layers._affine"
        np.testing.assert_allclose(
            results[name]["numbers"], results["theirs"]["numbers"], rtol=1e-9
        )
    assert results["accelerated"]["numbers"] == results["untouched"]["numbers"]
