"""TRL's options from a page and from flags; and what the installed TRL does with those that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_kit import logged, make_model, note, small_run, tried

from solon.errors import BadInput
from solon.training import options
from solon.training.job import Job

pytest.importorskip("trl")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("runs") / "harmless-3f2a")


def config_for(task: str, *sets: str, file: Path | None = None, lora: bool = False, rows: int = 100) -> Any:
    """Return TRL's config for options, for a model of a million weights on a CPU."""
    import trl

    from solon.training.base import Base

    kind = {"sft": trl.SFTConfig, "reward": trl.RewardConfig, "dpo": trl.DPOConfig}[task]
    base = Base("tiny", 1_000_000, 2048, "cpu", tokenizer=None)  # type: ignore[arg-type]
    given = options.accept(kind, options.read(sets, file))
    return options.build(kind, Job(task, (), "tiny", Path("out"), Path("cache"), given, lora), base, rows)


def test_a_flag_wins_over_the_file_and_the_file_over_our_default(tiny: Path, run: Path, tmp_path: Path) -> None:
    page = tmp_path / "dpo.yaml"
    page.write_text("learning_rate: 1e-4\nbeta: 0.3\nper_device_train_batch_size: 3\n")
    done, _ = tried("dpo", run, tiny, tmp_path / "out", "beta=0.7", options_file=page)
    chosen = note(done)["options"]
    assert (chosen["learning_rate"], chosen["beta"], chosen["per_device_train_batch_size"]) == (1e-4, 0.7, 3)
    assert chosen["lr_scheduler_type"] == "cosine"
    assert logged(done, "learning_rate")[0] == 1e-4


def test_every_mistake_in_page_and_flags_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    page = tmp_path / "dpo.yaml"
    page.write_text("beta: 0.1\nlearning_rat: 1e-5\nmax_steps: soon\n")
    with pytest.raises(BadInput) as caught:
        config_for("dpo", "lr=1", "output_dir=x", "hub_token=secret", file=page)
    assert caught.value.problems == (
        f"{page}:2: unknown option 'learning_rat'; did you mean learning_rate?",
        f"{page}:3: max_steps is 'soon'; expected a whole number (input should be a valid integer, unable to parse "
        "string as an integer)",
        "--set: unknown option 'lr'; did you mean learning_rate?",
        "--set: output_dir is not set here; use --output",
        "--set: hub_token is not set here; a secret has no place in a command or a file: set HF_TOKEN in the "
        "environment",
    )


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["beta"], "--set beta: write it as key=value"),
        (["beta=1", "beta=2"], "beta is already set to 1; keep one"),
        (["beta=[1"], r"--set beta=\[1:1: the '\[' that opens here"),
    ],
)
def test_a_flag_that_cannot_be_read_is_told(flags: list[str], what: str) -> None:
    with pytest.raises(BadInput, match=what):
        options.read(flags, None)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("learning_rate=1e-5", "learning_rate", 1e-5),
        ("learning_rate=1", "learning_rate", 1.0),
        ("max_length=null", "max_length", None),
        ("loss_type=robust", "loss_type", ["robust"]),
        ("loss_type=[sigmoid, sft]", "loss_type", ["sigmoid", "sft"]),
        ("model_init_kwargs={dtype: bfloat16}", "model_init_kwargs", {"dtype": "bfloat16"}),
        ("run_name=2026", "run_name", "2026"),
        ("precompute_ref_log_probs=true", "precompute_ref_log_probs", True),
        ("save_strategy=no", "save_strategy", "no"),
    ],
)
def test_values_are_yaml_of_the_type_that_trl_names(text: str, name: str, value: object) -> None:
    assert getattr(config_for("dpo", text), name) == value


@pytest.mark.parametrize("text", ["learning_rate=fast", "max_steps=1.5", "learning_rate=true", "beta=.nan", "bf16=2"])
def test_values_of_another_type_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match=f"--set: {text.split('=')[0]} is .*; expected "):
        config_for("dpo", text)


def test_what_trl_itself_refuses_comes_back_as_one_line() -> None:
    with pytest.raises(BadInput, match=r"--set: TRL does not take these options: .*loss_weights.* same length"):
        config_for("dpo", "loss_weights=[1, 2]")
    with pytest.raises(BadInput, match="sometimes is not a valid IntervalStrategy"):
        config_for("dpo", "eval_strategy=sometimes")


def test_defaults_follow_the_task_the_size_the_device_and_lora() -> None:
    def rate(task: str, parameters: float, lora: bool = False) -> float:
        ours = options.defaults(task, parameters=int(parameters), positions=4096, device="cpu", lora=lora)
        return float(ours["learning_rate"])

    assert rate("dpo", 135e6) == 5e-6
    assert rate("dpo", 7e9) == 1e-6
    assert rate("dpo", 135e6, lora=True) == pytest.approx(10 * rate("dpo", 135e6))
    assert rate("sft", 135e6) > rate("reward", 135e6) > rate("dpo", 135e6)
    cpu = options.defaults("dpo", parameters=10**8, positions=256, device="cpu", lora=False)
    gpu = options.defaults("dpo", parameters=7 * 10**9, positions=4096, device="cuda", lora=True)
    assert (cpu["use_cpu"], cpu["bf16"], cpu["activation_checkpointing"], cpu["max_length"]) == (
        True,
        False,
        False,
        256,
    )
    assert (gpu["use_cpu"], gpu["bf16"], gpu["activation_checkpointing"], gpu["max_length"]) == (
        False,
        True,
        True,
        1024,
    )
    assert gpu["model_init_kwargs"] == {"dtype": "bfloat16"}
    assert gpu["per_device_train_batch_size"] * gpu["gradient_accumulation_steps"] == 16


def test_few_steps_have_no_warm_up_and_many_have_one() -> None:
    assert config_for("dpo", rows=100).warmup_steps == 0.1
    assert config_for("dpo", rows=12).warmup_steps == 0
    assert config_for("dpo", "max_steps=5").warmup_steps == 0
    assert config_for("dpo", "warmup_steps=3", "max_steps=5").warmup_steps == 3


def test_the_older_name_of_checkpointing_is_not_lost_against_our_default() -> None:
    assert config_for("dpo").activation_checkpointing is False
    assert config_for("dpo", "gradient_checkpointing=true").activation_checkpointing is True
    assert config_for("dpo", "activation_checkpointing=true").activation_checkpointing is True


def test_another_trl_than_the_tested_one_is_said_aloud() -> None:
    said: list[str] = []
    for version in ("1.16.0", "1.16.7"):
        options.warn_of_trl(version, said.append)
    assert said == []
    for version in ("1.15.2", "1.17.0", "2.0.0.dev0"):
        options.warn_of_trl(version, said.append)
    assert [line.split(" is not tested")[0] for line in said] == [
        "warning: TRL 1.15.2",
        "warning: TRL 1.17.0",
        "warning: TRL 2.0.0.dev0",
    ]
    assert "pip install 'trl>=1.16,<1.17'" in said[0]


@pytest.mark.parametrize(
    ("task", "sets", "what"),
    [
        ("dpo", ["label_smoothing=0.1"], "label_smoothing=0.1 would be ignored by TRL .* loss_type=robust"),
        ("dpo", ["label_smoothing=0.1", "loss_type=[sigmoid,sft]"], "label_smoothing=0.1 would be ignored"),
        ("dpo", ["label_smoothing=0.5", "loss_type=robust"], r"label_smoothing=0.5 .*must lie in \[0, 0.5\)"),
        ("dpo", ["loss_type=exo_pair"], r"our defaults: label_smoothing=0.0 is outside \(0, 1\)"),
        ("dpo", ["use_weighting=true", "loss_type=[sigmoid, sft]"], "crashes TRL with loss_type sft"),
        ("dpo", ["use_weighting=true", "loss_type=hinge"], "crashes TRL with loss_type hinge"),
        ("dpo", ["f_divergence_type=forward_kl", "loss_type=nca_pair"], "has no meaning for loss_type nca_pair"),
        ("dpo", ["f_divergence_type=kl"], "f_divergence_type=kl is not known; choose from"),
        ("dpo", ["f_divergence_type=forward_kl", "loss_type=sft"], "f_divergence_type=forward_kl would be ignored"),
        ("dpo", ["f_alpha_divergence_coef=0.3"], "acts only with f_divergence_type=alpha_divergence"),
        ("dpo", ["loss_type=dpo"], r"loss_type=\['dpo'\] is not known: dpo; choose from aot, "),
        ("dpo", ["beta=0.3", "loss_type=sft"], "beta=0.3 would be ignored"),
        ("dpo", ["beta=0"], "beta=0.0 must be above 0"),
        ("dpo", ["ld_alpha=2"], "ld_alpha=2.0 is a share"),
        ("dpo", ["ld_alpha=0.5", "loss_type=sft"], "ld_alpha=0.5 would be ignored"),
        ("dpo", ["discopop_tau=0.1"], "acts only with loss_type=discopop"),
        ("dpo", ["padding_free=true"], "padding_free=True would be ignored"),
        ("dpo", ["precompute_ref_batch_size=4"], "acts only with precompute_ref_log_probs=true"),
        ("dpo", ["ref_model_sync_steps=4"], "acts only with sync_ref_model=true"),
        ("dpo", ["ref_model_mixup_alpha=0.4"], "acts only with sync_ref_model=true"),
        ("dpo", ["sync_ref_model=true", "precompute_ref_log_probs=true"], "precompute_ref_log_probs keeps none"),
        ("dpo", ["label_smoothing_factor=0.1"], "label_smoothing_factor=0.1 would be ignored"),
        ("reward", ["label_smoothing_factor=0.1"], "label_smoothing_factor=0.1 would be ignored"),
        ("sft", ["label_smoothing_factor=0.1", "loss_type=dft"], "loss_type=dft has its own loss"),
        ("sft", ["packing_strategy=wrapped"], "acts only with packing=true"),
        ("sft", ["dataset_text_field=words"], "has prompt and completion"),
        ("sft", ["dataset_kwargs={skip_prepare_dataset: true}"], "leave the texts untokenised"),
        ("reward", ["train_sampling_strategy=group_by_length"], "pairs have two"),
        ("dpo", ["max_steps=3", "num_train_epochs=2"], "num_train_epochs=2.0 would be ignored"),
        ("dpo", ["eval_steps=5"], "acts only with eval_strategy=steps"),
        ("dpo", ["eval_delay=5"], "acts only with an eval_strategy"),
        ("dpo", ["save_steps=5"], "acts only with save_strategy=steps"),
        ("dpo", ["save_total_limit=2"], "acts only with a save_strategy"),
        ("dpo", ["save_only_model=true"], "acts only with a save_strategy"),
        ("dpo", ["logging_steps=5", "logging_strategy=epoch"], "acts only with logging_strategy=steps"),
        ("dpo", ["metric_for_best_model=loss"], "acts only with load_best_model_at_end=true"),
        ("dpo", ["gradient_checkpointing_kwargs={use_reentrant: true}"], "activation_checkpointing=true"),
        ("dpo", ["hub_model_id=me/model"], "acts only with push_to_hub=true"),
        ("dpo", ["length_column_name=size"], "acts only with train_sampling_strategy"),
        ("dpo", ["max_length=4096"], "max_length=4096 is longer than the model's context of 512 tokens"),
        ("dpo", ["activation_offloading=true"], "trains on the CPU"),
        ("dpo", ["lora_r=8"], "lora_r acts only with --lora"),
    ],
)
def test_an_option_that_would_do_nothing_or_crash_is_refused(
    task: str, sets: list[str], what: str, tiny: Path, run: Path, tmp_path: Path
) -> None:
    from solon.training import guards

    config = config_for(task, *sets)
    given = options.accept(type(config), options.read(sets, None))
    with pytest.raises(BadInput, match=what):
        guards.check(Job(task, (), "tiny", tmp_path, tmp_path, given), config, test_rows=4, positions=512)


def test_saying_a_default_aloud_is_harmless(tiny: Path, run: Path, tmp_path: Path) -> None:
    tried("dpo", run, tiny, tmp_path / "out", "label_smoothing=0.0", "max_steps=1")


def test_lora_options_shape_the_adapter_and_bad_ones_are_refused(tiny: Path, run: Path, tmp_path: Path) -> None:
    from peft import PeftConfig

    sets = ("lora_r=4", "lora_alpha=12", "lora_dropout=0.1", "lora_target_modules=[q_proj, v_proj]")
    done, _ = tried("dpo", run, tiny, tmp_path / "out", *sets, lora=True)
    made: Any = PeftConfig.from_pretrained(done.folder)
    assert (made.r, made.lora_alpha, made.lora_dropout) == (4, 12, 0.1)
    assert set(made.target_modules) == {"q_proj", "v_proj"}
    assert note(done)["options"]["lora_r"] == 4
    plain, _ = tried("dpo", run, tiny, tmp_path / "plain", lora=True)
    made = PeftConfig.from_pretrained(plain.folder)
    assert (made.r, len({name.rpartition(".")[2] for name in made.target_modules})) == (16, 7)
    with pytest.raises(BadInput, match="lora_r is 0; it must be 1 or more"):
        tried("dpo", run, tiny, tmp_path / "none", "lora_r=0", lora=True)
    with pytest.raises(BadInput, match="needs a reference model of its own, and --lora keeps none"):
        tried("dpo", run, tiny, tmp_path / "sync", "sync_ref_model=true", lora=True)


def test_testing_on_the_way_needs_a_test_split(tiny: Path, tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", test=0)
    for text in ("eval_strategy=epoch", "eval_on_start=true"):
        with pytest.raises(BadInput, match="needs a test split, and the dataset has none"):
            tried("dpo", run, tiny, tmp_path / "out", text)


def trl_losses(tiny: Path, run: Path, folder: Path, task: str = "dpo", **more: Any) -> list[float] | str:
    """Return the two losses of stock TRL, with none of our guards, or the name of what it raises."""
    import trl
    from datasets import load_dataset
    from transformers import PrinterCallback

    config, trainer = {
        "dpo": (trl.DPOConfig, trl.DPOTrainer),
        "reward": (trl.RewardConfig, trl.RewardTrainer),
        "sft": (trl.SFTConfig, trl.SFTTrainer),
    }[task]
    view = {"dpo": "preference"}.get(task, task)
    chosen = {
        "max_steps": 2, "per_device_train_batch_size": 4, "logging_steps": 1, "learning_rate": 1e-2, "use_cpu": True,
        "bf16": False, "activation_checkpointing": False, "save_strategy": "no", "disable_tqdm": True,
        "dataloader_pin_memory": False, **more,
    }  # fmt: skip
    try:
        rows = load_dataset(str(run / "dataset"), view, split="train", cache_dir=str(folder / "cache"))
        made = trainer(model=str(tiny), args=config(output_dir=str(folder), **chosen), train_dataset=rows)
        made.remove_callback(PrinterCallback)
        made.train()
    except (RuntimeError, NotImplementedError, ValueError) as error:
        return type(error).__name__
    return [each["loss"] for each in made.state.log_history if "loss" in each]


def test_trl_still_ignores_label_smoothing_in_its_default_loss(tiny: Path, run: Path, tmp_path: Path) -> None:
    """Where this fails TRL has cDPO again: take the guard out."""
    plain = trl_losses(tiny, run, tmp_path, loss_type=["sigmoid"])
    assert plain == trl_losses(tiny, run, tmp_path, loss_type=["sigmoid"], label_smoothing=0.4)
    assert plain != trl_losses(tiny, run, tmp_path, loss_type=["robust"], label_smoothing=0.4)


def test_the_tables_of_losses_say_what_trl_does(tiny: Path, run: Path, tmp_path: Path) -> None:
    from solon.training.guards import DPO_LOSSES, F_DIVERGENCE, LABEL_SMOOTHING, NO_WEIGHTING

    for loss in sorted(DPO_LOSSES):
        plain = trl_losses(tiny, run, tmp_path, loss_type=[loss], label_smoothing=0.1)
        assert isinstance(plain, list), loss
        smoother = trl_losses(tiny, run, tmp_path, loss_type=[loss], label_smoothing=0.3)
        assert (smoother != plain) == (loss in LABEL_SMOOTHING), loss
        weighted = trl_losses(tiny, run, tmp_path, loss_type=[loss], label_smoothing=0.1, use_weighting=True)
        assert isinstance(weighted, str) == (loss in NO_WEIGHTING), loss
        if loss not in F_DIVERGENCE:
            other = trl_losses(
                tiny, run, tmp_path, loss_type=[loss], label_smoothing=0.1, f_divergence_type="forward_kl"
            )
            assert other == (plain if loss == "sft" else "ValueError"), loss
    assert trl_losses(tiny, run, tmp_path, loss_type=["cpo"]) == "ValueError"


@pytest.mark.parametrize(
    ("task", "base", "ignored"),
    [
        ("dpo", {}, {"label_smoothing_factor": 0.3}),
        ("dpo", {}, {"padding_free": True}),
        ("dpo", {}, {"num_train_epochs": 7}),
        ("dpo", {"loss_type": ["sft"]}, {"beta": 0.9, "ld_alpha": 0.5}),
        ("reward", {}, {"label_smoothing_factor": 0.3}),
        ("sft", {"loss_type": "dft"}, {"label_smoothing_factor": 0.3}),
        ("sft", {}, {"packing_strategy": "wrapped", "dataset_text_field": "words"}),
    ],
)
def test_trl_still_ignores_what_is_refused(
    task: str, base: dict[str, Any], ignored: dict[str, Any], tiny: Path, run: Path, tmp_path: Path
) -> None:
    plain = trl_losses(tiny, run, tmp_path, task, **base)
    assert isinstance(plain, list)
    assert plain == trl_losses(tiny, run, tmp_path, task, **base, **ignored)
