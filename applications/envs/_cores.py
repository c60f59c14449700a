import math
import os
from pathlib import Path


def count_cores(
    cgroups: Path = Path("/sys/fs/cgroup"), process: Path | None = None
) -> int:
    """Counts the cores that this process may use.

    Args:
        cgroups: Where control groups are mounted.
        process: The file that names the process's own groups; `/proc/self/cgroup`
            unless given.

    Returns:
        The number of cores that the scheduler may put it on, or the CPU quota of its
        container, rounded up, where that is less. At least 1.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    quota = _quota(cgroups, process or Path("/proc/self/cgroup"))
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(cgroups: Path, process: Path) -> float | None:
    """The least quota, in cores, of the process's groups and those around them."""
    try:
        lines = process.read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            root = cgroups
        elif "cpu" in controllers.split(","):
            root = cgroups / "cpu"
        else:
            continue
        group = root / path.lstrip("/")
        # In a container the path may be the host's: what is not there says nothing.
        while True:
            quotas += [x for x in (_version_2(group), _version_1(group)) if x]
            if group == root or root not in group.parents:
                break
            group = group.parent
    return min(quotas, default=None)


def _version_2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _version_1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
        return None if quota < 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
