"""The course of a training as plots and as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from ...data.store import write_text
from ...eval.figures import Axis, save_figure
from ...eval.plots import Line, line_chart
from .epochs import Epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_curves(folder: Path, history: Sequence[Epoch], loss: str, score: str, axis: str) -> None:
    """``history.csv``, ``loss.svg`` and, with held-out photographs, ``accuracy.svg`` of the epochs so far.

    Parameters
    ----------
    folder : Path
    history : sequence of Epoch
        At least one.
    loss, score : str
        What the loss and the held-out score are called.
    axis : str
        The quantity that the score is, the axis's label.
    """
    write_text(folder / "history.csv", history_table(history))
    save_figure(folder / "loss.svg", loss_chart(history, "Training", loss))
    if any(epoch.held_out_score is not None for epoch in history):
        save_figure(folder / "accuracy.svg", score_chart(history, score, axis))


def loss_chart(history: Sequence[Epoch], title: str, axis: str, training: str = "training") -> Figure:
    """The loss of every epoch, on what is learnt from (the line called ``training``) and on what is held out."""
    lines = [_line(training, [epoch.loss for epoch in history])]
    held_out = [epoch.held_out_loss for epoch in history]
    if any(loss is not None for loss in held_out):
        lines.append(_line("held out", held_out))
    return line_chart(title, lines, _EPOCHS, Axis(axis))


def score_chart(history: Sequence[Epoch], score: str, axis: str) -> Figure:
    """The held-out score of every epoch and, where there is one, the top-5 accuracy; the axis holds 0 to 1 and all."""
    lines = [_line(score, [epoch.held_out_score for epoch in history])]
    top5 = [epoch.held_out_top5 for epoch in history]
    if any(accuracy is not None for accuracy in top5):
        lines.append(_line("top-5", top5))
    return line_chart("Held-out photographs, one view", lines, _EPOCHS, Axis(axis, (0.0, 1.0)))


def history_table(history: Sequence[Epoch]) -> str:
    """A row of CSV for each epoch, under the same names for every training; what is missing stays empty."""
    names = [field.name for field in fields(Epoch)]
    rows = [",".join(_text(getattr(epoch, name)) for name in names) for epoch in history]
    return "\n".join([",".join(names), *rows]) + "\n"


_EPOCHS = Axis("epoch", whole=True)


def _line(name: str, values: Sequence[float | None]) -> Line:
    """A value for each epoch from the first on."""
    return Line(name, range(1, len(values) + 1), values)


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
