"""Starting, awaiting and ending a server; the names that the tests share."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "tiny"
START_SECONDS = 240.0
LITELLM_KEY = "sk-loopback-only-7f3a9c51d2e84b60"
"""Not a secret: the proxy refuses to start without a long key, and listens on loopback only."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def python_of(server: str) -> str:
    """Return the interpreter of a server's own virtual environment, or skip."""
    variable = f"SOLON_{server.upper()}_PYTHON"
    path = Path(os.environ.get(variable) or ROOT / ".venv-servers" / server / "bin" / "python")
    if not path.exists():
        pytest.skip(f"{server} is not installed: no {path}; `make test-servers` makes it, or set {variable}")
    return str(path)


@contextmanager
def running(command: list[str], ready_url: str, log: Path, **env: str) -> Iterator[None]:
    """Run a server until it answers at `ready_url`, and end it with all its children afterwards."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**os.environ, "OMP_NUM_THREADS": "1", **env},
            start_new_session=True,
        )
        try:
            wait_ready(process, ready_url, log)
            yield
        finally:
            stop(process)


def wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            pytest.fail(f"{process.args!r} ended with {process.returncode}:\n{tail(log)}")
        try:
            answer: IO[bytes]
            with urllib.request.urlopen(url, timeout=5) as answer:
                answer.read()
                return
        except urllib.error.HTTPError:
            return  # it answers, if only to say that it wants a key
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"{process.args!r} did not answer at {url} in {START_SECONDS:.0f} s:\n{tail(log)}")


def tail(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


def stop(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, sign)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            continue


def aimock() -> list[str]:
    """Return the command of aimock (npm, @copilotkit/aimock), or skip."""
    place = os.environ.get("SOLON_AIMOCK") or ROOT / ".venv-servers" / "aimock" / "node_modules" / ".bin" / "llmock"
    if not Path(place).exists() or shutil.which("node") is None:
        pytest.skip(f"aimock is not installed: no {place}; `make test-servers` makes it, or set SOLON_AIMOCK")
    return [str(place)]
