"""Who still works: locks that the kernel gives back when their process ends, one byte of a file each.

    locks = Locks(path)
    locks.seize(7)        True: nobody else in this or another process has it, until `release(7)` or the process's end

POSIX record locks belong to a process and all go when it closes any handle of their file; so each file is opened once
in a process, and stays open.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

from solon.ledger.file import storage

__all__ = ["Locks"]

_FILES: dict[tuple[int, Path], int] = {}
_SEIZED: set[tuple[int, Path, int]] = set()
_GUARD = threading.Lock()


class Locks:
    """The locks in one file, which is made with the first of them. Raises StorageError."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def seize(self, byte: int) -> bool:
        """Return whether the lock is now the caller's; not where anybody has it, in this process or another."""
        # by process too: a fork keeps these tables, and none of the locks
        pid = os.getpid()
        with _GUARD, storage(self.path):
            if (pid, self.path, byte) in _SEIZED:
                return False
            if (pid, self.path) not in _FILES:
                _FILES[pid, self.path] = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.lockf(_FILES[pid, self.path], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except (BlockingIOError, PermissionError):
                return False
            _SEIZED.add((pid, self.path, byte))
            return True

    def release(self, byte: int) -> None:
        """Give back a lock that was seized here."""
        pid = os.getpid()
        with _GUARD, storage(self.path):
            _SEIZED.discard((pid, self.path, byte))
            fcntl.lockf(_FILES[pid, self.path], fcntl.LOCK_UN, 1, byte)
