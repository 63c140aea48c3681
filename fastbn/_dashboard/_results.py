"""What airspeed velocity measured, from its files.

The files are JSON in a documented format, and are read as such: asv's own reader is made for asv,
takes every value for what it should be, and would have to be installed. Nothing is taken on trust
here: a file may be cut short, of another version, or of another project.
"""

from __future__ import annotations

import ast
import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from .._options import UserError

_VERSION = 2  # of asv's files of results
_MOST_BYTES = 1 << 26  # a year of samples fits; a file that is no result may be of any size
_MOST_CASES = 10_000  # of one file; a row without results claims any number in a few bytes
_MOST_TEXT = 120

#: What is kept of a class of benchmarks: fastbn's time in the reference's and in PyTorch's, GB/s or
#: GFLOP/s, and per cent of the machine's limit.
_TRACK = re.compile(r"(?:\w+\.)*(\w+)Tracks\.track_(ratio|speedup|torch_ratio|rate|limit_share)")
_LEVEL = "package.Build.track_cpu_level"
_MACHINE = ("machine", "cpu", "arch", "num_cpu")
_PARAMETERS = ("part", "dtype", "case")


class Machine(NamedTuple):
    """Where results were measured. One name on two kinds of processor is two machines."""

    name: str
    cpu: str
    arch: str
    cores: str


class Setting(NamedTuple):
    """How fastbn ran. An empty string is what nobody set or recorded."""

    level: str  # FASTBN_ISA, or what fastbn chose
    threads: str  # FASTBN_NUM_THREADS
    others: tuple[tuple[str, str], ...]  # all variables of the environment, and versions


class Case(NamedTuple):
    """A layer on arrays of some shape."""

    layer: str
    name: str
    dtype: str
    part: str


class Run(NamedTuple):
    """One file: one commit on one machine in one setting."""

    machine: Machine
    commit: str
    date: int | None  # of the commit, milliseconds since 1970
    measured: int | None  # when, likewise
    os: str
    ram: str  # bytes
    setting: Setting
    #: Metric to number for each case. None: it failed. Not there: it was not measured.
    values: dict[Case, dict[str, float | None]]
    versions: dict[tuple[str, str], str]  # of the benchmarks, by layer and metric


class Results(NamedTuple):
    """All that was read."""

    runs: list[Run]
    units: dict[str, str]  # of the rate, by layer
    problems: list[str]  # files that could not be read, and why


class _Malformed(Exception):
    pass


def read(path: str) -> Results:
    """Read a folder of results, a machine's folder in it, or one file of results.

    Parameters
    ----------
    path : str
        Such as ``asv_bench/.asv/results``.

    Returns
    -------
    Results
        A file that cannot be read is among its problems, if others can.

    Raises
    ------
    UserError
        If nothing can be read, or nothing in it is a benchmark of fastbn's layers.
    """
    if not os.path.exists(path):
        raise UserError(f"no such folder or file of asv results: {path!r}")
    folder = os.path.abspath(path)
    if os.path.isdir(path):
        files = list(_files_in(path))
    else:
        files = [path]
        folder = os.path.dirname(folder)
    if not files:
        raise UserError(f"no asv results in {path!r}: it has no file MACHINE/COMMIT-ENV.json")
    benchmarks = _benchmarks([folder, os.path.dirname(folder)])
    runs, problems, others = [], [], 0
    for file in files:
        try:
            run = _run(_load(file), benchmarks)
        except _Malformed as error:
            problems.append(f"{os.path.basename(file)}: {error}")
            continue
        if run.values:
            runs.append(run)
        else:
            others += 1
    if not runs and problems:
        raise UserError(f"no results could be read in {path!r}: {'; '.join(problems[:3])}")
    if not runs:
        raise UserError(
            f"no benchmark of fastbn's layers in {path!r} (a class NounTracks with track_ratio); "
            f"files of results: {others}"
        )
    units = {
        match[1]: _text(entry.get("unit", ""))
        for name, entry in benchmarks.items()
        if (match := _TRACK.fullmatch(name)) and match[2] == "rate"
    }
    return Results(runs, units, problems)


def _files_in(folder: str) -> Iterator[str]:
    """Files of results: those beside a machine.json, two levels down at most."""
    try:
        names = sorted(os.listdir(folder))
        folders = [folder, *(os.path.join(folder, name) for name in names)]
        for place in folders:
            if not os.path.isfile(os.path.join(place, "machine.json")):
                continue
            for name in sorted(os.listdir(place)):
                file = os.path.join(place, name)
                if name.endswith(".json") and name not in ("machine.json", "benchmarks.json"):
                    yield file
    except OSError as error:
        raise UserError(f"cannot read {error.filename!r}: {error.strerror}") from error


def _load(file: str) -> dict[str, Any]:
    """The object in a file of JSON."""
    try:
        if not os.path.isfile(file):  # a pipe would never end
            raise _Malformed("is not a regular file")
        with open(file, "rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise _Malformed(f"cannot be read: {error.strerror}") from error
    if len(content) > _MOST_BYTES:
        raise _Malformed(f"is larger than {_MOST_BYTES >> 20} MiB")
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _Malformed(f"is no JSON: {_text(str(error))}") from error
    if not isinstance(data, dict):
        raise _Malformed("is no asv result: it holds no JSON object")
    return data


def _benchmarks(places: Iterable[str]) -> dict[str, dict[str, Any]]:
    """asv's description of the benchmarks, where it is: names of parameters, units."""
    for place in places:
        try:
            data = _load(os.path.join(place, "benchmarks.json"))
        except _Malformed:
            continue
        return {name: entry for name, entry in data.items() if isinstance(entry, dict)}
    return {}


def _run(data: dict[str, Any], benchmarks: dict[str, dict[str, Any]]) -> Run:
    version = data.get("version")
    if version != _VERSION or isinstance(version, bool):
        raise _Malformed(f"is of version {_text(version)} of asv's format; this reads {_VERSION}")
    parameters = _dict(data, "params")
    columns = _strings(data.get("result_columns"))
    if columns is None or "result" not in columns or "params" not in columns:
        raise _Malformed("is no asv result: no result_columns with result and params")
    commit = data.get("commit_hash")
    if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-fA-F]{4,64}", commit):
        raise _Malformed(f"has no commit_hash: {_text(commit)}")
    values: dict[Case, dict[str, float | None]] = {}
    versions: dict[tuple[str, str], str] = {}
    times = []
    rows = {k: row for k, row in _dict(data, "results").items() if isinstance(row, list)}
    for name, row in sorted(rows.items()):  # ratio before speedup
        match = _TRACK.fullmatch(name)
        if not match:
            continue
        entry = dict(zip(columns, row, strict=False))
        layer, metric = match.groups()
        for case, value in _cases(layer, entry, benchmarks.get(name, {})):
            if metric == "speedup":
                _keep(values, case, "ratio", 1 / value if value else value)
            else:
                _keep(values, case, metric, value)
        if len(values) > _MOST_CASES:
            raise _Malformed(f"has more than {_MOST_CASES} cases")
        versions[layer, "ratio" if metric == "speedup" else metric] = _text(entry.get("version"))
        times.append(_time(entry.get("started_at")))
    environment = {_text(k): _text(v) for k, v in _dict(data, "env_vars").items()}
    level = environment.get("FASTBN_ISA") or _level(rows.get(_LEVEL, []), columns)
    others = {
        "Python": _python(data.get("python")),
        **_requirements(data.get("requirements")),
        **environment,
    }
    return Run(
        Machine(*(_text(parameters.get(key, "")) for key in _MACHINE)),
        commit.lower(),
        _time(data.get("date")),
        max((time for time in times if time is not None), default=None),
        _text(parameters.get("os", "")),
        _text(parameters.get("ram", "")),
        Setting(level, environment.get("FASTBN_NUM_THREADS", ""), tuple(sorted(others.items()))),
        values,
        versions,
    )


def _keep(values: dict[Case, dict[str, float | None]], case: Case, metric: str, value: Any) -> None:
    """Note a number, or None for a failure. track_ratio and track_speedup are one number."""
    row = values.setdefault(case, {})
    if value is None:
        row.setdefault(metric, None)
    elif value == value and row.get(metric) is None:
        row[metric] = value


def _cases(
    layer: str, entry: dict[str, Any], benchmark: dict[str, Any]
) -> Iterator[tuple[Case, float | None]]:
    """Cases of a benchmark with their numbers: NaN if not measured, None if it failed."""
    parameters = entry.get("params")
    if not isinstance(parameters, list):
        return
    lists = [values for values in map(_strings, parameters) if values]
    if len(lists) < max(len(parameters), 1) or math.prod(map(len, lists)) > _MOST_CASES:
        return
    names = _strings(benchmark.get("param_names"))
    if names is None or len(names) != len(lists):
        names = list(_PARAMETERS[: len(lists)]) + [""] * (len(lists) - len(_PARAMETERS))
    results = entry.get("result")
    choices = list(itertools.product(*lists))
    if results is None:
        results = [None] * len(choices)  # asv shortens it when all failed
    elif not isinstance(results, list) or len(results) != len(choices):
        results = [math.nan] * len(choices)
    for choice, result in zip(choices, results, strict=True):
        given = dict(zip(names, map(_unquoted, choice), strict=True))
        part, dtype = given.pop("part", "both"), given.pop("dtype", "")
        yield Case(layer, " ".join(given.values()), dtype, part), _positive(result)


def _level(row: list[Any], columns: list[str]) -> str:
    """The x86-64 level that ran, if the benchmark that tells it did."""
    result = dict(zip(columns, row, strict=False)).get("result")
    if not isinstance(result, list) or len(result) != 1 or result[0] not in (2, 3, 4):
        return ""
    return f"v{int(result[0])}"


def _positive(value: Any) -> float | None:
    """A number that a ratio or a rate can be, None for a failure, or else NaN."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    # Beyond this a ratio is no measurement, and a logarithm or a reciprocal may not exist.
    return float(value) if 1e-9 < value < 1e9 else math.nan


def _text(value: Any) -> str:
    """A value as a short line."""
    text = " ".join(str(value).split()) if isinstance(value, str | int | float) else ""
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"


def _strings(value: Any) -> list[str] | None:
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return value
    return None


def _dict(data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise _Malformed(f"is no asv result: {key} is no JSON object")
    return value


def _time(value: Any) -> int | None:
    """Milliseconds since 1970, up to the year 9999."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < 253_402_300_800_000 else None


def _unquoted(value: str) -> str:
    """A parameter, which asv writes as its repr."""
    if len(value) <= 10 * _MOST_TEXT and value[:1] in "'\"" and value[:1] == value[-1:]:
        try:
            value = str(ast.literal_eval(value))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            pass  # it is no literal, whatever it is
    return _text(value)


def _python(value: Any) -> str:
    """A version; or, if asv was given an interpreter, its name and not where it lies."""
    return re.split(r"[\\/]", _text(value))[-1]


def _requirements(value: Any) -> dict[str, str]:
    """Packages that asv installed. An empty version is whatever was the newest then."""
    if not isinstance(value, dict):
        return {}
    return {_text(name): _text(version) for name, version in sorted(value.items())}
