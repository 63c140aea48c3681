"""Two implementations of the same functions, theirs and ours, run on the same small data."""

from __future__ import annotations

import contextlib
import inspect
import io
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ._groups import GIVEN, GROUP_OF, OURS, Group, Pair, Probe

#: Largest difference, as a share of the largest number, that is rounding: all is float64.
ROUNDING = 1e-6

Functions = Mapping[str, Callable[..., Any]]


class Verdict(NamedTuple):
    """What running a function of theirs beside ours has shown."""

    #: "agrees", "differs", "convention" (differs where right functions may), "unsolved", "raises",
    #: "broken" (raises, as the course hands it out) or "untried" (there is no cache for it).
    kind: str
    reason: str = ""
    #: Largest difference found, as a share of the largest number; None if there is nothing to say.
    error: float | None = None


class _Failure(Exception):
    """Their function has no results: kind and reason of the verdict."""

    def verdict(self, probe: Probe) -> Verdict:
        kind, reason = self.args
        return Verdict(kind, f"{reason} ({probe.where})" if probe.where else reason)


def compare(group: Group, theirs: Functions) -> dict[str, Verdict]:
    """A verdict on each of `theirs`, functions of a group by name."""
    verdicts: dict[str, Verdict] = {}
    for pair in group.pairs:
        if pair.functions[0] not in theirs:
            continue
        for probe in pair.probes:
            for name, verdict in _probe(pair, probe, theirs).items():
                verdicts[name] = _worse(verdicts.get(name), verdict)
    return verdicts


def _worse(before: Verdict | None, verdict: Verdict) -> Verdict:
    """What was found first is said; the error is the largest of all that agree."""
    if before is None:
        return verdict
    if before.kind != "agrees":
        return before
    if verdict.kind == "agrees":
        return Verdict("agrees", "", max(before.error or 0.0, verdict.error or 0.0))
    return verdict


def _probe(pair: Pair, probe: Probe, theirs: Functions) -> dict[str, Verdict]:
    forward, *backwards = pair.functions
    rng = np.random.default_rng(231)
    expected, cache = _ours(forward, probe, bool(backwards))
    verdicts, got = {}, None
    results = pair.results if not backwards else ("out", *_STATISTICS)[: len(expected)]
    with _aside():
        try:
            got, their_cache = _run(forward, theirs[forward], probe, bool(backwards))
            verdicts[forward] = _verdict(forward, probe, results, got, expected)
        except _Failure as failure:
            verdicts[forward] = failure.verdict(probe)
        if not probe.backward:
            return verdicts
        dout = rng.standard_normal(np.shape(expected[0]))
        for name in backwards:
            if name not in theirs:
                continue
            if got is None:
                verdicts[name] = Verdict("untried", f"{forward} gives it no cache")
                continue
            try:
                gradients = _called(name, theirs[name], (dout.copy(), their_cache))
                if verdicts[forward].kind == "convention":
                    cache = their_cache  # another mask is no fault of the backward function
                wanted = _called(name, OURS[name], (dout.copy(), cache))
                verdicts[name] = _verdict(name, probe, pair.results, gradients, wanted)
            except _Failure as failure:
                verdicts[name] = failure.verdict(probe)
    return verdicts


_STATISTICS = ("running_mean", "running_var")


def _ours(forward: str, probe: Probe, cached: bool) -> tuple[tuple[Any, ...], Any]:
    with _aside():
        return _run(forward, OURS[forward], probe, cached)


def arguments(name: str, make: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """Fresh arguments of the function of that name, in its order, the same at every call."""
    made = make(np.random.default_rng(231))
    return {parameter: made[parameter] for parameter in inspect.signature(OURS[name]).parameters}


def _run(name: str, function: Any, probe: Probe, cached: bool) -> tuple[tuple[Any, ...], Any]:
    """Results of a function without its cache, running statistics among them; the cache."""
    given = arguments(name, probe.make)
    np.random.seed(231)
    results = _called(name, function, given.values())
    if not cached:
        return results, None
    if len(results) != 2:
        raise _Failure("differs", f"returns {len(results)} results, not (out, cache)")
    out, cache = results
    params = given.get("bn_param", {})
    return (out, *(params[key] for key in _STATISTICS if key in params)), cache


def _called(name: str, function: Any, given: Iterable[Any]) -> tuple[Any, ...]:
    """The results of a function, as a tuple; a failure if there are none."""
    try:
        results = _tuple(function(*given))
    except NotImplementedError:
        raise _Failure("unsolved", "not written yet (NotImplementedError)") from None
    except (Exception, SystemExit) as error:
        if getattr(error, "name", "") == "astype" and getattr(error, "obj", error) is None:
            # The course's dropout_forward casts the None that is there to begin with.
            raise _Failure("unsolved", "not written yet (None)") from None
        # What the course hands out is broken by the times, not by who handed it in.
        kind = "broken" if GROUP_OF[name].home in GIVEN else "raises"
        raise _Failure(kind, f"theirs raises {said(error)}") from None
    # Of (out, cache) the cache may be None: that of dropout in test mode was, once.
    if any(result is None for result in results[: 1 if name.endswith("_forward") else None]):
        raise _Failure("unsolved", "not written yet (None)")
    return results


def said(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 100 else text[:97] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _tuple(results: Any) -> tuple[Any, ...]:
    return results if isinstance(results, tuple) else (results,)


def _verdict(
    name: str,
    probe: Probe,
    names: tuple[str, ...],
    got: tuple[Any, ...],
    expected: tuple[Any, ...],
) -> Verdict:
    if len(got) != len(expected):
        return Verdict("differs", f"returns {len(got)} results, fastbn's {len(expected)}")
    worst, where = 0.0, ""
    for result, mine, ours in zip(names, got, expected, strict=True):
        try:
            mine = np.asarray(mine, dtype=float)
        except Exception:  # such as the RuntimeError of a tensor that requires a gradient
            return Verdict("differs", f"{result} is no array of numbers: {type(mine).__name__}")
        ours = np.asarray(ours, dtype=float)
        if mine.shape != ours.shape:
            return Verdict("differs", f"{result} has shape {mine.shape}, fastbn's {ours.shape}")
        error = _difference(mine, ours)
        if error > worst:
            worst, where = error, result
    if worst <= ROUNDING:
        return Verdict("agrees", "", worst)
    by = f"by {worst:.1e}" if np.isfinite(worst) else "is not finite"
    reason = f"{f'differs {probe.where}'.rstrip()}: {where} {by}"
    other_mask = _other_mask(probe, got[0], expected[0]) if name == "dropout_forward" else ""
    kind = "convention" if probe.convention or other_mask else "differs"
    return Verdict(kind, other_mask or reason, worst)


def _difference(mine: Any, ours: Any) -> float:
    """Largest difference as a share of the largest number."""
    if not ours.size:
        return 0.0
    # The data are of order one. What is below this is what is left of numbers that cancel, such as
    # the gradient of a bias before batch normalization.
    scale = max(float(np.abs(ours).max()), 1e-3)
    error = float(np.abs(mine - ours).max()) / scale
    return error if np.isfinite(error) else float("inf")


def _other_mask(probe: Probe, got: Any, expected: Any) -> str:
    """How a dropout that is right differs from ours; "" if it is not right."""
    given = arguments("dropout_forward", probe.make)
    theirs, ours = (_share(given, np.asarray(out)) for out in (got, expected))
    if not theirs or given["dropout_param"]["mode"] == "test":
        return ""
    if theirs == ours:
        return "draws its mask in another way"
    return f"p is the share {theirs} here; see fastbn.set_dropout_convention"


def _share(given: dict[str, Any], out: Any) -> str:
    """What p is the share of, by what dropout did: "kept" (since 2018), "dropped" or ""."""
    p, factors = given["dropout_param"]["p"], out / given["x"]
    kept = factors != 0
    for meaning, share in (("kept", p), ("dropped", 1 - p)):
        if np.allclose(factors[kept], 1 / share) and abs(kept.mean() - share) < 0.05:
            return meaning
    return ""


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    """Nothing that their code does to the random stream, prints or warns of shows outside.

    There is nothing to read, either: it would wait, unseen, in a breakpoint that was forgotten.
    """
    state, stdin = np.random.get_state(), sys.stdin
    sys.stdin = nowhere = io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
            warnings.catch_warnings(),
            np.errstate(all="ignore"),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        np.random.set_state(state)
        sys.stdin = stdin


def seconds(name: str, theirs: Functions) -> tuple[float, float] | None:
    """Seconds of theirs and ours of that name on data of a moderate size.

    None if theirs fails on it.
    """
    pair = next(p for p in GROUP_OF[name].pairs if name in p.functions)
    sides = []
    with _aside():
        try:
            for functions in (theirs, OURS):
                sides.append(_timed(pair, name, functions))
        except Exception:
            return None
    return sides[0], sides[1]


_TURNS, _PATIENCE = 6, 0.2  # calls, seconds
#: Idle threads of BLAS and OpenMP go on spinning for a while, and would be charged to the next.
_PAUSE = 0.05


def _timed(pair: Pair, name: str, functions: Functions) -> float:
    forward = pair.functions[0]
    given = arguments(forward, pair.timed)
    times: list[float] = []
    time.sleep(_PAUSE)
    while len(times) < 2 or (len(times) < _TURNS and sum(times) < _PATIENCE):
        call: Iterable[Any] = given.values()
        if name != forward:
            out, cache = functions[forward](*call)
            call = np.ones_like(out), cache
        start = time.perf_counter()
        functions[name](*call)
        times.append(time.perf_counter() - start)
    # The first call is not counted. The least, since a busy machine makes a call of two threads
    # wait for whole time slices, and there are too few calls for a median to be free of that.
    return min(times[1:])
