import numpy as np
import pytest
from sppnet.data.errors import InputError
from sppnet.data.scenes import CLASSES, draw_scene, make_scenes
from sppnet.data.voc import VOCDataset


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path):
    first, again, other = (
        contents(make_scenes(tmp_path / name, {"train": 2, "val": 1}, seed, (60, 80)))
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    assert first == again
    assert len(first) == 3 * 2 + 2
    images = [data for group in (first, other) for name, data in group.items() if name.endswith(".jpg")]
    assert len(set(images)) == 6


def test_larger_counts_leave_earlier_scenes_as_they_are(tmp_path):
    few = contents(make_scenes(tmp_path / "few", {"train": 1}, size=(60, 80)))
    many = contents(make_scenes(tmp_path / "many", {"val": 1, "train": 3}, size=(60, 80)))
    lists = {name for name in few if name.endswith(".txt")}
    assert {name: data for name, data in few.items() if name not in lists}.items() <= many.items()


def test_scenes_are_a_clean_voc_dataset(tmp_path):
    data = VOCDataset(make_scenes(tmp_path, {"train": 12}), "train")
    assert data.class_names == tuple(sorted(CLASSES))
    assert data.warnings == {}
    assert all(sample.image.min() < 100 and sample.image.max() > 150 for sample in data)
    assert len({sample.image.shape for sample in data}) > 3
    sides = np.concatenate([sample.boxes[:, 2:] - sample.boxes[:, :2] for sample in data])
    assert len(sides) >= 12
    assert sides.max() > 2 * sides.min()


def test_boxes_lie_inside_and_labels_name_classes():
    for index in range(20):
        scene = draw_scene(np.random.default_rng(index), (70, 90), ["disc", "star"])
        assert scene.image.shape == (70, 90, 3)
        assert (scene.boxes[:, :2] >= 0).all()
        assert (scene.boxes[:, 2:] <= (90, 70)).all()
        assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all()
        assert set(scene.labels.tolist()) <= {0, 1}
        assert len(scene.boxes) == len(scene.labels) == len(scene.difficult)


def test_objects_mostly_covered_are_difficult():
    """Objects outnumber the difficult ones, which yet occur: others cover them."""
    scenes = [draw_scene(np.random.default_rng(index), (80, 100)) for index in range(60)]
    difficult = np.concatenate([scene.difficult for scene in scenes])
    assert 0 < difficult.sum() < 0.2 * len(difficult)


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(InputError, match="no generated class zebra; expected some of box, disc, star, triangle"):
        make_scenes(tmp_path, {"train": 1}, classes=["zebra"])
    with pytest.raises(InputError, match="no generated class given"):
        make_scenes(tmp_path, {"train": 1}, classes=[])
    with pytest.raises(ValueError, match="at least 32 x 32, not 10 x 50"):
        draw_scene(np.random.default_rng(0), (10, 50))


def test_a_folder_with_others_images_or_labels_is_refused(tmp_path):
    make_scenes(tmp_path, {"train": 2})
    make_scenes(tmp_path, {"val": 1, "train": 1})
    assert len(list((tmp_path / "JPEGImages").iterdir())) == 3
    for name in ("JPEGImages/test_00000.jpg", "JPEGImages/mine.png", "Annotations/train_1x.xml"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(InputError, match="no generated scene; choose a folder of its own"):
            make_scenes(tmp_path, {"train": 1})
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    (tmp_path / "ImageSets/Main/cat_train.txt").write_text("2007_000033  1\n")
    with pytest.raises(InputError, match="lists 2007_000033, which is no generated scene"):
        make_scenes(tmp_path, {"train": 1})
