"""The published asv site in a browser: what it shows, and that it loads nothing from outside.

A small history with a regression in it, published by ``asv_bench/publish.py`` and opened in
Chromium. Needs the ``browser`` extra, and chromium, chromedriver and npm from the system.
"""

import contextlib
import datetime
import functools
import http.server
import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import browser as chromium
import pytest
from selenium.webdriver.support.wait import WebDriverWait

SUITE = Path(__file__).parents[1] / "asv_bench"
RATIO = "layernorm.LayerNormTracks.track_ratio"
SPEEDUP = "layernorm.LayerNormTracks.track_speedup"
#: fastbn's share of NumPy's time by commit: the sixth makes it twice as slow.
RATIOS = [0.2, 0.2, 0.201, 0.2, 0.2, 0.4, 0.4, 0.401, 0.4, 0.4]


def _publish_module():
    spec = importlib.util.spec_from_file_location("publish", SUITE / "publish.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


publish = _publish_module()


def _history(folder):
    """A repository with a commit a day; their hashes."""
    git = functools.partial(subprocess.run, cwd=folder, check=True, capture_output=True, text=True)
    git(["git", "init", "--quiet", "--initial-branch=main", "."])
    hashes = []
    for day in range(1, len(RATIOS) + 1):
        who = {
            f"GIT_{role}_{key}": value
            for role in ("AUTHOR", "COMMITTER")
            for key, value in (
                ("NAME", "A"), ("EMAIL", "a@example.org"), ("DATE", f"2026-01-{day:02}T12:00:00Z"),
            )
        }  # fmt: skip
        git(
            ["git", "commit", "--quiet", "--allow-empty", "-m", f"Commit {day}"],
            env={**os.environ, **who},
        )
        hashes.append(git(["git", "rev-parse", "HEAD"]).stdout.strip())
    return hashes


def _results(config, hashes, benchmarks):
    """Result files, as `asv run` writes them."""
    from asv.results import Results
    from asv.runner import BenchmarkResult

    machine = {"machine": "machine", "os": "Linux", "arch": "x86_64", "cpu": "CPU", "ram": "8GB"}
    folder = Path(config["results_dir"])
    (folder / "machine").mkdir(parents=True)
    (folder / "machine" / "machine.json").write_text(json.dumps({**machine, "version": 1}))
    (folder / "benchmarks.json").write_text(json.dumps({**benchmarks, "version": 2}))
    when = datetime.datetime(2026, 2, 1, tzinfo=datetime.UTC)
    for threads in ("1", "2"):
        for day, (commit, ratio) in enumerate(zip(hashes, RATIOS, strict=True), start=1):
            if threads == "1":
                ratio = RATIOS[0]  # the regression is one of two threads
            date = datetime.datetime(2026, 1, day, 12, tzinfo=datetime.UTC)
            results = Results(
                {**machine, "python": "3.11"},
                {},
                commit,
                int(1000 * date.timestamp()),
                "3.11",
                f"virtualenv-py3.11-FASTBN_NUM_THREADS{threads}",
                {"FASTBN_NUM_THREADS": threads},
            )
            # The speed-up doubles with the ratio, which it never does: asv would take that for a
            # regression, too, were it not told.
            for name, value in ((RATIO, ratio), (SPEEDUP, 25 * ratio)):
                benchmark = benchmarks[name]
                count = 1
                for values in benchmark["params"]:
                    count *= len(values)
                values = [value] * count
                nothing = [None] * count
                result = BenchmarkResult(values, nothing, nothing, 0, "", None)
                results.add_result(benchmark, result, started_at=when, duration=1.0)
            results.save(config["results_dir"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a published site."""
    import asv.util

    folder = tmp_path_factory.mktemp("site")
    (folder / "repo").mkdir()
    found = folder / "found.json"
    subprocess.run(
        [sys.executable, "-m", "asv.benchmark", "discover", str(SUITE / "benchmarks"), str(found)],
        cwd=folder,
        check=True,
    )
    benchmarks = {
        benchmark["name"]: benchmark
        for benchmark in json.loads(found.read_text())
        if benchmark["name"] in (RATIO, SPEEDUP)
    }
    config = asv.util.load_json(str(SUITE / "asv.conf.json"), js_comments=True)
    config |= {"repo": str(folder / "repo"), "branches": ["main"]}
    config |= {"results_dir": str(folder / "results"), "html_dir": str(folder / "html")}
    path = folder / "asv.conf.json"
    path.write_text(json.dumps(config))
    _results(config, _history(folder / "repo"), benchmarks)
    assert publish.main(["--config", str(path)]) == 0
    return folder / "html"


@contextlib.contextmanager
def served(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium.started(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@contextlib.contextmanager
def opened(driver, address):
    """Open a page; afterwards nothing was loaded from elsewhere and the console is empty."""
    driver.get("about:blank")
    chromium.requests(driver), driver.get_log("browser")  # of the page before
    driver.get(address)
    yield WebDriverWait(driver, 60)
    asked = chromium.requests(driver)
    root = address.partition("#")[0]
    assert asked and [url for url in asked if not url.startswith((root, "data:"))] == []
    assert [entry["message"] for entry in driver.get_log("browser")] == []


def drawn(driver, selector):
    """Pixels of the first canvas that are neither transparent nor white."""
    return driver.execute_script(
        """
        const canvas = document.querySelector(arguments[0]);
        if (!canvas || !canvas.width) return 0;
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let count = 0;
        for (let i = 0; i < data.length; i += 4)
            count += data[i + 3] > 0 && data[i] + data[i + 1] + data[i + 2] < 700;
        return count;
        """,
        selector,
    )


def texts(driver, selector):
    """The visible text of each element, all at one moment: asv's pages draw themselves again."""
    script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())"
    return [text for text in driver.execute_script(script, selector) if text]


def test_grid(site, driver):
    with served(site) as root, opened(driver, root + "#/") as wait:
        wait.until(lambda _: len(texts(driver, ".benchmark-text")) == 2)
        assert texts(driver, ".benchmark-group h1") == ["layernorm"]
        names = texts(driver, ".benchmark-text")
        assert [name.rpartition(".")[2] for name in names] == ["track_ratio", "track_speedup"]
        wait.until(lambda _: drawn(driver, ".benchmark-plot canvas.flot-base") > 50)


def test_graph(site, driver):
    page = f"#{RATIO}?p-part='both'&p-dtype='float32'"
    with served(site) as root, opened(driver, root + page) as wait:
        wait.until(lambda _: drawn(driver, "#main-graph canvas.flot-base") > 200)
        assert texts(driver, "#title") == [RATIO]
        legend = " ".join(texts(driver, "#main-graph .legendLabel"))
        for word in ("env-FASTBN_NUM_THREADS-1", "env-FASTBN_NUM_THREADS-2", "part-both"):
            assert word in legend
        assert "part-forward" not in legend  # as the address says
        assert texts(driver, "#main-graph .flot-y-axis")[0].split()[-1] == "0.400"
        panels = " ".join(texts(driver, "#graphdisplay-navigation"))
        for word in ("env-FASTBN_NUM_THREADS", "part", "dtype", "case", "layernorm 1024x768"):
            assert word in panels


def test_regressions(site, driver):
    with served(site) as root, opened(driver, root + "#regressions") as wait:
        # Two parts, two dtypes, two cases; none of one thread, and none of the speed-up.
        wait.until(lambda _: len(texts(driver, "#regressions-body tbody tr")) >= 8)
        rows = texts(driver, "#regressions-body tbody tr")
        assert len(rows) == 8 and all(row.startswith(RATIO) for row in rows)
        assert all("2.00x" in row for row in rows)


def test_every_file_of_the_site_is_its_own(site, tmp_path):
    assert publish.outside(site) == []
    index = (site / "index.html").read_text()
    for package, name, _ in publish.FILES.values():
        assert f'"vendor/{package}/{name}"' in index
        licences = list((site / "vendor" / package).glob("LICENSE*"))
        assert licences or "MIT license" in (site / "vendor" / package / name).read_text()
    copy = tmp_path / "site"
    copy.mkdir()
    for page, address in (
        ('<img src="//cdn.example.org/x.png">', "//cdn.example.org/x.png"),
        ('<p style="background: url(https://example.org/a.png)">', "https://example.org/a.png"),
    ):
        (copy / "index.html").write_text(page)
        with pytest.raises(publish.Refused, match=address):
            publish.vendor(copy, tmp_path)
    (copy / "index.html").write_text('<a href="https://example.org">a link is no load</a>')
    publish.vendor(copy, tmp_path)
    (copy / "asv.css").write_text("@import 'https://example.org/a.css';")
    with pytest.raises(publish.Refused, match="asv.css: https://example.org/a.css"):
        publish.vendor(copy, tmp_path)
    (copy / "asv.css").write_text("")
    (copy / "index.html").write_text('<script src="https://example.org/new.js"></script>')
    with pytest.raises(publish.Refused, match="new.js, which publish.py does not know"):
        publish.vendor(copy, tmp_path)


def test_a_file_with_another_hash_is_refused(site, tmp_path):
    url, (package, name, sha256) = next(iter(publish.FILES.items()))
    changed = tmp_path / "store" / package / name
    changed.parent.mkdir(parents=True)
    changed.write_text("alert(1)")
    tag = f'<script src="{url}" integrity="sha256-FgpCb/KJQlLNfOu91ta32o/NMZxltwRo8QtmkMRdAu8=">'
    assert sha256 is None
    with pytest.raises(publish.Refused, match="does not have the hash"):
        publish.vendored(tag, tmp_path / "store", tmp_path / "site")
    with pytest.raises(publish.Refused, match="no integrity attribute"):
        publish.vendored(f'<script src="{url}">', tmp_path / "store", tmp_path / "site")
    assert not (tmp_path / "site").exists()
