"""Curves of a training: every logged record as a line of JSON while it runs, and a picture when it ends.

    {"step": 12, "split": "train", "epoch": 0.5, "loss": 0.6641, "rewards/accuracies": 0.75, ...}

`split` is "train", "test", or "total" for the figures over the whole training. The file is written line by line, so
what a killed training had logged is there. Names are TRL's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from transformers import TrainerCallback

from solon.errors import SolonError

if TYPE_CHECKING:
    from solon.training.job import Job

__all__ = ["Panel", "Recorder", "draw"]

PNG, JSONL = "curves.png", "curves.jsonl"


@dataclass(frozen=True)
class Panel:
    """One curve of the picture.

    name:   the record's name for it, e.g. "rewards/margins"
    title:  what people call it
    unit:   of the vertical axis
    level:  the value of a model that learned nothing, drawn as a thin line; None for none
    means:  what that level is, in a word or two
    tied:   a record's name whose exact 0 says that nothing is decided yet, so that there is no value to show: DPO
            starts with every margin at 0, and TRL counts ties as wrong
    """

    name: str
    title: str
    unit: str
    level: float | None = None
    means: str = ""
    tied: str = ""

    def value(self, record: dict[str, Any]) -> float | None:
        """Return the record's finite value for this curve, or None."""
        value = record.get(self.name)
        if value is None or not math.isfinite(value) or (self.tied and record.get(self.tied) == 0):
            return None
        return float(value)


class Recorder(TrainerCallback):
    """Listens to a trainer: writes the records, says a line now and then, and draws at the end.

    As a context manager it draws whatever was logged when the block ends, be it by Ctrl-C.
    """

    def __init__(self, job: Job, panels: Sequence[Panel], title: str) -> None:
        self.job = job
        self.panels = tuple(panels)
        self.title = title
        self.records: list[dict[str, Any]] = []
        self.path = job.output / JSONL
        self.picture: Path | None = None
        self._file: TextIO | None = None

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if any(record["split"] != "total" for record in self.records):
            self.picture = draw(self.records, self.panels, self.title, self.path.with_name(PNG))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the records' file; after a resume, keep what was logged up to the checkpoint."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if state.global_step and self.path.exists():
            lines = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
            self.records = [line for line in lines if line["step"] <= state.global_step]
        self._file = self.path.open("w", encoding="utf-8")
        for record in self.records:
            self._write(record)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Write one record and say it. Raises SolonError where the loss is no number any more."""
        logs = dict(logs or {})
        split = "test" if any(name.startswith("eval_") for name in logs) else "train"
        split = "total" if "train_runtime" in logs else split
        values = {name.removeprefix("eval_"): value for name, value in logs.items() if name != "epoch"}
        record = {"step": state.global_step, "split": split, "epoch": state.epoch, **values}
        self.records.append(record)
        self._write(record)
        if split != "total":
            self._say(record, state.max_steps)
            if not math.isfinite(record.get("loss", 0.0)):
                raise SolonError(
                    f"the {split} loss is {record['loss']} at step {state.global_step}: the model is lost and was not "
                    f"saved; lower learning_rate ({args.learning_rate}), or max_grad_norm ({args.max_grad_norm})"
                )

    def last(self) -> dict[str, float]:
        """Return the last value of every record's name: "train/loss", "test/rewards/accuracies", "total/epoch"."""
        return {
            f"{record['split']}/{name}": value
            for record in self.records
            for name, value in record.items()
            if name not in ("step", "split") and isinstance(value, (int, float))
        }

    def ends(self) -> dict[str, float]:
        """Return the last value of every curve, under the names that people read: "test accuracy"."""
        found = {}
        for split in _COLOURS:
            for panel in self.panels:
                for record in self.records:
                    value = panel.value(record)
                    if record["split"] == split and value is not None:
                        found[f"{split} {panel.title.lower()}"] = value
        return found

    def tested(self, trainer: Any) -> bool:
        """Return whether the test split was evaluated on the weights that the trainer now holds."""
        last = trainer.state.global_step
        seen = any(record["split"] == "test" and record["step"] == last for record in self.records)
        return seen and not trainer.args.load_best_model_at_end

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is not None:
            plain = {name: _plain(value) for name, value in record.items()}
            self._file.write(json.dumps(plain, ensure_ascii=False) + "\n")
            self._file.flush()

    def _say(self, record: dict[str, Any], steps: int) -> None:
        values = ((panel.title.lower(), panel.value(record)) for panel in self.panels)
        shown = [f"{title} {value:.3f}" for title, value in values if value is not None]
        where = f"step {record['step']}/{steps}" if record["split"] == "train" else f"test at step {record['step']}"
        self.job.say(f"{where}: {', '.join(shown)}")


def draw(records: Sequence[dict[str, Any]], panels: Sequence[Panel], title: str, path: Path) -> Path:
    """Draw one panel a curve, train and test in each, over optimizer steps; return `path`, a PNG of 160 dpi."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = [panel for panel in panels if any(panel.value(record) is not None for record in records)]
    width, height = 4.3 * max(1, len(shown)), 3.9
    figure = Figure(figsize=(width, height), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    # inches around and between the panels; matplotlib's own layouts would draw everything twice to find them
    figure.subplots_adjust(0.75 / width, 0.6 / height, 1 - 0.15 / width, 1 - 0.72 / height, wspace=0.28)
    for panel, axes in zip(shown, figure.subplots(1, len(shown), squeeze=False)[0], strict=True):
        if panel.level is not None:
            axes.axhline(panel.level, color=_GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
            axes.annotate(
                panel.means,
                (1, panel.level),
                xycoords=("axes fraction", "data"),
                xytext=(-3, 3),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize=7.5,
                color=_DARK,
            )
        for split, colour in _COLOURS.items():
            measured = [(record["step"], panel.value(record)) for record in records if record["split"] == split]
            points = [(step, value) for step, value in measured if value is not None]
            if points:
                _line(axes, split, points, colour)
        axes.set_title(panel.title, fontsize=11, loc="left", color=_DARK, fontweight="bold")
        axes.set_xlabel("optimizer step", fontsize=9, color=_DARK)
        axes.set_ylabel(panel.unit, fontsize=9, color=_DARK)
        axes.tick_params(labelsize=8, colors=_DARK, length=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.grid(True, color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.margins(x=0.04, y=0.12)
        for side in ("top", "right", "left", "bottom"):
            axes.spines[side].set_visible(False)
        if panel.unit.startswith("share"):
            axes.set_ylim(-0.04, 1.04)
    figure.axes[0].legend(frameon=False, fontsize=8.5, labelcolor=_DARK)
    figure.suptitle(title, fontsize=10, x=0.12 / width, y=1 - 0.12 / height, ha="left", va="top", color=_DARK)
    figure.savefig(path)
    return path


def _line(axes: Any, split: str, points: list[tuple[float, float]], colour: str) -> None:
    """Draw one split. Long training curves are noisy: they get a smoothed line over the pale measured one."""
    steps, values = zip(*points, strict=True)
    if split == "test":
        axes.plot(steps, values, color=colour, marker="o", markersize=5, linewidth=1.4, label=split, zorder=4)
    elif len(points) < 30:
        axes.plot(steps, values, color=colour, marker=".", markersize=5, linewidth=1.6, label=split, zorder=3)
    else:
        axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3, zorder=2)
        axes.plot(steps, _smoothed(values), color=colour, linewidth=1.8, label=f"{split} (smoothed)", zorder=3)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Return the mean over a window of some sixth of the curve, centred so that nothing lags; it is cut at the ends."""
    reach = max(1, len(values) // 12)
    windows = [values[max(0, place - reach) : place + reach + 1] for place in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def _plain(value: Any) -> Any:
    """Return what JSON can hold: it has no nan."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


_GREY, _DARK = "#9a9a9a", "#333333"
_COLOURS = {"train": "#1f6f8b", "test": "#d1603d"}
