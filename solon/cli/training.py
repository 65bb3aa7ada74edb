"""`solon train`: one call into `solon.training`, and a few closing lines."""

from __future__ import annotations

from pathlib import Path

from solon.cli.screen import console
from solon.training import train

__all__ = ["train_runs"]


def train_runs(
    kind: str,
    runs: list[Path],
    *,
    model: str,
    output: Path | None,
    lora: bool,
    sets: list[str],
    options: Path | None,
    limit: int | None,
) -> None:
    """Train and say where everything lies."""
    out = console()
    done = train(
        kind, runs, model=model, output=output, lora=lora, sets=sets, options_file=options, limit=limit,
        say=out.print,
    )  # fmt: skip
    figures = ", ".join(f"{name} {value:.4g}" for name, value in done.metrics.items() if isinstance(value, int | float))
    out.print(f"trained on {done.rows} rows in {done.seconds:.0f} s: {figures}")
    out.print(f"model    {done.folder}\ncurves   {done.curves}\nlog      {done.log}")
