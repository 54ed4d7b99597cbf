"""Models by name: bundled models, files, and error messages for anything else."""

import configparser
from pathlib import Path

import pytest
from sppnet.data import embedded
from sppnet.data.embedded import DEFAULT_MODEL, embedded_models, find_model
from sppnet.data.errors import InputError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def carried(monkeypatch, tmp_path):
    """A package with two models, and an empty working folder; the models' folder."""
    folder, work = tmp_path / "package" / "models", tmp_path / "work"
    folder.mkdir(parents=True)
    work.mkdir()
    for name in ("cells.safetensors", "animals.safetensors", "README.md", "old.pth"):
        (folder / name).write_bytes(b"")
    monkeypatch.setattr(embedded, "models_folder", lambda: folder)
    monkeypatch.chdir(work)
    return folder


def test_the_names_are_those_of_the_files(carried):
    assert list(embedded_models()) == ["animals", "cells"]
    assert find_model("cells") == carried / "cells.safetensors"
    (carried / "cells-2.safetensors").write_bytes(b"")
    assert find_model("cells-2") == carried / "cells-2.safetensors"


def test_a_name_is_a_name_though_a_file_is_called_so(carried):
    for name in ("animals", "mine"):
        Path(name).write_bytes(b"")
    assert find_model("animals") == carried / "animals.safetensors"
    for path in ("./animals", Path("animals"), str(Path("animals").absolute())):
        assert find_model(path).samefile("animals")
        assert not find_model(path).samefile(carried / "animals.safetensors")
    assert find_model("mine").samefile("mine")


@pytest.mark.parametrize("name", ["animal", "Animals-2", "old", "README"])
def test_an_unknown_name_gets_those_that_there_are(carried, name):
    with pytest.raises(InputError, match=rf"^{name}: .* \(animals, cells\); expected a name or a"):
        find_model(name)


@pytest.mark.parametrize("path", ["animals.safetensors", "./animals", "models/animals", "", ".", Path("animals")])
def test_what_cannot_be_a_name_is_a_missing_file(carried, path):
    with pytest.raises(InputError, match=r"^[\w./]*: no such model file$"):
        find_model(path)


@pytest.mark.parametrize("there", [True, False])
def test_a_package_without_models_says_so(carried, monkeypatch, there):
    for file in carried.glob("*.safetensors"):
        file.unlink()
    monkeypatch.setattr(embedded, "models_folder", lambda: carried if there else carried / "nowhere")
    assert embedded_models() == {}
    with pytest.raises(InputError, match=rf"^{DEFAULT_MODEL}: .* \(here none\); expected") as caught:
        find_model(DEFAULT_MODEL)
    assert "\n" not in str(caught.value)


def test_they_are_installed_with_the_package():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    pattern = setup["options.package_data"]["sppnet.data"]
    assert embedded.models_folder().parent == Path(embedded.__file__).parent
    assert Path(embedded.models_folder().name, "animals.safetensors").match(pattern)
