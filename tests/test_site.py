"""The documentation as a reader gets it: it is built once, and the pages are looked into.

It needs the extra `docs`, which `.ci/run` installs.
"""

import inspect
import os
import pkgutil
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import fastbn

for extension in ("sphinx", "furo", "latex2mathml", "myst_nb", "numpydoc", "sphinx_argparse_cli"):
    pytest.importorskip(extension)

DOCS = Path(__file__).parents[1] / "docs"


class Page(HTMLParser):
    """The anchors of a page, what it links to and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loaded, self.tags = set(), [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.add(tag)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in ("canonical", "index", "search", "next", "prev"):
            self.links.append(given["href"])
        else:
            self.loaded += [given[name] for name in ("src", "href", "data") if given.get(name)]

    handle_startendtag = handle_starttag


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    # Not the folder above the sources, which has an unbuilt package: the one under test.
    environment = {**os.environ, "PYTHONPATH": str(Path(fastbn.__file__).parents[1])}
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        environment[name] = str(folder / name.lower())  # nobody's configuration or kernels
    command = [sys.executable, "-P", "-m", "sphinx", "-W", "--keep-going", "-n", "-q"]
    done = subprocess.run(
        [*command, "-d", str(folder / "doctrees"), str(DOCS), str(folder / "html")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_the_pages_are_there(site, pages):
    names = {path.relative_to(site).as_posix() for path in pages}
    assert {"index.html", "tutorial.html", "how-to/threads.html", "reference/layers.html"} <= names
    assert len([name for name in names if name.startswith("explanation/")]) >= 12


def test_links_lead_somewhere(site, pages):
    checked, broken = 0, []
    for path, page in pages.items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            found = target.is_file()
            if found and parts.fragment and target in pages:
                found = unquote(parts.fragment) in pages[target].anchors
            checked += 1
            broken += [] if found else [f"{path.relative_to(site)}: {link}"]
    assert checked > 1000
    assert broken == []


def test_nothing_is_fetched_from_elsewhere(site, pages):
    """A reader's browser asks nobody but the site: no fonts, no scripts, no trackers."""
    for path, page in pages.items():
        outside = [link for link in page.loaded if urlsplit(link).netloc]
        assert outside == [], path.relative_to(site)
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert "url(http" not in text and "url(//" not in text and "@import" not in text, path


def test_no_page_names_a_folder_of_the_machine_that_built_it(pages):
    folders = {str(Path(fastbn.__file__).parents[1]), str(DOCS.parent), sys.prefix}
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert [folder for folder in folders if folder in text] == [], path


def test_formulas_and_drawings_are_in_the_page(site, pages):
    assert "math" in pages[site / "explanation" / "stable-variance.html"].tags
    for name in (
        "convolution winograd im2col pooling batch-normalization layer-normalization affine"
        " elementwise"
    ).split():
        text = (site / "explanation" / f"{name}.html").read_text(encoding="utf-8")
        assert text.count('<figure class="drawing"') >= 2, name


def test_the_tutorial_shows_what_came_out(site):
    text = (site / "tutorial.html").read_text(encoding="utf-8")
    assert text.count("<img") == 4 and "55154.776027" in text


def _inventory(site):
    """Names of the Python objects that the site documents, also those under a second name."""
    lines = (site / "objects.inv").read_bytes().split(b"\n", 4)  # four of them are its head
    return {
        line.split()[0]
        for line in zlib.decompress(lines[4]).decode().splitlines()
        if line.split()[1].startswith("py:")
    }


def _public_modules():
    yield fastbn
    for info in pkgutil.walk_packages(fastbn.__path__, "fastbn."):
        if not any(part.startswith("_") for part in info.name.split(".")):
            yield import_module(info.name)


def test_everything_public_is_in_the_reference(site):
    documented = _inventory(site)
    modules = {module.__name__ for module in _public_modules()}
    assert len(modules) > 20
    assert modules - documented == set()
    assert {"fastbn.accelerate", "fastbn.layers.conv_forward_fast"} <= documented
    missing = {
        f"{module.__name__}.{name}"
        for module in _public_modules()
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        # What a package imports from its own modules it shows.
        and f"{value.__module__}.".startswith(f"{module.__name__}.")
    }
    assert missing - documented == set()
