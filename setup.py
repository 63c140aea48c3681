"""``python setup.py build_ext --inplace`` for those who build as the course does.

It runs Meson and copies the compiled modules beside their sources. meson.build is the build:
there is no list, flag or version here. Needs Meson, Ninja, Cython and
NumPy 2 (``pip install meson ninja cython numpy``).
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


class MesonBuildExt(build_ext):
    """build_ext by Meson, in build/inplace-<python tag>."""

    def run(self):
        if not self.inplace:
            raise SystemExit("only `build_ext --inplace` works here; to install: pip install .")
        build = ROOT / "build" / f"inplace-{sys.implementation.cache_tag}"
        # This interpreter's tools first: its environment may not be activated.
        scripts = sysconfig.get_path("scripts")
        env = {**os.environ, "PATH": scripts + os.pathsep + os.environ.get("PATH", "")}
        meson = [shutil.which("meson", path=env["PATH"]) or "meson"]
        try:
            if not (build / "build.ninja").exists():
                native = build.with_suffix(".ini")
                native.parent.mkdir(parents=True, exist_ok=True)
                native.write_text(f"[binaries]\npython = '{sys.executable}'\n")
                subprocess.run(
                    [*meson, "setup", build, ROOT, "--native-file", native], env=env, check=True
                )
            subprocess.run([*meson, "compile", "-C", build], env=env, check=True)
        except FileNotFoundError:
            raise SystemExit("Meson was not found: pip install meson ninja cython numpy") from None
        except subprocess.CalledProcessError as error:
            raise SystemExit(error.returncode) from None
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        for module in sorted(build.glob(f"*{suffix}")):
            target = ROOT / "fastbn" / "_ext" / module.name
            if not target.exists() or target.stat().st_mtime < module.stat().st_mtime:
                # A new file under the old name: writing into a module that is loaded somewhere,
                # say in a notebook, would crash it.
                shutil.copy2(module, target.with_suffix(".new"))
                os.replace(target.with_suffix(".new"), target)


class Driver(Distribution):
    """Reads no metadata: pyproject.toml is for the real build, in a form old setuptools reject."""

    def parse_config_files(self, *args, **kwargs):
        pass


setup(packages=[], ext_modules=[], cmdclass={"build_ext": MesonBuildExt}, distclass=Driver)
