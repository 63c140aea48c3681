"""What a source distribution and a wheel hold: `python .ci/check_dist.py FILE...`, in a checkout.

cibuildwheel runs it on each wheel, .ci/run and the release on the source distribution.
"""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = 4 << 20  # bytes of a wheel


def _tracked(*folders):
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", *folders]
    return set(subprocess.check_output(listed, text=True).rstrip("\0").split("\0"))


def check_sdist(path):
    """It is the repository, and the metadata."""
    with tarfile.open(path) as archive:
        names = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    return [*_difference(names, _tracked() | {"PKG-INFO"})]


def check_wheel(path):
    """The Python files of the package, its modules at every level, the licence; and no more."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        metadata = next(n for n in names if n.endswith(".dist-info/METADATA"))
        fields = archive.read(metadata).decode().partition("\n\n")[0]
    info = metadata.partition("/")[0]
    suffix = re.compile(r"\.(cpython|cp|abi3)[^/]*\.(so|pyd)$|\.(so|pyd)$")
    modules = {suffix.sub("", n) for n in names if suffix.search(n) and n.startswith("fastbn/")}
    vendored = {n for n in names if re.match(r"fastbn\.(libs|dylibs)/.", n)}
    sources = _tracked("fastbn")
    kernels = {n.removesuffix(".pyx") for n in sources if n.endswith(".pyx")}
    levels = ["v2", "v3", "v4"] if re.search(r"(linux|macosx)\w*_x86_64", path.name) else ["plain"]
    alone = {"fastbn/_ext/_memory", "fastbn/_ext/_runtime"}  # one build for all levels
    expected = {f"{k}_{level}" for k in kernels - alone for level in levels} | alone
    yield from _difference(modules, expected | {"fastbn/_ext/_cyutility"})

    files = {n for n in sources if n.endswith((".py", ".pyi", ".css", "/py.typed"))}
    files |= {f"{info}/{n}" for n in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    files |= {f"{info}/licenses/LICENSE"}
    if vendored:
        files |= {f"{info}/sboms/auditwheel.cdx.json"} if "linux" in path.name else set()
    plain = {n for n in names - vendored if n[-1] != "/" and not suffix.search(n)}
    yield from _difference(plain - {f"{info}/DELVEWHEEL"}, files)
    for name in vendored:
        if "gomp" not in name:
            yield f"unexpected: {name}"
    if "\nLicense-Expression: BSD-3-Clause" not in fields:
        yield "METADATA names no licence"
    if path.stat().st_size > MOST:
        yield f"{path.stat().st_size} bytes, more than {MOST}"


def _difference(there, expected):
    yield from (f"missing: {name}" for name in sorted(expected - there))
    yield from (f"unexpected: {name}" for name in sorted(there - expected))


def main(paths):
    failed = False
    for path in map(Path, paths):
        problems = list((check_wheel if path.suffix == ".whl" else check_sdist)(path))
        print(
            f"{path.name}: {path.stat().st_size} bytes;",
            "\n  ".join(problems or ["as it should be"]),
        )
        failed |= bool(problems)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
