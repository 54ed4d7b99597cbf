import numpy as np
import pytest
from sppnet.data import draw as draw_module
from sppnet.data.detections import Detections
from sppnet.data.draw import class_colour


def draw(boxes, height=120, width=160, names=("cat",)):
    image = np.full((height, width, 3), 128, np.uint8)
    found = Detections(boxes, np.linspace(1, 0.5, len(boxes)), np.arange(len(boxes)) % len(names), names)
    drawn = found.draw(image)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (image == 128).all()
    return drawn


def test_a_box_is_drawn_on_its_own_pixels():
    """A half-open box's outline lies on its first and last pixels, and nothing but the tag above lies outside."""
    drawn = draw([[40, 60, 90, 100]])
    colour = class_colour(0)
    for row, column in [(60, 40), (60, 89), (99, 40), (99, 89), (80, 40), (80, 89), (99, 65)]:
        assert tuple(drawn[row, column]) == colour
    changed = (drawn != 128).any(axis=2)
    assert not changed[100:].any()
    assert not changed[60:, :40].any()
    assert not changed[60:, 90:].any()
    assert not changed[64:96, 44:86].any()
    assert changed[45:60, 40:60].any()


@pytest.mark.parametrize("box", [[0, 0, 160, 120], [150, 0, 160, 5], [-50, -50, 500, 500], [0, 110, 160, 120]])
def test_the_tag_stays_inside(box):
    """The tag's ground, wherever it has to go, shows as much of its colour as in the open."""
    colour = np.array(class_colour(0))

    def tag_pixels(box):
        # A box without area leaves the tag alone in its colour.
        found = Detections([box], [1.0], [0], ["cat"])
        return int((found.draw(np.zeros((120, 160, 3), np.uint8)) == colour).all(axis=2).sum())

    assert tag_pixels(box) >= 0.9 * tag_pixels([60, 60, 61, 61])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200), (200, 3)])
def test_tiny_images_and_boxes_off_the_image_are_no_trouble(height, width):
    draw([[0, 0, 1, 1], [500, 500, 600, 600], [5, 5, 5, 5], [9, 9, 2, 2]], height, width, ("Kühe", "猫", ""))


def test_tags_of_crowded_boxes_do_not_cover_each_other():
    strips = []
    for _ in range(4):
        strips.append(draw_module._strip((30, 12), (60, 50, 90, 80), strips, (160, 120)))
    for i, one in enumerate(strips):
        assert 0 <= one[0] < one[2] <= 160
        assert 0 <= one[1] < one[3] <= 120
        assert all(draw_module._overlap(one, other) == 0 for other in strips[:i])


def test_what_is_labelled_is_dashed_and_below():
    image = np.full((120, 160, 3), 128, np.uint8)
    truth = Detections([[20, 40, 120, 100]], [1.0], [1], ["cat", "dog"])
    found = Detections([[20, 60, 60, 100]], [0.9], [0], ["cat"])
    drawn = found.draw(image, truth)
    top = (drawn[40, 20:120] == class_colour(1)).all(axis=1)
    assert 0.4 < top.mean() < 0.75
    right = (drawn[40:100, 119] == class_colour(1)).all(axis=1)
    assert 0.4 < right.mean() < 0.75
    assert (drawn[60:100, 20] == class_colour(0)).all()
    alone = found[:0].draw(image, truth)
    assert (alone != 128).any()
    assert (alone[50:90, 40:100] == 128).all()


def test_ranks_go_from_yellow_to_violet():
    image = np.zeros((60, 80, 3), np.uint8)
    boxes = np.array([[5, 5, 20, 20], [30, 5, 45, 20], [55, 5, 70, 20], [5, 5, 20, 20]])
    drawn = draw_module.draw_ranked(image, boxes)
    assert drawn[5, 5].tolist() == [0xFD, 0xE7, 0x25]  # the first is on top of the last
    assert drawn[5, 55, 2] > drawn[5, 55, 0]
    assert not image.any()
    assert (draw_module.draw_ranked(image, boxes[:0]) == image).all()


def test_nothing_to_draw_is_a_copy():
    assert (draw(np.zeros((0, 4))) == 128).all()


def test_the_best_lies_on_top():
    image = np.zeros((60, 60, 3), np.uint8)
    found = Detections([[10, 30, 50, 50]] * 2, [0.1, 0.9], [0, 1], ["a", "b"])
    assert tuple(found.draw(image)[49, 30]) == class_colour(1)


def test_class_colours_are_distinct():
    colours = np.array([class_colour(label) for label in range(20)], float)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=2) + 1000 * np.eye(20)
    assert distances.min() > 25


def test_the_tag_says_the_probability_where_there_is_one(monkeypatch):
    said = []
    monkeypatch.setattr(draw_module, "_draw_tag", lambda _, text, *rest: said.append(text))
    found = Detections([[10, 30, 50, 50]] * 2, [0.5, 1.5], [0, 1], ["a", "b"])
    image = np.zeros((60, 60, 3), np.uint8)
    found.draw(image)
    # The order stays that of the scores.
    found.replace(probabilities=[0.75, 0.25]).draw(image)
    assert said == ["a 0.50", "b 1.50", "a 0.75", "b 0.25"]
