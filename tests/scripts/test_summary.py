"""The last words of a training: figures from the card, the weakest class, and how little few objects say."""

import pytest
from sppnet.scripts.summary import next_commands, summary


def said(width=10**6, **counts):
    shown = {name: dict(zip(("shown", "right", "objects"), three, strict=True)) for name, three in counts.items()}
    return summary({"held_out": {"shown": shown}}, width)


def test_one_class():
    assert said(cat=(200, 160, 240)) == (
        "On photographs that it had not learnt from, the detector finds 67 % of the objects among what it shows by "
        "default, and 80 % of what it shows is right."
    )


def test_the_best_and_the_weakest_of_several():
    text = said(cat=(100, 90, 100), cow=(0, 0, 50), dog=(50, 20, 60), hen=(3, 1, 4))
    assert "finds 52 % of the objects" in text
    assert "Best is cat (90 % found, 90 % right), weakest cow (0 % found, none shown)." in text
    assert "Too few objects to judge: hen (4)." in text


def test_few_objects_say_little():
    text = said(cat=(18, 12, 20))
    # 2 * sqrt(0.59 * 0.41 / 20) is 0.22.
    assert "20 objects are few: these figures may be 22 points off, probabilities are rough" in text
    assert "few" not in said(cat=(90, 80, 100))
    assert "0 % of the objects" in said(cat=(0, 0, 3))
    assert "nothing of what it shows is right" in said(cat=(0, 0, 3))


@pytest.mark.parametrize("card", [{}, {"held_out": {"images": 3}}, {"held_out": {"shown": {}}}])
def test_nothing_is_known_without_a_score(card):
    assert "how good it is remains unknown" in summary(card)


def test_lines_are_short():
    assert max(map(len, said(60, cat=(18, 12, 20), dog=(30, 30, 30)).splitlines())) <= 60


def test_the_next_commands_can_be_typed():
    assert next_commands("my model.safetensors", "set")[1:] == [
        "  sppnet detect PHOTOGRAPHS --model 'my model.safetensors' -o found",
        "  sppnet evaluate set --set test --model 'my model.safetensors'",
    ]
