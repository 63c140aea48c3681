"""What meson.build lists is what there is, and what an installation has is what it lists."""

import ast
import re
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import fastbn
from fastbn import _ext

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "fastbn"
INSTALLED = Path(fastbn.__file__).parent
MESON = (ROOT / "meson.build").read_text()


def _meson_value(name):
    """A list or dict of strings in meson.build, which Python would write the same way."""
    return ast.literal_eval(re.search(rf"^{name} = ([\[{{].*?^[\]}}])$", MESON, re.M | re.S)[1])


KERNELS = _meson_value("kernels")
NAMED = {f"{folder}/{name}" for folder, names in _meson_value("sources").items() for name in names}
OTHERS = {"_memory", "_runtime"}  # one build of each, for all levels
MODULES = {"_cyutility", *OTHERS, *(f"{kernel}_{level}" for kernel in KERNELS
                         for level in _ext.runtime.levels_built)}  # fmt: skip


def _files(folder):
    """Files of a package folder by their names from above it, without what tools leave there."""
    names = {path.relative_to(folder.parent) for path in folder.rglob("*") if path.is_file()}
    return {name.as_posix() for name in names if not re.search(r"/(\.|__pycache__/)", f"/{name}")}


def test_every_source_is_named():
    there = {name for name in _files(SOURCE) if re.search(r"\.(pyi?|css)$|/py\.typed$", name)}
    assert {"fastbn/__init__.py", "fastbn/py.typed", "fastbn/layers/_conv.py"} <= there
    assert there == NAMED


def test_names_are_in_order():
    for folder, names in _meson_value("sources").items():
        assert names == sorted(names), folder
    assert KERNELS == sorted(KERNELS)


def test_every_kernel_is_named():
    there = {path.stem for path in SOURCE.rglob("*.pyx")}
    assert there == {*KERNELS, *OTHERS}
    assert sorted(f"_{kernel}" for kernel in (*_ext.KERNELS, *_ext.TOOLS)) == KERNELS


def test_every_kernel_has_its_noun_in_every_room():
    for noun in _ext.KERNELS:
        assert (SOURCE / "layers" / f"_{noun}.py").exists()
        assert (SOURCE / "reference" / f"_{noun}.py").exists()
        assert (ROOT / "tests" / f"test_{noun}.py").exists()


def test_setup_py_lists_nothing():
    text = (ROOT / "setup.py").read_text()
    assert "meson" in text
    assert not [noun for noun in _ext.KERNELS if re.search(rf"\b_?{noun}\b", text)]
    assert not re.search(r"-O\d|-m\w+=|-f[a-z]+-|\d+\.\d+|version=|\.pyx|\.c\b|OpenMP", text)


def test_the_version_is_one():
    version = re.search(r"^  version: '(.+)',$", MESON, re.M)[1]
    installed = {distribution.version for distribution in metadata.distributions(name="fastbn")}
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)[1]
    changed = re.search(r"^## \[(.+?)\] - ", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    assert {version, fastbn.__version__, *installed, citation, changed} == {version}


def test_the_licence_is_one():
    with open(ROOT / "pyproject.toml", "rb") as file:
        licence = tomllib.load(file)["project"]["license"]
    citation = re.search(r"^license: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)[1]
    assert {licence, citation, re.search(r"^  license: '(.+)',$", MESON, re.M)[1]} == {licence}


@pytest.mark.parametrize("level", _ext.runtime.levels_built)
def test_every_level_of_every_kernel_is_built(level):
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for kernel in KERNELS:
        assert (INSTALLED / "_ext" / f"{kernel}_{level}{suffix}").is_file()


def test_the_package_holds_what_is_listed_and_nothing_else():
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    expected = NAMED | {f"fastbn/_ext/{module}{suffix}" for module in MODULES}
    there = _files(INSTALLED)
    assert there >= expected
    # A source tree has the kernels' sources as well, and may have builds for other Pythons.
    spare = {".pyx", ".pxd", ".h", ".so", ".pyd"} if INSTALLED == SOURCE else set()
    assert {name for name in there - expected if Path(name).suffix not in spare} == set()
    assert {name for name in there - expected if name.endswith(suffix)} == set()


def test_the_distribution_holds_the_package_and_nothing_else():
    listed = [
        file
        for distribution in metadata.distributions(name="fastbn")
        for file in distribution.files or ()
    ]
    stray = [f for f in listed if f.suffix in (".pyx", ".pxd", ".c", ".h") or "tests" in f.parts]
    assert stray == []
    tops = {f.parts[0] for f in listed if f.parts[0] != ".."}
    assert {top for top in tops if not re.match(r"_?fastbn\b", top)} == set()
