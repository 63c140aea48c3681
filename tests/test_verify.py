"""``fastbn verify``: the table of a checkout's functions, and the exit code."""

import json
import os

import checkouts
import pytest
from checkouts import SOLVED, python, unsolved

from fastbn._accelerate import _compare
from fastbn._accelerate._groups import GROUPS, OURS


def test_a_right_checkout(tmp_path):
    checkouts.write(tmp_path, 2024, replace={"layernorm_forward": unsolved("layernorm_forward")})
    command = ["-m", "fastbn", "verify", f"cs231n{os.sep}", "--json", "table.json"]
    out, err = python(tmp_path, *command)
    assert err == ""
    lines = out.splitlines()
    folder = os.path.realpath(tmp_path / "cs231n")
    assert lines[0] == f"cs231n: {folder}"
    assert lines[1].startswith("float64, threads ") and lines[2].split() == ["error", "speed-up"]
    assert lines[-2] == "39 agree, 1 not written yet, 5 not compared"
    assert lines[-1] == "wrote table.json"
    table = {line.split()[1]: line.split() for line in lines[3:-2]}
    assert table["conv_forward_naive"][0] == "layers"
    assert float(table["conv_forward_naive"][2]) < 1e-12
    assert table["conv_forward_naive"][3].endswith("x") and len(table["conv_forward_naive"]) == 4
    assert table["layernorm_forward"][2:] == ["not", "written", "yet", "(NotImplementedError)"]
    content = json.loads((tmp_path / "table.json").read_text())
    assert (content["package"], content["folder"]) == ("cs231n", folder)
    rows = {row["name"]: row for row in content["functions"]}
    assert set(rows) == set(table)
    assert rows["layernorm_forward"] == {
        "module": "layers", "name": "layernorm_forward", "found": "unsolved", "error": None,
        "reason": "not written yet (NotImplementedError)", "wrong": False, "seconds": None,
    }  # fmt: skip
    theirs, ours = rows["conv_forward_naive"]["seconds"]
    assert theirs > 0 and ours > 0
    ratio = float(table["conv_forward_naive"][3].removesuffix("x"))
    assert ratio == pytest.approx(theirs / ours, abs=0.06)


def test_a_wrong_function(tmp_path):
    wrong = SOLVED["max_pool_backward_naive"].replace("+=", "=")
    checkouts.write(tmp_path, 2018, package="cs682",
                    replace={"max_pool_backward_naive": wrong})  # fmt: skip
    # One module is enough here, and quicker.
    out, err = python(tmp_path, "-m", "fastbn", "verify", "cs682.layers", code=1)
    line = next(line for line in out.splitlines() if "max_pool_backward_naive" in line)
    assert "differs on overlapping windows: dx by " in line and "x  " not in line.split("naive")[1]
    assert err == "fastbn: error: wrong in cs682.layers: max_pool_backward_naive\n"
    assert out.splitlines()[-1] == "20 agree, 1 differ"


@pytest.mark.parametrize(
    "package, code, message",
    [
        ("cs231n", 2, "argument PACKAGE: target must be a module that can be imported from"),
        ("json", 2, "argument PACKAGE: target must be a course package"),
        ("fastbn", 2, "argument PACKAGE: target must be a course package, not fastbn's own"),
        ("broken", 1, "fastbn: error: broken cannot be imported: ZeroDivisionError: division by"),
    ],
)
def test_no_checkout(package, code, message, tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    out, err = python(tmp_path, "-m", "fastbn", "verify", package, code=code)
    assert out == "" and message in err and "Traceback" not in err


def test_every_function_of_ours_agrees_with_itself_and_takes_time():
    for group in GROUPS:
        verdicts = _compare.compare(group, {name: OURS[name] for name in group.functions})
        assert set(verdicts) == set(group.functions)
        assert {verdict.kind for verdict in verdicts.values()} == {"agrees"}
        assert {verdict.error for verdict in verdicts.values()} == {0}


def test_a_function_that_fails_on_larger_data_has_no_time():
    def relu_forward(x):
        assert x.size < 1000
        return OURS["relu_forward"](x)

    theirs = {"relu_forward": relu_forward, "relu_backward": OURS["relu_backward"]}
    assert _compare.seconds("relu_forward", theirs) is None


def test_a_module_that_cannot_be_imported_is_wrong(tmp_path):
    checkouts.write(tmp_path, 2024, extra={"layers.py": "\ndef broken(:\n"})
    out, err = python(tmp_path, "-m", "fastbn", "verify", "cs231n", code=1)
    lines = [line.split() for line in out.splitlines()]
    assert ["layers", "layers", "cannot", "be", "imported:", "SyntaxError:"] in [
        line[:6] for line in lines
    ]
    assert err == "fastbn: error: wrong in cs231n: layers, layer_utils\n"
    assert out.splitlines()[-1] == "13 agree, 2 raise an error, 2 not compared"


def test_results_that_are_not_finite(tmp_path):
    wrong = SOLVED["relu_forward"].replace("np.maximum(x, 0)", "x * np.nan")
    checkouts.write(tmp_path, 2024, replace={"relu_forward": wrong})
    command = ["-m", "fastbn", "verify", "cs231n.layers", "--json", "table.json"]
    out, _ = python(tmp_path, *command, code=1)
    assert "differs: out is not finite" in out

    def no(constant):
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads((tmp_path / "table.json").read_text(), parse_constant=no)
    rows = {row["name"]: row for row in content["functions"]}
    assert rows["relu_forward"]["error"] is None and rows["relu_forward"]["wrong"]
