"""Near duplicates: the same photograph in another size and quality, and not two different ones."""

import numpy as np
import pytest
from PIL import Image
from sppnet.data.errors import ImageError
from sppnet.data.example_photographs import sample_photographs
from sppnet.data.near_duplicates import duplicate_groups, small_copy


@pytest.fixture
def photographs(tmp_path):
    """Files of one photograph, of a part of it, of others and of no photograph."""
    chelsea, *others = sorted(sample_photographs())
    with Image.open(chelsea) as image:
        whole = image.convert("RGB")
    width, height = whole.size
    whole.save(tmp_path / "whole.png")
    whole.resize((width // 3, height // 3)).save(tmp_path / "small.jpg", quality=60)
    whole.convert("L").save(tmp_path / "grey.jpg")
    whole.crop((2, 1, width, height - 2)).save(tmp_path / "moved.png")
    whole.crop((width // 2, 0, width, height // 2)).save(tmp_path / "part.png")
    turned = whole.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6  # shown turned by 90 degrees to the right
    turned.save(tmp_path / "exif.jpg", exif=exif)
    (tmp_path / "broken.jpg").write_text("no photograph")
    names = ["whole.png", "broken.jpg", "small.jpg", "part.png", "grey.jpg", "moved.png", "exif.jpg"]
    return [tmp_path / name for name in names] + others


def test_copies_have_one_number(photographs):
    groups = duplicate_groups(photographs)
    assert groups[:7].tolist() == [0, 1, 0, 3, 0, 0, 0]
    assert groups[7:].tolist() == list(range(7, len(photographs)))


def test_groups_grow_together(tmp_path, monkeypatch):
    """The last one is like two that are not like each other."""
    angles = {"a": 0.0, "b": 0.7, "c": 3.0, "d": 0.35}
    copies = {name: np.array([np.cos(angle), np.sin(angle)] + [0] * 254, np.float32) for name, angle in angles.items()}
    monkeypatch.setattr("sppnet.data.near_duplicates.small_copy", lambda path: copies[path])
    assert duplicate_groups(["a", "b", "c", "d"]).tolist() == [0, 0, 2, 0]


def test_plain_images_are_like_nothing(tmp_path):
    paths = [tmp_path / f"{level}.png" for level in (0, 100, 100.5)]
    for path, level in zip(paths, (0, 100, 100), strict=True):
        Image.new("L", (40, 30), level).save(path)
    assert duplicate_groups(paths).tolist() == [0, 1, 2]
    assert not small_copy(paths[0]).any()


def test_two_plain_fields_under_plain_skies_are_not_one(tmp_path):
    rng = np.random.default_rng(0)
    fields = [np.full((40, 60), 210.0), np.full((40, 60), 210.0)]
    for number, field in enumerate(fields):
        field[20:] = 90
        field += rng.normal(0, 8, (10, 15)).repeat(4, axis=0).repeat(4, axis=1)
        Image.fromarray(field.astype(np.uint8)).save(tmp_path / f"{number}.png")
    assert np.corrcoef(fields[0].ravel(), fields[1].ravel())[0, 1] > 0.95
    assert duplicate_groups([tmp_path / "0.png", tmp_path / "1.png"]).tolist() == [0, 1]


def test_no_photographs(photographs):
    assert duplicate_groups([]).shape == (0,)
    with pytest.raises(ImageError, match="broken"):
        small_copy(photographs[1])
