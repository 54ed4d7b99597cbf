"""Training curves: read back from the figures and the table."""

import numpy as np
import pytest
from sppnet.detector.descent.curves import history_table, loss_chart, score_chart, write_curves
from sppnet.detector.descent.epochs import Epoch

HISTORY = [
    Epoch(1, 64, 0.1, 2.0, 1.5, -3.0, None),
    Epoch(2, 64, 0.1, 1.0, None, None, 0.75),
    Epoch(3, 64, 0.1, 0.5, 0.75, 0.25, 1.0),
]
NONE = np.nan


def drawn(figure):
    """The values of each line by the name in the legend; every line has a value for each epoch from 1 on."""
    axes = figure.axes[0]
    for line in axes.lines:
        assert line.get_xdata().tolist() == list(range(1, len(line.get_xdata()) + 1))
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    return dict(zip(names, [line.get_ydata().tolist() for line in axes.lines], strict=True))


def test_losses_are_drawn_and_missing_ones_leave_a_gap():
    figure = loss_chart(HISTORY, "Title", "cross-entropy", training="with dropout")
    lines = drawn(figure)
    assert lines["with dropout"] == [2.0, 1.0, 0.5]
    np.testing.assert_array_equal(lines["held out"], [1.5, NONE, 0.75])
    axes = figure.axes[0]
    assert (axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()) == ("Title", "epoch", "cross-entropy")


def test_scores_are_drawn_and_missing_ones_are_not_zero():
    figure = score_chart([Epoch(1, 64, 0.1, 2.0, 1.5, 0.5), *HISTORY[1:]], "top-1", "accuracy")
    lines = drawn(figure)
    np.testing.assert_array_equal(lines["top-1"], [0.5, NONE, 0.25])
    np.testing.assert_array_equal(lines["top-5"][1:], [0.75, 1.0])
    assert figure.axes[0].get_ylabel() == "accuracy"
    assert figure.axes[0].get_ylim() == pytest.approx((-0.02, 1.02))


def test_a_score_below_zero_is_not_cut_off():
    figure = score_chart(HISTORY, "explained variance", "explained variance")
    low, high = figure.axes[0].get_ylim()
    assert low < -3
    assert high > 1
    assert figure.axes[0].get_ylabel() == "explained variance"


def test_what_was_never_held_out_has_no_line_and_no_file(tmp_path):
    history = [Epoch(1, 64, 0.1, 2.0), Epoch(2, 64, 0.1, 1.0)]
    assert list(drawn(loss_chart(history, "t", "loss"))) == ["training"]
    write_curves(tmp_path, history, "loss", "top-1", "accuracy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "loss.svg"]


def test_files_of_a_training(tmp_path):
    write_curves(tmp_path, HISTORY, "loss", "mAP", "mean average precision")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["accuracy.svg", "history.csv", "loss.svg"]
    assert ">mean average precision<" in (tmp_path / "accuracy.svg").read_text()
    assert (tmp_path / "history.csv").read_text() == history_table(HISTORY)


def test_long_trainings_draw_fewer_charts_and_always_the_last(tmp_path):
    drawn_at = []
    for epochs in range(1, 61):
        history = [Epoch(number, 64, 0.1, 1.0) for number in range(1, epochs + 1)]
        write_curves(tmp_path, history, "loss", "top-1", "accuracy", last=epochs == 59)
        assert (tmp_path / "history.csv").read_text() == history_table(history)
        if (tmp_path / "loss.svg").is_file():
            (tmp_path / "loss.svg").unlink()
            drawn_at.append(epochs)
    assert drawn_at == [*range(1, 20), *range(20, 30, 2), *range(30, 40, 3), *range(40, 50, 4), 50, 55, 59, 60]


def test_the_table_has_the_fields_of_an_epoch():
    assert history_table(HISTORY).splitlines() == [
        "number,size,rate,loss,held_out_loss,held_out_score,held_out_top5",
        "1,64,0.1,2,1.5,-3,",
        "2,64,0.1,1,,,0.75",
        "3,64,0.1,0.5,0.75,0.25,1",
    ]
    # As of a fine-tuning, whose windows have no size.
    assert history_table([Epoch(1, None, 1 / 3, 2.0)]).splitlines()[1] == "1,,0.333333,2,,,"
