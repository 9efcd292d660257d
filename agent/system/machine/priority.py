"""How this process stands behind what its owner works with: for the processor, and for the disk.

Sources: setpriority(2), ioprio_set(2), setpriority(2) of macOS (PRIO_DARWIN_BG), SetPriorityClass of the Windows API.
"""

import logging
import os
import platform as machine
import sys
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

NICE = 10

IO_CLASS, IO_LEVEL = 2, 7
"""The last place of the usual class (best effort). The idle class could starve for as long as a disk is busy."""

_IOPRIO_SET: Mapping[str, int] = {
    "x86_64": 251,
    "i386": 289,
    "i686": 289,
    "aarch64": 30,
    "riscv64": 30,
    "loongarch64": 30,
    "armv6l": 314,
    "armv7l": 314,
    "ppc64le": 273,
    "s390x": 282,
}
"""Numbers of the system call, which the C library has no function for."""

_PRIO_DARWIN_PROCESS, _PRIO_DARWIN_BG = 4, 0x1000
_BELOW_NORMAL = 0x4000


def lower_priority(platform: str = sys.platform) -> None:
    """Best effort: before the first thread is started, which takes over what its maker has. Never raises."""
    steps: Mapping[str, tuple[Callable[[], None], ...]] = {
        "linux": (_be_nice, _be_last_at_the_disk),
        "darwin": (_be_nice, _be_in_the_background),
        "win32": (_be_below_normal,),
    }
    for step in steps.get(platform, ()):
        try:
            step()
        except (OSError, AttributeError, KeyError) as exc:
            log.debug("the priority stays as it is: %s", getattr(exc, "strerror", None) or type(exc).__name__)


if sys.platform != "win32":

    def _be_nice() -> None:
        """Whoever gave it an even lower priority meant that."""
        os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))

    def _be_in_the_background() -> None:
        os.setpriority(_PRIO_DARWIN_PROCESS, 0, _PRIO_DARWIN_BG)
else:

    def _be_nice() -> None:
        """Of POSIX."""

    def _be_in_the_background() -> None:
        """Of macOS."""


def _be_last_at_the_disk() -> None:
    import ctypes

    number = _IOPRIO_SET[machine.machine()]
    if ctypes.sizeof(ctypes.c_void_p) == 4 and machine.machine() in ("x86_64", "aarch64"):
        raise OSError(0, "a 32-bit process on a 64-bit kernel")
    process_itself = 1
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, process_itself, 0, IO_CLASS << 13 | IO_LEVEL) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _be_below_normal() -> None:
    import ctypes

    kernel = ctypes.CDLL("kernel32")
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    kernel.SetPriorityClass.argtypes = [ctypes.c_void_p, ctypes.c_ulong]
    if not kernel.SetPriorityClass(kernel.GetCurrentProcess(), _BELOW_NORMAL):
        raise OSError(0, "SetPriorityClass refused")
