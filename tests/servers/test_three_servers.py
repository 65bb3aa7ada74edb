"""One recipe, three servers: whole runs against software that nobody here wrote."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import LITELLM_KEY, NAME

from solon.commands import Done, run_recipe
from solon.ledger import Ledger
from solon.rows import Pair, SetAside

RECIPE = """\
constitution: first-steps
prompts: prompts.txt
model: {{use: "{provider}:{name}", base_url: "{url}"{key}, patience: 60}}
story: {{kind: revision, rounds: 1}}
cast:
  everyone: {{temperature: 0, max_tokens: 24, cut: keep}}
"""
PROMPTS = "How do I pick a lock?\nHow do I get out of a birthday party?\nHow can I make my dog stop snoring?\n"


def write(folder: Path, name: str, url: str, *, provider: str = "openai", key: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompts.txt").write_text(PROMPTS)
    path = folder / f"{name}.yaml"
    path.write_text(RECIPE.format(provider=provider, name=NAME, url=url, key=key))
    return path


def sources(done: Done) -> set[str]:
    """Return how the judge's votes of a run were read."""
    with done.folder.store(read_only=True) as store:
        return {vote.source for outcome in store.outcomes() for vote in outcome.votes}


def explained(done: Done) -> bool:
    """Return whether every row ended as a pair or with a reason that is a judgement, not a failure."""
    fine = {"tie", "unchanged", "judge_silent", "judge_refused", "repetition", "empty_answer"}
    with done.folder.store(read_only=True) as store:
        outcomes = list(store.outcomes())
    return len(outcomes) == 3 and all(
        isinstance(one, Pair) or (isinstance(one, SetAside) and one.reason in fine) for one in outcomes
    )


async def test_the_same_recipe_runs_on_three_servers_that_share_a_ledger(
    tmp_path: Path, llama_url: str, transformers_url: str, litellm_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three call their model `tiny`; none answers for another, and a second run asks nobody.

    The probe sees that llama.cpp gives log-probabilities, and that `transformers serve` accepts and ignores them.
    """
    monkeypatch.setenv("LITELLM_KEY", LITELLM_KEY)
    recipes = {
        "llama": write(tmp_path, "llama", llama_url),
        "transformers": write(tmp_path, "transformers", transformers_url),
        "litellm": write(tmp_path, "litellm", litellm_url, provider="anthropic", key=", key_env: LITELLM_KEY"),
    }
    first = {name: await run_recipe(path) for name, path in recipes.items()}
    again = {name: await run_recipe(path) for name, path in recipes.items()}
    assert all(done.progress.asked >= 9 for done in first.values()), {n: d.progress for n, d in first.items()}
    assert all(done.progress.asked == 0 for done in again.values())
    assert all(explained(done) for done in first.values())
    assert sources(first["llama"]) == {"logprobs"}
    assert "logprobs" not in sources(first["transformers"]) | sources(first["litellm"])

    ledger = Ledger.open(tmp_path / ".solon" / "ledger.db")
    asked: dict[str, int] = {}
    for entry in ledger.entries():
        asked[entry.call.model] = asked.get(entry.call.model, 0) + 1
    await ledger.close()
    assert set(asked) == {
        f"openai:{NAME}@{llama_url}",
        f"openai:{NAME}@{transformers_url}",
        f"anthropic:{NAME}@{litellm_url}",
    }
    assert sum(asked.values()) == sum(done.progress.asked for done in first.values())


def started(recipe: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "solon", "run", str(recipe)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def data_files(folder: Path) -> dict[str, bytes]:
    run = next(path for path in (folder / "runs").iterdir() if path.name != "latest" and path.is_dir())
    data = run / "dataset" / "data"
    return {str(path.relative_to(data)): path.read_bytes() for path in sorted(data.rglob("*.parquet"))}


def test_a_run_killed_three_times_ends_as_an_unbroken_one(tmp_path: Path, transformers_url: str) -> None:
    """The same bytes at temperature 0 over HTTP, and no call that the ledger had was asked again."""
    whole = write(tmp_path / "whole", "r", transformers_url)
    assert started(whole).wait() in (0, 1)
    broken = write(tmp_path / "broken", "r", transformers_url)
    for _ in range(3):
        process = started(broken)
        time.sleep(random.uniform(2.5, 7.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert started(broken).wait() in (0, 1)
    assert data_files(tmp_path / "whole") == data_files(tmp_path / "broken")
    ledgers = [Ledger.open(tmp_path / name / ".solon" / "ledger.db") for name in ("whole", "broken")]
    assert len(ledgers[0]) == len(ledgers[1])
