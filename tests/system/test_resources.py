# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import math
import os
from pathlib import Path

import cv2
import pytest

from foveate.errors import InputError
from foveate.runtime.devices import CpuDevice
from foveate.system import resources as cores
from foveate.system.resources import cpu_quota, remedy_of, usable_cores


def system(root: Path, groups: str, **files: str) -> Path:
    """A directory like `/`: what a process is told of its groups, and files below sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


V1 = "4:cpu,cpuacct:/jobs/mine\n3:cpuset:/jobs\n1:name=systemd:/\n"


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000\n", "a/cpu.max": "200000 100000\n"}, 0.5),
        ("0::/host/path\n", {"cpu.max": "300000 100000\n"}, 3),  # as in a container
        ("0::/a:b\n", {"a:b/cpu.max": "300000 100000\n"}, 3),
        ("1:name=systemd:/\n0::/a\n", {"unified/a/cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "nonsense\n"}, math.inf),
        ("0::/\n", {"cpu.max": "0 0\n"}, math.inf),
        ("nonsense\n", {}, math.inf),
        (
            V1,
            {
                "cpu,cpuacct/jobs/mine/cpu.cfs_quota_us": "250000\n",
                "cpu,cpuacct/jobs/mine/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            V1,
            {
                "cpu/jobs/mine/cpu.cfs_quota_us": "-1\n",
                "cpu/jobs/mine/cpu.cfs_period_us": "100000\n",
                "cpu/jobs/cpu.cfs_quota_us": "100000\n",
                "cpu/jobs/cpu.cfs_period_us": "50000\n",
            },
            2,
        ),
        (
            "3:cpuset:/\n",  # another controller's directory is not asked
            {"cpuset/cpu.cfs_quota_us": "1\n", "cpuset/cpu.cfs_period_us": "1\n"},
            math.inf,
        ),
    ],
)
def test_the_smallest_quota_of_a_control_group_and_its_parents_counts(
    tmp_path: Path, groups: str, files: dict[str, str], quota: float
) -> None:
    assert cpu_quota(system(tmp_path, groups, **files)) == quota


def test_a_system_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) == math.inf


@pytest.mark.parametrize(
    ("quota", "mask", "expected"),
    [(math.inf, 8, 8), (2.0, 8, 2), (1.5, 8, 2), (0.1, 8, 1), (16.0, 4, 4)],
)
def test_cores_are_those_of_mask_and_quota_rounded_up(
    monkeypatch: pytest.MonkeyPatch, quota: float, mask: int, expected: int
) -> None:
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(mask)), raising=False)
    assert usable_cores() == expected


def test_opencv_takes_no_more_threads_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        monkeypatch.setattr(cores, "cpu_quota", lambda: 1.0)
        CpuDevice()
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_space_is_to_be_freed_where_there_is_none(number: int) -> None:
    error = OSError(number, "no space")
    assert remedy_of(error, "choose another path") == "free some space, or choose another path"
    assert remedy_of(error, "stop", free="wait") == "wait, or stop"


def test_space_is_to_be_freed_where_the_cause_is_that_there_is_none() -> None:
    with pytest.raises(InputError) as caught:
        raise InputError("it cannot be written") from OSError(errno.ENOSPC, "no space")
    assert remedy_of(caught.value, "stop") == "free some space, or stop"


def test_space_is_not_to_be_freed_for_another_reason() -> None:
    assert remedy_of(NotADirectoryError(errno.ENOTDIR, "a file"), "choose it") == "choose it"
    assert remedy_of(ValueError("a NUL"), "choose it") == "choose it"
