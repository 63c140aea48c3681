"""``fastbn run``: a script runs as Python runs it, on fastbn's functions."""

import json
import os

import checkouts
import pytest
from checkouts import SOLVED, python

SCRIPT = """
import json, sys
from cs231n.layers import affine_forward, relu_forward
import cs231n.layers
import __main__
print(json.dumps({
    "argv": sys.argv, "path": sys.path[0], "name": __name__, "file": __file__,
    "doc": __doc__, "main": vars(__main__) is globals(), "pkg": __package__, "spec": __spec__,
    "affine": affine_forward.__module__, "relu": relu_forward.__module__,
}))
"""


@pytest.fixture
def folder(tmp_path):
    checkouts.write(tmp_path, 2020)
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path


def result_of(stdout):
    result = json.loads(stdout)
    return result, result.pop("affine"), result.pop("relu")


def test_as_python_would(folder):
    (folder / "train.py").write_text('"""What it does."""\n' + SCRIPT)
    ours, err = python(folder, "-m", "fastbn", "run", "train.py", "--verify", "-x", "3")
    assert err == ""
    ours, *swapped = result_of(ours)
    assert swapped == ["fastbn.layers._affine", "fastbn.layers._relu"]
    (folder / "cs231n" / "im2col_cython.py").write_text("")
    plain, _ = python(folder, "train.py", "--verify", "-x", "3")
    plain, *swapped = result_of(plain[plain.index("{") :])
    assert swapped == ["cs231n.layers", "cs231n.layers"]
    assert ours == plain
    assert ours["argv"] == ["train.py", "--verify", "-x", "3"]
    assert ours["path"] == str(folder) and ours["file"] == str(folder / "train.py")


def test_from_another_folder_and_through_a_link(folder, tmp_path):
    (folder / "elsewhere").mkdir()
    os.symlink(folder / "train.py", folder / "elsewhere" / "link.py")
    out, _ = python(folder / "elsewhere", "-m", "fastbn", "run", "link.py")
    result, *swapped = result_of(out)
    assert result["path"] == str(folder) and result["argv"] == ["link.py"]
    assert swapped == ["fastbn.layers._affine", "fastbn.layers._relu"]


def test_a_script_that_finds_the_course_itself(folder):
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "train.py").write_text("import sys\nsys.path.append('.')\n" + SCRIPT)
    out, _ = python(folder, "-m", "fastbn", "run", "notebooks/train.py")
    assert result_of(out)[1] == "fastbn.layers._affine"


def test_a_package_without_an_init(folder):
    (folder / "cs231n" / "__init__.py").unlink()
    out, _ = python(folder, "-m", "fastbn", "run", "train.py")
    assert result_of(out)[1] == "fastbn.layers._affine"


def test_a_package_that_takes_its_own_names(folder):
    (folder / "cs231n" / "__init__.py").write_text("from .layers import *\n")
    (folder / "train.py").write_text("import cs231n\nprint(cs231n.affine_forward.__module__)\n")
    assert python(folder, "-m", "fastbn", "run", "train.py")[0] == "fastbn.layers._affine\n"


@pytest.mark.parametrize(
    "ending, code, out, last",
    [
        ("raise SystemExit(7)", 7, "", ""),
        ("sys.exit('no data')", 1, "", "no data\n"),
        ("import atexit; atexit.register(lambda: print(len(sys.argv)))", 0, "1\n", ""),
        ("raise MemoryError('too much')", 1, "", "MemoryError: too much\n"),
        ("raise KeyboardInterrupt", 130, "", "KeyboardInterrupt\n"),
    ],
)
def test_how_it_ends(ending, code, out, last, folder):
    (folder / "end.py").write_text(f"import sys, cs231n.layers\n{ending}\n")
    stdout, stderr = python(folder, "-m", "fastbn", "run", "end.py", code=code)
    assert stdout == out and stderr.endswith(last) and bool(stderr) == bool(last)


def test_tracebacks_are_the_scripts(folder):
    (folder / "end.py").write_text("def f():\n    raise ValueError('mine')\n\n\nf()\n")
    _, ours = python(folder, "-m", "fastbn", "run", "end.py", code=1)
    assert ours == python(folder, "end.py", code=1)[1]
    assert ours.startswith("Traceback") and ours.endswith("ValueError: mine\n")
    (folder / "end.py").write_text("def f(:\n")
    _, ours = python(folder, "-m", "fastbn", "run", "end.py", code=1)
    assert ours == python(folder, "end.py", code=1)[1]
    assert ours.endswith("SyntaxError: invalid syntax\n")


def test_a_package_of_that_name_that_is_something_else(tmp_path):
    (tmp_path / "cs231n").mkdir()
    (tmp_path / "cs231n" / "__init__.py").write_text("value = 3\n")
    (tmp_path / "script.py").write_text("import cs231n\nprint(cs231n.value)\n")
    assert python(tmp_path, "-m", "fastbn", "run", "script.py") == ("3\n", "")


def test_report_and_verify(folder):
    wrong = SOLVED["affine_forward"].replace(" + b, ", ", ")
    (folder / "cs231n" / "layers.py").unlink()
    (folder / "other").mkdir()
    root = checkouts.write(folder / "other", 2020, package="homework",
                           replace={"affine_forward": wrong})  # fmt: skip
    (root.parent / "train.py").write_text(SCRIPT.replace("cs231n", "homework"))
    options = ["--package", "homework", "--verify", "--report"]
    out, err = python(root.parent, "-m", "fastbn", "run", *options, "train.py", "x")
    result, *swapped = result_of(out)
    assert swapped == ["homework.layers", "fastbn.layers._relu"]
    assert err.startswith("homework: ") and "affine_forward          " in err
    out, err = python(root.parent, "-m", "fastbn", "run", "train.py")
    assert result_of(out)[1] == "homework.layers" and err == ""


@pytest.mark.parametrize(
    "script, message",
    [
        ("none.py", "argument SCRIPT: cannot read 'none.py': No such file or directory"),
        (".", "argument SCRIPT: cannot read '.': Is a directory"),
    ],
)
def test_no_script(script, message, folder):
    out, err = python(folder, "-m", "fastbn", "run", script, code=2)
    assert out == "" and err.endswith(f"{message}\n")


def test_report_says_when_nothing_was_swapped(tmp_path):
    (tmp_path / "script.py").write_text("raise SystemExit(3)\n")
    options = ["-m", "fastbn", "run", "--report"]
    _, err = python(tmp_path, *options, "script.py", code=3)
    assert err == "fastbn: nothing swapped: no course package cs231n or cs682 was imported\n"
    _, err = python(tmp_path, *options, "--package", "homework", "script.py", code=3)
    assert err == "fastbn: nothing swapped: no course package homework was imported\n"
