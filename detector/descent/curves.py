"""Training curves as charts and as CSV."""

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


def write_curves(folder: Path, history: Sequence[Epoch], loss: str, score: str, axis: str, last: bool = True) -> None:
    """Write ``history.csv``, ``loss.svg`` and, with held-out photographs, ``accuracy.svg`` of the epochs so far.

    Charts take 0.2 s, so a long training draws them less and less often: ten times while the epochs grow tenfold.

    Parameters
    ----------
    folder : Path
    history : sequence of Epoch
        At least one.
    loss, score : str
        Names of the loss and of the held-out score.
    axis : str
        Axis label of the score.
    last : bool
        No epoch follows: draw the charts in any case.
    """
    write_text(folder / "history.csv", history_table(history))
    epochs = len(history)
    if epochs % max(1, epochs // 10) and not last:
        return
    save_figure(folder / "loss.svg", loss_chart(history, "Training", loss))
    if any(epoch.held_out_score is not None for epoch in history):
        save_figure(folder / "accuracy.svg", score_chart(history, score, axis))


def loss_chart(history: Sequence[Epoch], title: str, axis: str, training: str = "training") -> Figure:
    """Chart of the loss of each epoch on the training set (the line named ``training``) and on the held-out set."""
    lines = [_line(training, [epoch.loss for epoch in history])]
    held_out = [epoch.held_out_loss for epoch in history]
    if any(loss is not None for loss in held_out):
        lines.append(_line("held out", held_out))
    return line_chart(title, lines, _EPOCHS, Axis(axis))


def score_chart(history: Sequence[Epoch], score: str, axis: str) -> Figure:
    """Chart of the held-out score and, if known, the top-5 accuracy of each epoch; the axis covers at least 0 to 1."""
    lines = [_line(score, [epoch.held_out_score for epoch in history])]
    top5 = [epoch.held_out_top5 for epoch in history]
    if any(accuracy is not None for accuracy in top5):
        lines.append(_line("top-5", top5))
    return line_chart("Held-out photographs, one view", lines, _EPOCHS, Axis(axis, (0.0, 1.0)))


def history_table(history: Sequence[Epoch]) -> str:
    """CSV with one row per epoch; the columns are the same for all trainings, missing values are empty."""
    names = [field.name for field in fields(Epoch)]
    rows = [",".join(_text(getattr(epoch, name)) for name in names) for epoch in history]
    return "\n".join([",".join(names), *rows]) + "\n"


_EPOCHS = Axis("epoch", whole=True)


def _line(name: str, values: Sequence[float | None]) -> Line:
    """Line with one value per epoch."""
    return Line(name, range(1, len(values) + 1), values)


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
