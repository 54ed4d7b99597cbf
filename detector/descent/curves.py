"""The course of a training as plots and as numbers."""

from __future__ import annotations

from pathlib import Path

from ...data.store import write_text
from ...eval.chart import Axis, Line, line_chart
from .descent import Epoch


def write_curves(folder: Path, history: list[Epoch], loss: str, score: str) -> None:
    """``history.csv``, ``loss.svg`` and, with held-out photographs, ``accuracy.svg`` of the epochs so far.

    Parameters
    ----------
    folder : Path
    history : list of Epoch
        At least one.
    loss, score : str
        What the loss and the held-out score are called.
    """
    epochs = [float(epoch.number) for epoch in history]
    lines = [Line("training", epochs, [epoch.loss for epoch in history])]
    names = list(Epoch.__dataclass_fields__)
    rows = [",".join(_text(getattr(epoch, name)) for name in names) for epoch in history]
    write_text(folder / "history.csv", "\n".join([",".join(names), *rows]) + "\n")
    if history[0].held_out_loss is not None:
        lines.append(Line("held out", epochs, [epoch.held_out_loss or 0.0 for epoch in history]))
        drawn = [Line(score, epochs, [epoch.held_out_score or 0.0 for epoch in history])]
        if history[0].held_out_top5 is not None:
            drawn.append(Line("top-5", epochs, [epoch.held_out_top5 or 0.0 for epoch in history]))
        chart = line_chart("Held-out photographs, one view", drawn, Axis("epoch"), Axis("accuracy", (0.0, 1.0)))
        write_text(folder / "accuracy.svg", chart)
    write_text(folder / "loss.svg", line_chart("Training", lines, Axis("epoch"), Axis(loss)))


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
