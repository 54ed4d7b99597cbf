"""Download of PASCAL VOC: file locations, no second download, error messages. These tests download nothing."""

import pytest
import torchvision.datasets
from sppnet.data.download import download_voc
from sppnet.data.errors import InputError


@pytest.fixture
def fetched(monkeypatch):
    """The calls that would have gone out."""
    calls = []

    def fetch(root, year, image_set, download):
        calls.append((root, year, image_set, download))

    monkeypatch.setattr(torchvision.datasets, "VOCDetection", fetch)
    return calls


@pytest.mark.parametrize(
    ("folder", "root", "year"),
    [("data", "data", "2007"), ("data/VOCdevkit/VOC2012", "data", "2012"), ("VOC2007", "VOC2007", "2007")],
)
@pytest.mark.usefixtures("messages")
def test_the_year_and_the_place_follow_from_the_folder(fetched, tmp_path, capsys, folder, root, year):
    target = download_voc(tmp_path / folder, "train")
    assert fetched == [(tmp_path / root, year, "trainval", True)]
    assert target == tmp_path / root / "VOCdevkit" / f"VOC{year}"
    assert f"fetching PASCAL VOC {year} trainval (about" in capsys.readouterr().err


def test_the_test_set_is_an_archive_of_its_own(fetched, tmp_path):
    download_voc(tmp_path, "test", quiet=True)
    assert fetched[0][1:3] == ("2007", "test")
    with pytest.raises(InputError, match="PASCAL VOC 2012 has no public test set"):
        download_voc(tmp_path / "VOCdevkit" / "VOC2012", "test")


def test_what_is_there_is_not_fetched_again(fetched, tmp_path):
    sets = tmp_path / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "trainval.txt").write_text("000005\n")
    assert download_voc(tmp_path, "trainval") == tmp_path / "VOCdevkit" / "VOC2007"
    assert fetched == []


def test_a_failure_is_one_line(monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "VOCDetection", fail)
    with pytest.raises(InputError, match="PASCAL VOC 2007 trainval could not be fetched: no route to host"):
        download_voc(tmp_path, "trainval", quiet=True)
