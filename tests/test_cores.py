"""Quotas of control groups, as the kernel shows them: both versions, nested, malformed, missing."""

import os

import pytest

from fastbn import _cores


def v2(text):
    return {"cpu.max": text}


def v1(quota, period=100000):
    return {"cpu.cfs_quota_us": f"{quota}\n", "cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        # Version 2: a container's own group is the root that it sees.
        ("0::/\n", {"": v2("150000 100000\n")}, 2),
        ("0::/\n", {"": v2("max 100000\n")}, None),
        ("0::/\n", {"": v2("1000 100000\n")}, 1),
        ("0::/a/b\n", {"a/b": v2("300000 100000\n"), "a": v2("max 100000\n")}, 3),
        ("0::/a/b\n", {"a/b": v2("900000 100000\n"), "a": v2("200000 100000\n")}, 2),
        ("0::/a/b\n", {"a/b": v2("max 100000\n"), "": v2("400000 100000\n")}, 4),
        ("0::/docker/1f\n", {"": v2("100000 100000\n")}, 1),  # the path is that outside
        ("0::/../../x\n", {"x": v2("200000 100000\n")}, 2),
        ("0::/x:y\n", {"x:y": v2("200000 100000\n")}, 2),
        # Version 1, whose folder is named after the controllers.
        ("4:memory:/m\n2:cpu:/\n", {"cpu/": v1(250000)}, 3),
        ("2:cpu:/\n", {"cpu/": v1(-1)}, None),
        ("3:cpu,cpuacct:/a\n", {"cpu,cpuacct/a": v1(200000)}, 2),
        ("3:cpuacct,cpu:/a\n", {"cpu/a": v1(200000)}, 2),
        ("3:cpu,cpuacct:/a/b\n", {"cpu,cpuacct/a": v1(50000), "cpu,cpuacct/a/b": v1(-1)}, 1),
        ("2:cpuset:/\n", {"cpuset/": v1(100000)}, None),
        # Both at once.
        ("2:cpu:/s\n0::/s\n", {"cpu/s": v1(300000), "unified/s": v2("max 100000")}, 3),
        ("2:cpu:/s\n0::/s\n", {"cpu/s": v1(-1), "unified/s": v2("100000 100000")}, 1),
        # Nonsense.
        ("0::/\n", {"": v2("")}, None),
        ("0::/\n", {"": v2("100000\n")}, None),
        ("0::/\n", {"": v2("many 100000\n")}, None),
        ("0::/\n", {"": v2("100000 0\n")}, None),
        ("0::/\n", {"": v2("-5 100000\n")}, None),
        ("0::/\n", {"": v2("1 2 3\n")}, None),
        ("0::/\n", {"": {"cpu.max": b"\xff\xfe"}}, None),
        ("2:cpu:/\n", {"cpu/": {"cpu.cfs_quota_us": "100000\n"}}, None),
        ("2:cpu:/\n", {"cpu/": v1(100000, 0)}, None),
        ("nonsense\n\n:\n::\n0::\n", {"": v2("200000 100000\n")}, 2),
        ("", {"": v2("200000 100000\n")}, 2),
        (None, {"": v2("200000 100000\n")}, 2),
        ("0::/\n", {}, None),
        (None, {}, None),
    ],
)
def test_quota(groups, files, expected, tmp_path):
    if groups is not None:
        (tmp_path / "proc" / "self").mkdir(parents=True)
        (tmp_path / "proc" / "self" / "cgroup").write_text(groups)
    for folder, contents in files.items():
        path = tmp_path / "sys" / "fs" / "cgroup" / folder
        path.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            content = content if isinstance(content, bytes) else content.encode()
            (path / name).write_bytes(content)
    assert _cores.quota(tmp_path) == expected


def test_cores_are_those_of_affinity_within_the_quota(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(6), raising=False)
    for quota, expected in ((None, 6), (2, 2), (6, 6), (50, 6)):
        monkeypatch.setattr(_cores, "quota", lambda quota=quota: quota)
        assert _cores.cores() == expected
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert _cores.cores() == 1
