"""The dashboard says what the results say, and nothing that they do not."""

import itertools
import json
import math
import os
import sys
import tempfile
from pathlib import Path

import asv_results
import pytest
from asv_results import DAY, Page
from hypothesis import given, settings
from hypothesis import strategies as st

from fastbn import _options
from fastbn._dashboard import _page, _picture, _results, _summary, _words
from fastbn.cli import main

BOTH, FORWARD = "both", "forward"


def conv(small=0.5, large=0.125, dtype="float32", part=BOTH):
    """Two cases; the ratios are fastbn's time in NumPy's."""
    return {(part, dtype, "small"): small, (part, dtype, "large"): large}


def page_of(folder, tmp_path):
    out = tmp_path / "page.html"
    assert main(["dashboard", str(folder), "--out", str(out)]) == 0
    return Page(out.read_text("utf-8"))


@pytest.fixture
def show(tmp_path):
    """Page of some runs."""
    return lambda *runs: page_of(asv_results.write(tmp_path / "results", *runs), tmp_path)


def by_layer(page):
    """Layer and dtype to the cells of the table of layers."""
    rows, found, layer = page.tables[0]["rows"][1:], {}, None
    for row in rows:
        if len(row) == 5:
            layer = row.pop(0)
        found[layer, row[0]] = row[1:]
    return found


# Numbers


def test_means_and_extremes_are_those_of_the_cases(show):
    tracks = {
        "Conv ratio": {
            (BOTH, "float32", "small"): 0.5, (BOTH, "float32", "large"): 0.125,
            (BOTH, "float64", "small"): 0.1, (BOTH, "float64", "large"): 0.1,
        },
        "Conv torch_ratio": {
            (BOTH, "float32", "small"): 0.8, (BOTH, "float32", "large"): 0.2,
            (BOTH, "float64", "small"): 1.6, (BOTH, "float64", "large"): 1.6,
        },
        "Conv limit_share": {
            (BOTH, "float32", "small"): 20.0, (BOTH, "float32", "large"): 80.0,
            (BOTH, "float64", "small"): 99.6, (BOTH, "float64", "large"): 130.2,
        },
    }  # fmt: skip
    page = show(asv_results.run(tracks))
    assert by_layer(page) == {
        ("Conv 2 cases", "float32"): ["4.00× 2.00–8.00×", "2.50× 1.25–5.00×", "40 % 20–80 %"],
        ("Conv 2 cases", "float64"): [
            "10.0× 10.0–10.0×", "0.625× ▼ slower 0.625–0.625×", "114 % 100–130 %",
        ],
    }  # fmt: skip
    assert page.tables[0]["rows"][0] == ["Layer", "dtype", "NumPy", "PyTorch", "Limit"]
    # The large numbers at the top.
    text = page.text
    assert "times as fast as NumPy float32 4.00× 2 cases, 2.00–8.00× slower in none" in text
    assert "float64 0.625× 2 cases, 0.625–0.625× slower in 2 of the machine's limit" in text


def test_every_case_is_shown_the_slower_ones_like_the_others(show):
    ratios = {
        (part, dtype, case): value
        for value, (part, dtype, case) in zip(
            (2.0, 0.999, 1.0, 0.02, 0.0001, 1.25, 0.3, 5.0),
            itertools.product((FORWARD, BOTH), ("float32", "float64"), ("small", "large")),
            strict=True,
        )
    }
    rates = {key: 10.0 * value for key, value in ratios.items()}
    page = show(asv_results.run({"Conv ratio": ratios, "Conv rate": rates}))
    both = "forward and backward"
    assert page.every_case() == [
        ["small float32, forward", "0.500× ▼ slower", "not measured", "not measured 20.0 GFLOP/s"],
        ["large float32, forward", "1.00×", "not measured", "not measured 9.99 GFLOP/s"],
        ["small float64, forward", "1.00×", "not measured", "not measured 10.0 GFLOP/s"],
        ["large float64, forward", "50.0×", "not measured", "not measured 0.200 GFLOP/s"],
        [f"small float32, {both}", "10,000×", "not measured", "not measured 0.00100 GFLOP/s"],
        [f"large float32, {both}", "0.800× ▼ slower", "not measured", "not measured 12.5 GFLOP/s"],
        [f"small float64, {both}", "3.33×", "not measured", "not measured 3.00 GFLOP/s"],
        [f"large float64, {both}", "0.200× ▼ slower", "not measured", "not measured 50.0 GFLOP/s"],
    ]
    # Means are over forward and backward alone; forward has rows of its own.
    assert by_layer(page)["Conv 2 cases", "float32"][0] == "89.4× 0.800–10,000×"


def test_a_training_step_counts_in_no_mean_over_layers(show):
    step = {(BOTH, "float32", "step"): 0.001}
    page = show(asv_results.run({"Conv ratio": conv(), "TrainingStep ratio": step}))
    assert by_layer(page)["TrainingStep 1 case", "float32"][0] == "1,000× 1,000–1,000×"
    rows = page.tables[1]["rows"]
    assert rows[1][:3] == ["best CPU level 1 thread 2 cases", "float32", "4.00× 2.00–8.00×"]
    assert "times as fast as NumPy float32 4.00× 2 cases" in page.text


def test_speedup_serves_where_ratio_is_not(show):
    page = show(asv_results.run({"Conv speedup": conv(2, 8)}))
    assert by_layer(page)["Conv 2 cases", "float32"][0] == "4.00× 2.00–8.00×"
    page = show(asv_results.run({"Conv speedup": conv(3, 3), "Conv ratio": conv()}))
    assert by_layer(page)["Conv 2 cases", "float32"][0] == "4.00× 2.00–8.00×"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1.00×"), (0.9999, "0.999×"), (0.994, "0.994×"), (12.345, "12.3×"), (99.96, "100×"),
        (123.4, "123×"), (999.4, "999×"), (999.5, "1,000×"), (1234.5, "1,234×"),
        (0.0123, "0.0123×"),
    ],
)  # fmt: skip
def test_times(number, text):
    assert _words.times(number) == text


def test_geometric_mean():
    mean = _summary.geometric_mean([2.0, None, 8.0, 0.5])
    assert mean.value == pytest.approx(2) and mean[1:] == (3, 4, 0.5, 8.0, 1)
    assert _summary.geometric_mean([None])[:3] == (None, 0, 1)
    assert _summary.geometric_mean([])[:3] == (None, 0, 0)


# What is not there


def test_no_torch(show):
    tracks = {"Conv ratio": conv(), "Conv torch_ratio": conv(math.nan, math.nan)}
    page = show(asv_results.run(tracks))
    assert by_layer(page)["Conv 2 cases", "float32"][1] == "not measured"
    assert "NumPy 4.00× · no PyTorch" in page.text
    assert [row[2] for row in page.every_case()] == ["not measured"] * 2


def test_torch_for_some_cases_says_for_how_many(show):
    tracks = {"Conv ratio": conv(), "Conv torch_ratio": conv(0.5, math.nan)}
    page = show(asv_results.run(tracks))
    cell = by_layer(page)["Conv 2 cases", "float32"][1]
    assert cell == "2.00× 2.00–2.00× 1 of 2 cases"
    assert "2.00× 1 of 2 cases, 2.00–2.00× slower in none" in page.text


def test_failures_are_not_passed_over(show):
    tracks = {"Conv ratio": conv(None, 0.5), "Conv limit_share": conv(None, 50)}
    data = asv_results.run(tracks)
    # asv shortens a list of failures alone.
    data["results"]["conv.ConvTracks.track_torch_ratio"] = [
        None, [["'both'"], ["'float32'"], ["'small'", "'large'"]], "1",
    ]  # fmt: skip
    page = show(data)
    assert page.every_case() == [
        ["small float32, forward and backward", "failed", "failed", "failed"],
        ["large float32, forward and backward", "2.00×", "failed", "50 % rate not measured"],
    ]
    assert by_layer(page)["Conv 2 cases", "float32"][0] == "2.00× 2.00–2.00× 1 of 2 cases"


@pytest.mark.parametrize(
    "value", ["0.5", [1], {}, True, -1.0, 0, math.inf, -math.inf, math.nan, 1e300, 1e-300, 10**400]
)
def test_what_is_no_ratio_is_not_measured(value, show):
    page = show(asv_results.run({"Conv ratio": conv(value, 0.5), "Conv rate": conv(value, value)}))
    assert [row[1] for row in page.every_case()] == ["not measured", "2.00×"]
    assert by_layer(page)["Conv 2 cases", "float32"][0] == "2.00× 2.00–2.00× 1 of 2 cases"


@pytest.mark.parametrize(
    "row",
    [
        [[1.0], [["'both'"], ["'float32'"], ["'a'", "'b'"]], "1"],  # a result too few
        [[1.0], [["'both'"], ["'float32'"], "ab"], "1"],
        [[1.0], [["'both'"], ["'float32'"], [7]], "1"],
        [[1.0], [["'both'"], ["'float32'"], []], "1"],
        [[1.0], [[str(i) for i in range(999)]] * 5, "1"],  # 10^15 cases
        [[1.0], "both", "1"],
        [[1.0], [], "1"],
        [[1.0]],
        [],
        {},
        "x",
        [{"a": 1}, [["'both'"], ["'float32'"], ["'a'"]], "1"],
        [[1.0], [["'both"], ["'float32'"], ["'a'"]], ["v"], -5, "x", 7, 8, 9],
    ],
)
def test_a_malformed_benchmark_takes_nothing_else_along(row, show):
    data = asv_results.run({"Conv ratio": conv()})
    data["results"]["relu.ReLUTracks.track_ratio"] = row
    page = show(data)
    assert by_layer(page)["Conv 2 cases", "float32"][0] == "4.00× 2.00–8.00×"
    assert not any("nan" in word.lower() for word in page.text.split())


def test_other_parameters_than_ours(show):
    data = asv_results.run({"Conv ratio": conv()})
    data["results"]["relu.ReLUTracks.track_ratio"] = [[0.5, 0.25], [["'a'", "b c"]], "1"]
    page = show(data)
    assert "4.00× 2.00–8.00×" in by_layer(page)["Conv 2 cases", "float32"]
    assert [row[0] for row in page.every_case()][2:] == [
        " dtype not recorded, a", " dtype not recorded, b c",
    ]  # fmt: skip


# Machines, settings, commits


def test_machines_are_apart(show):
    page = show(
        asv_results.run({"Conv ratio": conv(0.5, 0.5)}, machine="old", day=1),
        asv_results.run({"Conv ratio": conv(0.125, 0.125)}, machine="new", day=2),
        asv_results.run({"Conv ratio": conv(0.1, 0.1)}, machine="new", cpu="Other CPU", day=1),
    )
    text = page.text
    places = [text.index(title) for title in ("new · Some CPU", "new · Other CPU", "old · Some")]
    assert places == sorted(places)
    cells = [table["rows"][1][2] for table in page.tables if table["rows"][0][0] == "Layer"]
    assert cells == ["8.00× 8.00–8.00×", "10.0× 10.0–10.0×", "2.00× 2.00–2.00×"]
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert links == ["#notes", "#m0", "#m1", "#m2"] and {link[1:] for link in links} <= {*ids}


def test_levels_and_threads(show):
    page = show(
        *(
            asv_results.run(
                {"Conv ratio": conv(1 / n, 1 / n), "Conv torch_ratio": conv(2 / n, 2 / n)},
                env={"FASTBN_NUM_THREADS": threads, **({"FASTBN_ISA": level} if level else {})},
                level=4,
            )
            for n, (level, threads) in enumerate(
                itertools.product(("v4", "v2"), ("10", "9", "1")), 1
            )
        )
    )
    rows = page.tables[1]["rows"]
    assert [row[0] for row in rows[1:]] == [
        f"{level} {threads} 2 cases"
        for level in ("v2 SSE4.2", "v4 AVX-512")
        for threads in ("1 thread", "9 threads", "10 threads")
    ]
    assert [row[2].split()[0] for row in rows[1:]] == [
        "6.00×", "5.00×", "4.00×", "3.00×", "2.00×", "1.00×",
    ]  # fmt: skip
    # The best level and the most threads are what the page begins with.
    assert "Setting: v4 (AVX-512), 10 threads." in page.text
    assert by_layer(page)["Conv 2 cases", "float32"][0] == "1.00× 1.00–1.00×"
    levels, threads, layer = page.table("How many times as fast as PyTorch, float32.")
    assert levels == ["CPU level", "v2 SSE4.2", "v4 AVX-512"]
    assert threads == ["threads", "1", "9", "10", "1", "9", "10"]
    assert layer == [
        "Conv", "3.00", "2.50", "2.00", "1.50", "1.00", "0.500 ▼ slower",
    ]  # fmt: skip
    assert "Per cent of the machine's limit, float32: not measured." in page.text


def test_a_level_that_the_machine_lacks_is_not_what_the_page_begins_with(show):
    def run(level, ratio):
        tracks = {"Conv ratio": conv(ratio, ratio)}
        return asv_results.run(tracks, env={"FASTBN_NUM_THREADS": "1", "FASTBN_ISA": level})

    page = show(run("v2", 0.5), run("v3", 0.25), run("v4", math.nan))
    assert "Setting: v3 (AVX2), 1 thread." in page.text
    assert by_layer(page)["Conv 2 cases", "float32"][0] == "4.00× 4.00–4.00×"
    assert page.tables[1]["rows"][-1][0] == "v4 AVX-512 1 thread 2 cases"


def test_a_dash_says_what_it_is(show):
    ratios, torch = {"Conv ratio": conv(), "BatchNorm ratio": conv()}, {"Conv torch_ratio": conv()}
    page = show(
        *(asv_results.run(ratios | torch, env={"FASTBN_NUM_THREADS": n}) for n in ("1", "2"))
    )
    rows = page.table("How many times as fast as PyTorch, float32. A dash: not measured.")
    assert rows[2:] == [["BatchNorm", *["– not measured"] * 2], ["Conv", "4.00", "4.00"]]
    assert page.table("How many times as fast as NumPy, float32.")[2:] == [
        ["BatchNorm", "4.00", "4.00"], ["Conv", "4.00", "4.00"],
    ]  # fmt: skip


def test_a_level_that_nobody_set(show):
    page = show(asv_results.run({"Conv ratio": conv()}, env={}, level=3))
    assert "Setting: v3 (AVX2), threads not set." in page.text
    page = show(asv_results.run({"Conv ratio": conv()}, env={}, level=math.nan))
    assert "Setting: best CPU level, threads not set." in page.text


def test_settings_that_differ_in_a_version_alone_are_not_mixed(show):
    page = show(
        asv_results.run({"Conv ratio": conv(0.5, 0.5)}, req={"numpy": "1.26"}),
        asv_results.run({"Conv ratio": conv(0.25, 0.25)}, req={"numpy": "2.4"}),
    )
    rows = page.tables[1]["rows"][1:]
    assert [row[0] for row in rows] == [
        "best CPU level 1 thread, numpy 1.26 2 cases", "best CPU level 1 thread, numpy 2.4 2 cases",
    ]  # fmt: skip
    assert [row[2].split()[0] for row in rows] == ["2.00×", "4.00×"]


def test_history(show):
    old = {**conv(0.5, 0.5), (BOTH, "float32", "gone"): 0.001}
    page = show(
        asv_results.run({"Conv ratio": conv(0.1, 0.1)}, commit="c" * 40, day=3),
        asv_results.run({"Conv ratio": old}, commit="a" * 40, day=1),
        asv_results.run({"Conv ratio": conv(0.2, 0.05)}, commit="b" * 40, day=2),
    )
    rows = page.table("Setting: best CPU level, 1 thread. All dtypes")[1:]
    assert [row[0] for row in rows] == [
        "cccccccc 1970-01-04", "bbbbbbbb 1970-01-03", "aaaaaaaa 1970-01-02",
    ]  # fmt: skip
    assert [row[-1] for row in rows] == ["this is the newest", "1.00× 2 cases", "5.00× 2 cases"]
    assert rows[2][1] == "15.9× 2.00–1,000×"  # of the commit itself, with all its cases
    (course,) = page.table("Each layer from the oldest")[1:]
    assert course == ["Conv", "", "5.00× 2 cases since aaaaaaaa"]
    assert page.tags.count("polyline") == 1


def test_history_compares_no_benchmark_with_another_version_of_it(show):
    page = show(
        asv_results.run({"Conv ratio": conv()}, commit="b" * 40, day=2, version="2"),
        asv_results.run({"Conv ratio": conv()}, commit="a" * 40, day=1, version="1"),
    )
    assert page.table("Setting: best CPU level, 1 thread. All")[2][-1] == "no case in common"
    assert page.table("Each layer from the oldest")[1:] == [["Conv", "nothing to compare"]]


def test_what_the_newest_commit_has_not_measured_is_not_left_out(show):
    page = show(
        asv_results.run({"Conv ratio": conv()}, commit="b" * 40, day=2),
        asv_results.run({"BatchNorm ratio": conv(dtype="float64")}, day=1),
    )
    missing = ["not measured"] * 3
    assert by_layer(page) == {
        ("BatchNorm 0 cases", "float32"): missing,
        ("BatchNorm 0 cases", "float64"): missing,
        ("Conv 2 cases", "float32"): ["4.00× 2.00–8.00×", *missing[1:]],
        ("Conv 2 cases", "float64"): missing,
    }
    assert page.table("Each layer from the oldest")[1:] == [
        ["BatchNorm", "nothing to compare"], ["Conv", "nothing to compare"],
    ]  # fmt: skip


def test_one_commit_has_no_history(show):
    assert "History" not in show(asv_results.run({"Conv ratio": conv()})).text


def test_facts(show):
    page = show(asv_results.run({"Conv ratio": conv()}, req={"numpy": "2.4", "torch": ""}, day=365))
    facts = dict(page.table("What was measured where"))
    assert facts == {
        "Machine": "vm", "Processor": "Some CPU, x86_64", "Cores": "2", "Memory": "8.0 GiB",
        "System": "Linux 6.1", "Commit": f"{'a' * 40} of 1971-01-01", "Measured": "1971-01-01",
        "CPU levels": "best CPU level", "Threads": "1 thread", "Python": "3.11", "numpy": "2.4",
        "Versions not recorded": "torch",
    }  # fmt: skip
    data = asv_results.run({"Conv ratio": conv()}, req={})
    page = show({**data, "python": "/home/someone/venv/bin/python3.12", "date": 10**18})
    assert dict(page.table("What was measured where"))["Python"] == "python3.12"
    assert "someone" not in page.content and "of date not recorded" in page.text


def test_notes_say_what_the_sides_are(show):
    text = show(asv_results.run({"Conv ratio": conv()})).text
    for words in ("plain vectorised NumPy", "CPU build", "measured in the same run", "geometric"):
        assert words in text


# The page as a page


def test_nothing_is_loaded(show):
    page = show(
        asv_results.run({"Conv ratio": conv()}, commit="b" * 40, day=2),
        asv_results.run({"Conv ratio": conv()}, day=1),
    )
    assert not {"script", "img", "iframe", "object", "embed", "base", "form"} & {*page.tags}
    for tag, name, value in page.attributes:
        assert not name.startswith("on") and name != "style"
        if name in ("href", "src", "srcset", "action", "data", "poster", "xlink:href"):
            assert value.startswith("#") or (tag, value) == ("link", "data:,")
        assert "http:" not in value and "https:" not in value and "url(" not in value
    style = page.content.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style and "//" not in style
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert ("meta", "content", policy) in page.attributes


def test_screen_readers_find_their_way(show):
    page = show(
        asv_results.run({"Conv ratio": conv(), "BatchNorm ratio": conv()}, commit="b" * 40, day=2),
        asv_results.run({"Conv ratio": conv()}, day=1),
    )
    assert ("html", "lang", "en") in page.attributes
    assert all(table["caption"] for table in page.tables)
    assert all("scope" in head for table in page.tables for head in table["heads"])
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len({*ids})
    named = [value for tag, name, value in page.attributes if name == "aria-labelledby"]
    assert named and {*" ".join(named).split()} <= {*ids}
    images = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "role")]
    assert page.tags.count("title") == 1 + len(images)  # of the page, and of every drawing
    assert "Geometric means. BatchNorm: NumPy 4.00×, no PyTorch; Conv: NumPy 4.00×" in page.text
    assert page.tags.count("h1") == 1


HOSTILE = "</style><script>alert(1)</script>\"'><img src=http://evil.example/x onerror=a()>&lt;b"


def test_names_are_no_markup(show):
    tracks = {"Conv ratio": conv() | {(BOTH, "float32", HOSTILE): 0.5}}
    data = asv_results.run(
        tracks, machine=HOSTILE, cpu=HOSTILE, req={HOSTILE: HOSTILE},
        env={"FASTBN_ISA": HOSTILE, "FASTBN_NUM_THREADS": HOSTILE}, version=HOSTILE,
    )  # fmt: skip
    data["params"].update(os=HOSTILE, ram=HOSTILE, arch=HOSTILE, num_cpu=HOSTILE)
    page = show(data)
    assert not {"script", "img", "b"} & {*page.tags}
    assert not [name for _, name, _ in page.attributes if name.startswith(("on", "src"))]
    assert page.text.count(HOSTILE) > 10
    assert page.tags.count("style") == 1


def test_names_that_no_page_can_hold(show, tmp_path):
    odd = "a\0b\x1b[31m\ud800\ufffe\u202e" + "x" * 10_000
    tracks = {"Conv ratio": {(BOTH, "float32", odd): 0.5}}
    page = show(asv_results.run(tracks, cpu=odd, env={odd: odd}))
    assert "a\ufffdb\ufffd[31m\ufffd\ufffd" in page.text and "x" * 200 not in page.text
    assert not {*"\0\x1b\ud800\ufffe\u202e"} & {*page.content}


# Files


def test_a_folder_a_machine_or_a_file(tmp_path):
    results = asv_results.write(
        tmp_path / "results", asv_results.run({"Conv ratio": conv(), "Conv rate": conv()})
    )
    (file,) = results.glob("vm/a*.json")
    pages = [page_of(place, tmp_path).content for place in (results, results / "vm", file)]
    assert pages[0] == pages[1] == pages[2] and "GFLOP/s" in pages[0]
    (results / "benchmarks.json").unlink()  # no units, and the parameters in our order
    assert "2.00×" in page_of(file, tmp_path).content


def test_default_name_of_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asv_results.write(tmp_path / "results", asv_results.run({"Conv ratio": conv()}))
    assert main(["dashboard", "results"]) == 0
    assert capsys.readouterr().out == "wrote dashboard.html\n"
    assert (tmp_path / "dashboard.html").read_bytes().startswith(b"<!DOCTYPE html>\n<html lang")


def refused(path, tmp_path, capsys):
    """The one line that says why there is no page."""
    out = tmp_path / "page.html"
    assert main(["dashboard", str(path), "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1 and not out.exists()
    assert said.err.startswith("fastbn: error: ")
    return said.err


GOOD = asv_results.run({"Conv ratio": conv()})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no JSON"),
        (json.dumps(GOOD)[:500], "is no JSON"),
        (b"\xff\xfe\0", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("9" * 10_000, "is no JSON"),
        ("[1, 2]", "holds no JSON object"),
        ("null", "holds no JSON object"),
        (json.dumps({**GOOD, "version": 1}), "is of version 1 of asv's format; this reads 2"),
        (json.dumps({**GOOD, "version": "2"}), "is of version 2"),
        (json.dumps({**GOOD, "version": [2]}), "is of version"),
        ("{}", "is of version"),
        (json.dumps({**GOOD, "result_columns": None}), "no result_columns"),
        (json.dumps({**GOOD, "result_columns": ["params"]}), "no result_columns"),
        (json.dumps({**GOOD, "results": []}), "results is no JSON object"),
        (json.dumps({**GOOD, "params": "x"}), "params is no JSON object"),
        (json.dumps({**GOOD, "env_vars": 3}), "env_vars is no JSON object"),
        (json.dumps({**GOOD, "commit_hash": None}), "has no commit_hash"),
        (json.dumps({**GOOD, "commit_hash": "../../x"}), "has no commit_hash: ../../x"),
        (json.dumps({**GOOD, "results": {}}), "no benchmark of fastbn's layers"),
        (json.dumps({**GOOD, "results": {"a.B.time_c": [[1], [], "v"]}}), "no benchmark of fastbn"),
    ],
)
def test_files_that_are_no_results(content, message, tmp_path, capsys):
    file = tmp_path / "results.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in refused(file, tmp_path, capsys)


def test_places_without_results(tmp_path, capsys):
    assert "no such folder or file" in refused(tmp_path / "nowhere", tmp_path, capsys)
    assert "no asv results in" in refused(tmp_path, tmp_path, capsys)
    (tmp_path / "vm").mkdir()
    (tmp_path / "vm" / "a.json").write_text(json.dumps(GOOD))  # no machine.json
    assert "no asv results in" in refused(tmp_path, tmp_path, capsys)
    assert "is not a regular file" in refused(os.devnull, tmp_path, capsys)


def test_a_file_of_too_many_cases_is_not_read(tmp_path, capsys):
    data = asv_results.run({"Conv ratio": conv()})
    row = [None, [[str(i) for i in range(20)]] * 3, "1"]  # 8000 cases in 300 bytes
    data["results"]["a.ATracks.track_ratio"] = row
    folder = asv_results.write(tmp_path / "results", data)
    assert len(_results.read(str(folder)).runs[0].values) == 8002
    data["results"]["b.BTracks.track_ratio"] = row
    asv_results.write(tmp_path / "results", data)
    assert "has more than 10000 cases" in refused(folder, tmp_path, capsys)


def test_a_file_too_large_is_not_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_results, "_MOST_BYTES", 500)
    folder = asv_results.write(tmp_path / "results", GOOD)
    assert "is larger than" in refused(folder, tmp_path, capsys)


_WORDS = ["'both'", "both", "conv.ConvTracks.track_ratio", "v4", 1e308, 253_402_300_799_999]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(_WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def places(value, path=()):
    """Paths to everything in a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else ()
    for key, below in enumerate(value) if isinstance(value, list) else inner:
        yield from places(below, (*path, key))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*places(GOOD)][1:]), JSON), min_size=1, max_size=3))
def test_whatever_a_file_holds_there_is_a_page_or_one_clear_error(changes):
    data = json.loads(json.dumps(GOOD))
    for path, value in changes:
        place = data
        for key in path[:-1]:
            inside = isinstance(place, dict) and key in place
            inside |= isinstance(place, list) and isinstance(key, int) and key < len(place)
            place = place[key] if inside else None
        if isinstance(place, dict) or (isinstance(place, list) and path[-1] in range(len(place))):
            place[path[-1]] = value
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "results.json")
        file.write_text(json.dumps(data))
        try:
            results = _results.read(str(file))
        except _options.UserError as error:
            assert len(str(error).splitlines()) == 1
            return
    page = Page(_page.page(results).decode())
    assert not page.open and len(page.every_case()) >= 1


def test_a_bad_file_among_good_ones_is_named(tmp_path, capsys):
    folder = asv_results.write(tmp_path / "results", GOOD)
    (folder / "vm" / "bad.json").write_text("{")
    page = page_of(folder, tmp_path)
    assert capsys.readouterr().err.startswith("fastbn: left out: bad.json: is no JSON")
    assert "bad.json: is no JSON" in page.text
    assert by_layer(page)["Conv 2 cases", "float32"][0] == "4.00× 2.00–8.00×"


@pytest.mark.parametrize("content", ["{", "[]", '{"conv.ConvTracks.track_rate": 3}'])
def test_a_bad_description_of_the_benchmarks(content, tmp_path):
    folder = asv_results.write(tmp_path / "results", GOOD)
    (folder / "benchmarks.json").write_text(content)
    assert by_layer(page_of(folder, tmp_path))["Conv 2 cases", "float32"][0] == "4.00× 2.00–8.00×"


def test_an_old_page_is_kept_if_the_new_cannot_be_made(tmp_path, capsys):
    out = tmp_path / "page.html"
    out.write_text("old")
    assert main(["dashboard", str(tmp_path / "nowhere"), "--out", str(out)]) == 1
    assert out.read_text() == "old"
    folder = asv_results.write(tmp_path / "results", GOOD)
    assert main(["dashboard", str(folder), "--out", str(tmp_path / "no" / "page.html")]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_what_asv_writes_is_read_as_asv_reads_it(tmp_path):
    results = pytest.importorskip("asv.results")
    runner = pytest.importorskip("asv.runner")
    params = [["'forward'", "'both'"], ["'float32'"], ["'small'", "'large'"]]
    name = "conv.ConvTracks.track_ratio"
    machine = {key: GOOD["params"][key] for key in ("machine", "cpu", "arch", "num_cpu", "ram")}
    written = results.Results(
        machine, {"numpy": ""}, "ab" * 20, 20_000 * DAY, "3.11", "env", {"FASTBN_ISA": "v2"}
    )
    values = [0.5, math.nan, 0.25, None]
    none = [None] * 4
    written.add_result(
        {"name": name, "version": "1", "params": params},
        runner.BenchmarkResult(values, none, none, 0, "", None),
        record_samples=True,
    )
    written.save(str(tmp_path))
    (file,) = tmp_path.glob("vm/*.json")
    (run,) = _results.read(str(file)).runs
    theirs = results.Results.load(str(file)).get_result_value(name, params)
    ours = [
        run.values[_results.Case("Conv", case, "float32", part)].get("ratio", math.nan)
        for part, case in itertools.product((FORWARD, BOTH), ("small", "large"))
    ]
    assert str(ours) == str(theirs) == str(values)
    assert run.setting.level == "v2" and run.commit == "ab" * 20 and run.date == 20_000 * DAY


# The picture


def drawn(*runs, tmp_path, dtype="float32"):
    folder = asv_results.write(tmp_path / "results", *runs)
    on = _summary.by_machine(_results.read(str(folder)).runs)[0]
    return _picture.means(on, dtype), _picture.draw(on, dtype)


def test_bars_of_the_picture(tmp_path):
    tracks = {
        "Conv ratio": conv(0.5, 0.125),
        "Conv torch_ratio": conv(0.25, 4.0),
        "BatchNorm ratio": conv(2.0, 8.0),
        "BatchNorm torch_ratio": conv(0.5, math.nan),
    }
    means, figure = drawn(asv_results.run(tracks, cpu="A $\\frac CPU$"), tmp_path=tmp_path)
    assert {layer: (a.value, b.value) for layer, (a, b) in means.items()} == {
        "BatchNorm": pytest.approx((0.25, 0.25)),
        "Conv": pytest.approx((4.0, 4.0)),  # PyTorch is 1/2 and 32 times as fast as NumPy
    }
    (axes,) = figure.axes
    widths = [round(bar.get_width(), 6) for bar in axes.patches]
    assert widths == [-0.75, 3, -0.75, 3]
    assert [text.get_text() for text in axes.texts] == [
        "0.250×", "4.00×", "0.250× (1 of 2 cases)", "4.00×",
    ]  # fmt: skip
    title, facts = figure.get_suptitle(), axes.get_xlabel()
    assert "NumPy = 1" in title and "float32" in title
    for words in ("4 cases", r"A \$\frac CPU\$", "best CPU level, 1 thread", "commit aaaaaaaa"):
        assert words in " ".join(facts.split())


def test_picture_without_torch(tmp_path):
    _, figure = drawn(asv_results.run({"Conv ratio": conv()}), tmp_path=tmp_path)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["4.00×", "PyTorch not measured"]


@pytest.mark.parametrize(("suffix", "start"), [("svg", b"<?xml"), ("PNG", b"\x89PNG\r\n")])
def test_the_picture_is_written(suffix, start, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asv_results.write(
        tmp_path / "results", GOOD, asv_results.run({"Conv ratio": conv()}, machine="vm2", day=9)
    )
    arguments = ["dashboard", "results", "--picture"]
    assert main([*arguments, f"a.{suffix}"]) == main([*arguments, f"b.{suffix}"]) == 0
    said = capsys.readouterr()
    assert said.out == f"wrote a.{suffix}\nwrote b.{suffix}\n"
    assert "the picture is of vm, which has the newest commit" in said.err
    a, b = (tmp_path / f"{name}.{suffix}" for name in "ab")
    assert a.read_bytes() == b.read_bytes() and a.read_bytes().startswith(start)
    assert not (tmp_path / "dashboard.html").exists()
    assert main([*arguments, f"a.{suffix}", "--out", "page.html"]) == 0
    assert (tmp_path / "page.html").exists()


@pytest.mark.parametrize("name", ["", "a", "a.pdf", ".svg"])
def test_picture_of_another_kind(name, tmp_path, capsys):
    folder = asv_results.write(tmp_path / "results", GOOD)
    with pytest.raises(SystemExit, match="2"):
        main(["dashboard", str(folder), "--picture", name])
    assert f"--picture: must end in .svg or .png; got {name!r}" in capsys.readouterr().err


def test_picture_that_cannot_be(tmp_path, capsys, monkeypatch):
    folder, out = asv_results.write(tmp_path / "results", GOOD), tmp_path / "a.svg"
    arguments = ["dashboard", str(folder), "--picture", str(out)]
    assert main([*arguments, "--dtype", "float64", "--out", str(tmp_path / "page.html")]) == 1
    assert "no float64 was measured" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(arguments) == 1
    assert "--picture needs matplotlib: pip install 'fastbn[train]'" in capsys.readouterr().err
    assert not out.exists() and not (tmp_path / "page.html").exists()
    assert main(["dashboard", str(folder), "--out", str(tmp_path / "page.html")]) == 0
