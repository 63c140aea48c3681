"""How many cores this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterator


def cores() -> int:
    """Cores by affinity and by the quotas of the control groups that the process is in."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return min(count, quota() or count)


def quota(root: str = "/") -> int | None:
    """The least quota of all control groups, in whole cores; None without one.

    `root` is where ``proc`` and ``sys`` are.
    """
    return min(_quotas(root), default=None)


def _quotas(root: str) -> Iterator[int]:
    for folder, files in _groups(root):
        try:
            text = []
            for name in files:
                with open(os.path.join(folder, name)) as file:
                    text += file.read().split()
            allowed, period = text  # microseconds; "max" and -1 are no quota
            if allowed != "max" and int(allowed) > 0:
                yield max(1, -(-int(allowed) // int(period)))
        except (OSError, ValueError, ZeroDivisionError):
            pass  # the folder of another container, a kernel without quotas


def _groups(root: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The folder of every group of ours, up to the mount, and the files of its quota."""
    try:
        with open(os.path.join(root, "proc/self/cgroup")) as file:
            lines = file.read().splitlines()
    except (OSError, ValueError):
        lines = []
    for line in ("0::/", *lines):
        _, _, controllers_path = line.partition(":")
        controllers, _, path = controllers_path.partition(":")
        if not controllers:  # version 2; beside version 1 in a folder of its own
            mounts = ["sys/fs/cgroup", "sys/fs/cgroup/unified"]
            files: tuple[str, ...] = ("cpu.max",)
        elif "cpu" in controllers.split(","):
            mounts = ["sys/fs/cgroup/cpu", f"sys/fs/cgroup/{controllers}"]
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        else:
            continue
        # A container sees its own group as the root of the mount, under the path that it has
        # outside: then only the last of these folders is there.
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        for mount in mounts:
            for depth in range(len(parts), -1, -1):
                yield os.path.join(root, mount, *parts[:depth]), files
