"""``%load_ext fastbn`` in IPython, with ``%autoreload 2``. Cells run in a process of their own."""

import textwrap

import checkouts
import pytest
from checkouts import SOLVED, python, unsolved

CELLS = """
import os, sys, time
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance(colors="nocolor", history_length=0)
shell.user_ns["exit_code"] = 0
later = 100

def cell(text):
    result = shell.run_cell(text)
    if not result.success:
        raise SystemExit(f"failed: {text}")

def edit(name, before, after):
    "Change a file, as an editor does between two cells."
    global later
    path = Path("cs231n", name)
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    later += 100  # files change within the clock's resolution here
    os.utime(path, (time.time() + later,) * 2)

def home(*names):
    "Where functions come from: in the notebook, in layers and in cnn."
    for name in names:
        there = (shell.user_ns[name], vars(sys.modules["cs231n.layers"])[name],
                 vars(sys.modules["cs231n.classifiers.cnn"])[name])
        print(name, *(function.__module__.split(".")[0] for function in there))

"""

IMPORTS = """
cell("from cs231n.classifiers.cnn import *")
cell("from cs231n.layers import *")
"""

ORDERS = {
    "fastbn first": 'cell("%load_ext fastbn")\ncell("%load_ext autoreload\\n%autoreload 2")\n',
    "fastbn last": 'cell("%load_ext autoreload\\n%autoreload 2")\ncell("%load_ext fastbn")\n',
}


def notebook(folder, text):
    (folder / "cells.py").write_text(CELLS + textwrap.dedent(text))
    stdout, stderr = python(folder, "cells.py", IPYTHONDIR=str(folder / "ipython"))
    assert stderr == ""
    return stdout.splitlines()


@pytest.mark.parametrize("order", ORDERS)
def test_swaps_survive_autoreload(order, tmp_path):
    checkouts.write(tmp_path, 2024, replace={"svm_loss": unsolved("svm_loss")})
    lines = notebook(
        tmp_path,
        ORDERS[order]
        + IMPORTS
        + r"""
home("relu_forward", "affine_forward", "svm_loss")
# A function's body changes: autoreload gives the function object new code.
edit("layers.py", "np.maximum(x, 0), x", "np.maximum(x, 5.), x")
cell("print(relu_forward(np.zeros(2))[0])")
home("relu_forward", "affine_forward")
edit("layers.py", "np.maximum(x, 5.), x", "np.maximum(x, 0), x")
cell("print(relu_forward(np.zeros(2))[0])")
home("relu_forward")
# A function is written.
edit("layers.py", "raise NotImplementedError", SOLUTION)
cell("print(svm_loss(np.array([[1., 3.]]), np.array([1]))[0])")
home("svm_loss")
# Something else changes: autoreload runs the module again.
edit("layers.py", "import numpy as np\n", "import numpy as np\n\nprint('again')\n")
cell("print(relu_forward(np.ones(2))[0])")
home("relu_forward", "affine_forward")
# Both at once, and back: the notebook holds an older function object with the new code.
edit("layers.py", "np.maximum(x, 0), x", "np.maximum(x, 5.), x")
edit("layers.py", "again", "once more")
cell("print(relu_forward(np.ones(2))[0])")
edit("layers.py", "np.maximum(x, 5.), x", "np.maximum(x, 0), x")
edit("layers.py", "once more", "and back")
cell("print(relu_forward(np.ones(2))[0])")
home("relu_forward")
import fastbn
print(fastbn.layers.relu_forward.__code__.co_filename.endswith("_relu.py"))
cell("%unload_ext fastbn")
home("relu_forward", "svm_loss")
""".replace("SOLUTION", repr("return max(0., x[0, 0] - x[0, 1] + 1), x")),
    )
    lines = [line for line in lines if not line.startswith("  ")]
    assert lines.pop(0).startswith("fastbn: cs231n: 46 functions swapped, ")
    assert lines == [
        "relu_forward fastbn fastbn fastbn",
        "affine_forward fastbn fastbn fastbn",
        "svm_loss cs231n cs231n cs231n",
        "[5. 5.]",
        "relu_forward cs231n cs231n cs231n",
        "affine_forward fastbn fastbn fastbn",
        "[0. 0.]",
        "relu_forward fastbn fastbn fastbn",
        "0.0",
        "svm_loss cs231n cs231n cs231n",
        "again",
        "[1. 1.]",
        "relu_forward fastbn fastbn fastbn",
        "affine_forward fastbn fastbn fastbn",
        "once more",
        "[5. 5.]",
        "and back",
        "[1. 1.]",
        "relu_forward fastbn fastbn fastbn",
        "True",
        "relu_forward cs231n cs231n cs231n",
        "svm_loss cs231n cs231n cs231n",
    ]


def test_a_reload_in_the_middle_of_a_cell(tmp_path):
    checkouts.write(tmp_path, 2024)
    lines = notebook(
        tmp_path,
        """
cell("%load_ext autoreload\\n%load_ext fastbn")
cell("%autoreload 2")
"""
        + IMPORTS
        + """
cell("%autoreload 0")
edit("layers.py", "np.maximum(x, 0), x", "np.maximum(x, 0) + 0 * x, x")
cell("%autoreload now")
import fastbn, numpy as np
print(fastbn.layers.relu_forward(np.ones(1))[0])
home("relu_forward", "affine_forward")
cell("%unload_ext fastbn")
home("relu_forward")
import dis
code = dis.Bytecode(shell.user_ns["relu_forward"]).dis()
print("maximum" in code, "*" in code)
""",
    )
    # The new definition came from the file, and fastbn's own function is what it was.
    assert [line for line in lines if not line.startswith(("  ", "fastbn:"))] == [
        "[1.]",
        "relu_forward fastbn fastbn fastbn",
        "affine_forward fastbn fastbn fastbn",
        "relu_forward cs231n cs231n cs231n",
        "True True",
    ]


def test_load_ext_says_what_is_left(tmp_path):
    wrong = SOLVED["affine_forward"].replace(" + b, ", ", ")
    checkouts.write(tmp_path, 2018, package="cs682", replace={"affine_forward": wrong})
    lines = notebook(
        tmp_path,
        """
cell("import cs682.layers")
cell("%load_ext fastbn")
""",
    )
    assert lines[0] == "please compile the extension" or lines[0].startswith("fastbn: cs682: ")
    assert any(line.startswith("  affine_forward: differs: out by ") for line in lines)


def test_accelerate_in_a_cell_shows_a_table_and_follows(tmp_path):
    checkouts.write(tmp_path, 2024)
    lines = notebook(
        tmp_path,
        """
cell("%load_ext autoreload\\n%autoreload 2")
"""
        + IMPORTS
        + """
cell("import fastbn\\nreport = fastbn.accelerate('cs231n')")
cell("print(report._repr_html_().count('<tr>') > 4)")
edit("layers.py", "np.maximum(x, 0), x", "np.maximum(x, 0) + 0, x")
cell("pass")
home("relu_forward")
cell("report.undo()")
home("relu_forward")
""",
    )
    assert lines[-3:] == [
        "True",
        "relu_forward fastbn fastbn fastbn",
        "relu_forward cs231n cs231n cs231n",
    ]


def test_a_module_that_could_not_be_imported_at_first(tmp_path):
    checkouts.write(tmp_path, 2024, extra={"layers.py": "\nvalue = 1 / 0\n"})
    lines = notebook(
        tmp_path,
        """
cell("%load_ext fastbn")
cell("import cs231n")
edit("layers.py", "1 / 0", "1")
"""
        + IMPORTS
        + """
home("relu_forward", "affine_forward")
cell("%unload_ext fastbn")
home("relu_forward")
""",
    )
    assert "  layers: cannot be imported: ZeroDivisionError: division by zero" in lines
    assert lines[-3:] == [
        "relu_forward fastbn fastbn fastbn",
        "affine_forward fastbn fastbn fastbn",
        "relu_forward cs231n cs231n cs231n",
    ]
