"""The dashboard's page in Chromium: on a phone, in the dark, on paper, and without a network."""

import itertools

import asv_results
import browser as chromium
import pytest

from fastbn.cli import main

LAYERS = ("Affine", "BatchNorm", "Conv", "Im2col", "SpatialBatchNorm", "TrainingStep")
CASE = "conv 100x3x31x31 F25 3x3 s2 p1"


def _run(level, threads, commit, day):
    keys = list(itertools.product(("forward", "both"), ("float32", "float64"), (CASE, "b 100x500")))
    tracks = {}
    for i, layer in enumerate(LAYERS):
        for metric, factor in (("ratio", 0.3), ("torch_ratio", 0.8), ("limit_share", 60)):
            values = {key: factor * (i + 1) ** 0.9 / (j + 1) for j, key in enumerate(keys)}
            missing = layer == "Im2col" and metric == "torch_ratio"
            tracks[f"{layer} {metric}"] = {k: float("nan") for k in keys} if missing else values
    environment = {"FASTBN_ISA": level, "FASTBN_NUM_THREADS": threads}
    return asv_results.run(tracks, env=environment, commit=commit * 40, day=day)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Address of a page of three levels, two numbers of threads and two commits."""
    folder = tmp_path_factory.mktemp("dashboard")
    settings = [*itertools.product(("v2", "v3", "v4"), "12")]
    runs = [_run(*setting, "ab"[i], i) for i in range(2) for setting in settings]
    asv_results.write(folder / "results", *runs)
    out = folder / "page.html"
    assert main(["dashboard", str(folder / "results"), "--out", str(out)]) == 0
    return out.as_uri()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium.started(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def opened(page, driver):
    """Open the page so wide, on such a medium."""

    def open_page(width=1280, medium="screen", scheme="light"):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        media = {"media": medium, "features": features}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        driver.get(page)
        return driver.execute_script

    return open_page


def test_the_page_is_all_that_is_asked_for(page, driver):
    driver.get("about:blank")
    chromium.requests(driver), driver.get_log("browser")
    driver.get(page)
    assert {url for url in chromium.requests(driver) if not url.startswith("data:")} == {page}
    assert driver.get_log("browser") == []  # nor was anything asked for and refused


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_the_page_is_no_wider_than_the_screen(width, opened):
    script = opened(width)
    script("for (const d of document.querySelectorAll('details')) d.open = true")
    assert script("return document.documentElement.scrollWidth") <= width
    # A phone held upright shows whole tables: none has to be scrolled.
    wide = """return [...document.querySelectorAll('.scroll')].filter(
        e => e.scrollWidth > e.clientWidth).map(e => e.innerText)"""
    assert width < 360 or script(wide) == []


CONTRAST = """
const parse = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
const light = colour => {
  const [r, g, b] = parse(colour).map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = element => {
  for (; element; element = element.parentElement) {
    const colour = getComputedStyle(element).backgroundColor;
    if (!/rgba\\(.*, 0\\)/.test(colour)) return light(colour);
  }
  return 1;
};
const found = {};
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some(n => n.nodeType == 3 && n.data.trim());
  if (!own || ['TITLE', 'DESC'].includes(element.tagName.toUpperCase())) continue;
  const style = getComputedStyle(element);
  const [a, b] = [light(element.closest('svg') ? style.fill : style.color), ground(element)];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const name = element.tagName + '.' + (element.getAttribute('class') || '');
  found[name] = Math.min(ratio, found[name] || 99);
}
return found;
"""


@pytest.mark.parametrize(
    ("medium", "scheme"), [("screen", "light"), ("screen", "dark"), ("print", "dark")]
)
def test_text_stands_out_from_its_ground(medium, scheme, opened):
    script = opened(medium=medium, scheme=scheme)
    ground = script("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (medium == "print" or scheme == "light")
    ratios = script(CONTRAST)
    assert len(ratios) > 15 and {k: v for k, v in ratios.items() if v < 4.5} == {}


def test_paper_shows_what_the_screen_folds_away(opened):
    shown = """return [...document.querySelectorAll('.cases tbody tr')].filter(
        row => row.checkVisibility({contentVisibilityAuto: true})).length"""
    assert opened()(shown) == 0
    assert opened(medium="print")(shown) == 6 * (len(LAYERS) + len(LAYERS) * 8)
