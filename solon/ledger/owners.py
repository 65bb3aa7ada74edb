"""Who holds a lease: a process with its host, its birth and a heartbeat; and whether it still lives.

On the same host the kernel is asked whether the process lives, and its heartbeat is measured by the clock that counts
since the boot, which nobody sets. Elsewhere the heartbeat's time of day decides, so clocks of machines that share a
ledger must agree to within LEASE_SECONDS.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = ["LEASE_SECONDS", "alive", "born", "host", "me"]

LEASE_SECONDS = 30.0
"""How long a lease outlives the last heartbeat of its owner."""


@cache
def host() -> str:
    """Return where process ids mean what they mean here: the host, this boot of it, this container's id space."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "/".join(parts)


def born(pid: int) -> str:
    """Return when a process started, as the kernel counts it, so that a reused pid is not taken for its owner.

    "" for one that is dead but not buried by its parent, and where the kernel does not tell.
    """
    try:
        facts = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if facts[0] in "ZX" else facts[19]
    except (OSError, IndexError):
        return ""


def me() -> tuple[str, int, str, float, float]:
    """Return this process as an owner: host, pid, birth, and until when it is believed, by either clock."""
    pid = os.getpid()
    return host(), pid, born(pid), time.time() + LEASE_SECONDS, time.monotonic() + LEASE_SECONDS


def alive(where: str, pid: int, birth: str, until: float, ticks: float) -> bool:
    """Return whether the owner of a lease still works. A process that stopped beating is given up on any host.

    until: seconds since 1970; ticks: seconds since the boot of its host
    """
    if where != host():
        return until > time.time()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    if birth and born(pid) != birth:
        return False
    return ticks > time.monotonic()
