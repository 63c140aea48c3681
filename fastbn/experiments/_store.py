"""Results on disk, each under what it is the result of."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from .._atomic import atomic_write


class Store:
    """A folder with one file for every finished result.

    The name of a file is a digest of its key: whatever a result depends on is part of the key, so
    that a changed option is another file. Files are written whole or not at all. One that was
    damaged or changed by hand all the same (its digest tells) counts as not there.

    Parameters
    ----------
    out : str or path-like or None
        Where the folder is made when the first result is saved. With None nothing is kept.
    name : str
        Of the folder.

    Raises
    ------
    TypeError
        If `out` is none of these.
    """

    def __init__(self, out: str | os.PathLike[str] | None, name: str) -> None:
        if not isinstance(out, (str, os.PathLike, type(None))):
            raise TypeError(f"out must be a folder or None; got {out!r}")
        self.folder = None if out is None else os.path.join(out, name)

    def load(self, key: dict[str, Any]) -> Any:
        """Return the result that was saved under `key`, None if there is none."""
        if self.folder is None:
            return None
        try:
            with open(self._path(key), "rb") as file:
                content = json.load(file)
            whole = _digest(content["key"]) == _digest(key)
            whole &= content["sha256"] == _digest(content["value"])
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, RecursionError):  # the last: brackets in brackets
            return None
        return content["value"] if whole else None

    def save(self, key: dict[str, Any], value: Any) -> None:
        """Keep a result; raises OSError if it cannot be written."""
        if self.folder is None:
            return
        os.makedirs(self.folder, exist_ok=True)
        content = {"key": key, "sha256": _digest(value), "value": value}
        with atomic_write(self._path(key)) as file:
            file.write(json.dumps(content, allow_nan=False).encode())

    def _path(self, key: dict[str, Any]) -> str:
        assert self.folder is not None
        return os.path.join(self.folder, f"{_digest(key)[:32]}.json")


def _digest(value: Any) -> str:
    # Strict JSON, which has no NaN. Numbers are written to the bit.
    text = json.dumps(value, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
