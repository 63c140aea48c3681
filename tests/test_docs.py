"""What the pages and the README show is so: examples give what they say, and links lead somewhere.

The built site is tested in test_site.py; nothing here needs Sphinx.
"""

import doctest
import re
from pathlib import Path

import pytest

import fastbn

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if "_build" not in path.parts
}
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = {name for name, text in PAGES.items() if re.search("^ *>>> ", text, re.MULTILINE)}


@pytest.fixture(autouse=True)
def settings():
    """Examples may set what they like."""
    yield
    fastbn.set_num_threads(None)
    fastbn.set_conv_algorithm("auto")


def test_there_are_examples():
    assert {
        "docs/explanation/same-bits.md",
        "docs/explanation/stable-variance.md",
        "docs/explanation/winograd.md",
        "docs/how-to/threads.md",
    } <= EXAMPLES
    for name in EXAMPLES:  # none outside of what is run below
        assert PAGES[name].count(">>> ") == sum(
            code.count(">>> ") for code in FENCE.findall(PAGES[name])
        ), name


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_give_what_they_show(name):
    """The blocks of a page are one session."""
    text, globs = PAGES[name], {}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    report = []
    for match in FENCE.finditer(text):
        line = text[: match.start(1)].count("\n")
        example = doctest.DocTestParser().get_doctest(match[1], globs, name, name, line)
        runner.run(example, out=report.append, clear_globs=False)
        globs = example.globs
    assert runner.tries > 0
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_other_code_is_python(name):
    for code in FENCE.findall(PAGES[name]):
        if ">>>" not in code:
            compile(code, name, "exec")


@pytest.mark.parametrize("name", sorted(PAGES))
def test_links_and_images_are_there(name):
    """Files; Sphinx checks headings as well."""
    text = re.sub(r"^```.*?^```$", "", PAGES[name], flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r"(?:src|href)=\"([^\"#]+)", text)
    files = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert [file for file in files if not (ROOT / name).parent.joinpath(file).exists()] == []
