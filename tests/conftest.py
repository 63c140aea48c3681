"""Fixtures that every module uses. `level` and `num_threads` are put back after each test."""

import cases
import numpy as np
import pytest

import fastbn
from fastbn import _ext, _threads


@pytest.fixture
def rng():
    return np.random.default_rng(231)


@pytest.fixture(params=cases.DTYPES, ids=lambda dtype: dtype.__name__)
def dtype(request):
    return request.param


@pytest.fixture(params=cases.LEVELS)
def level(request):
    """Run on the kernels of this CPU level."""
    before = _ext.level
    _ext.use_level(request.param)
    yield request.param
    _ext.use_level(before)


@pytest.fixture(params=cases.THREADS)
def num_threads(request, monkeypatch):
    """Run on this many threads, however little work there is."""
    monkeypatch.setattr(_threads, "SMALL", 0)
    fastbn.set_num_threads(request.param)
    yield request.param
    fastbn.set_num_threads(None)


def pytest_terminal_summary(terminalreporter):
    """How many of PyTorch's samples ran (test_torch.py); nothing without PyTorch."""
    reports = [r for outcome in ("passed", "failed") for r in terminalreporter.getreports(outcome)]
    lines = sorted(text for r in reports for key, text in r.user_properties if key == "torch")
    if lines:
        terminalreporter.section("PyTorch's samples")
        terminalreporter.write("\n".join(lines) + "\n")
