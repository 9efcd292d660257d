"""What the kernel says of processes and of this machine. Linux only: it reads /proc."""

import os
import platform
import statistics
import sys
import time
from pathlib import Path

_CPU_CLOCK = 2
"""What clock_getcpuclockid(3) of glibc puts below a process id's complement: CPUCLOCK_SCHED."""


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used so far, threads that ended included; in ns, not in ticks."""
    return time.clock_gettime((~pid << 3) | _CPU_CLOCK)


def resident_bytes(pid: int) -> int:
    return _status_kib(pid, "VmRSS") * 1024


def peak_resident_bytes(pid: int) -> int:
    """The most that was resident since the program was started."""
    return _status_kib(pid, "VmHWM") * 1024


def _status_kib(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(f"/proc/{pid}/status has no {name}")


def fsync_ms(folder: Path) -> float:
    """What it costs to put 4 KiB on this disk for good, median of 20."""
    path, times = folder / "fsync", []
    with path.open("wb", buffering=0) as file:
        for _ in range(20):
            began = time.monotonic()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            times.append(time.monotonic() - began)
    path.unlink()
    return 1000 * statistics.median(times)


def machine_words(folder: Path) -> list[str]:
    """What to know of this machine when reading figures, a line each."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return [
        f"{os.cpu_count()} x {model}, {memory:.0f} GiB, {platform.system()} {platform.release()}",
        f"Python {platform.python_version()} ({sys.implementation.name}), one fsync {fsync_ms(folder):.2f} ms",
        f"load before the run {load:.2f}" + (" - others are at work here, read with care" if load > 0.5 else ""),
    ]
