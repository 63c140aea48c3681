"""The tutorial notebook runs from top to bottom, and is committed without what came out."""

import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


class ThisPython(AsyncKernelManager):
    """Starts kernels of the Python that runs the tests, whatever kernels are installed."""

    @property
    def kernel_spec(self):
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, language="python")


@pytest.fixture(scope="module")
def committed():
    return nbformat.read(TUTORIAL, as_version=4)


def test_it_is_committed_without_outputs(committed):
    """They hold times of one machine, and change with every run."""
    nbformat.validate(committed)
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert len(code) >= 8
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_it_runs_from_top_to_bottom(committed, tmp_path, monkeypatch):
    # Nobody's configuration, and no file elsewhere.
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    folder = tmp_path / "folder"
    folder.mkdir()
    notebook = nbformat.from_dict(committed)
    client = NotebookClient(
        notebook,
        timeout=60,
        kernel_manager_class=ThisPython,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()  # raises with the traceback of a cell that fails
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    figures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(figures) == 4
    streams = {name: "" for name in ("stdout", "stderr")}
    for output in outputs:
        if output.output_type == "stream":
            streams[output.name] += output.text
    assert streams["stderr"] == ""
    assert "55154.776027        55154.776027" in streams["stdout"]
    assert "With batch normalization" in streams["stdout"]
    assert list(folder.iterdir()) == []
