"""Model files: round trips, detection of the kind, and one-line errors for anything else."""

import json

import pytest
import torch
from safetensors.torch import save_file
from sppnet.data.errors import InputError
from sppnet.detector import modelfile as module
from sppnet.detector.classification.network import SPPClassifier
from sppnet.detector.detection.bundle import Bundle
from sppnet.detector.modelfile import FORMAT, read_header, read_model, tensors_below, write_model


def file_with(path, header, tensors=None):
    """A file with any text in the place of the header."""
    text = header if isinstance(header, str) else json.dumps(header)
    save_file(tensors or {"a": torch.zeros(1)}, path, metadata={"sppnet": text})
    return path


def test_what_goes_in_comes_out(tmp_path):
    wide = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {
        "turned": wide.permute(2, 0, 1),
        "half": wide.half(),
        "counter": torch.tensor(7),
        "none": torch.zeros(0, 5),
        "learning": torch.nn.Parameter(torch.ones(2)),
    }
    header = {"kind": "classifier", "classes": ["a", "Ä"], "card": {"loss": 0.1, "none": None}}
    write_model(tmp_path / "new" / "model.safetensors", header, tensors)
    found, read = read_model(tmp_path / "new" / "model.safetensors", "classifier")
    assert found == {"format": FORMAT, **header}
    assert read_header(tmp_path / "new" / "model.safetensors") == found
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)
        assert not read[name].requires_grad


def test_a_write_that_fails_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    write_model(path, {"kind": "detector"}, {"a": torch.zeros(1)})
    before = path.read_bytes()

    def fail(tensors, temporary, metadata):
        temporary.write_bytes(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(module, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        write_model(path, {"kind": "detector"}, {"a": torch.ones(1)})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


def test_kinds_are_told_apart(tmp_path):
    old = file_with(tmp_path / "old.safetensors", {"format": FORMAT})  # of before there were kinds
    assert read_model(old, "detector")[0]["kind"] == "detector"
    with pytest.raises(
        InputError,
        match=r"old\.safetensors: is a detector, expected a classification network \('sppnet classify train'",
    ):
        SPPClassifier.load(old)
    other = tmp_path / "other.safetensors"
    write_model(other, {"kind": "classifier"}, {})
    with pytest.raises(
        InputError, match=r"other\.safetensors: is a classification network, expected a detector \('sppnet train'"
    ):
        Bundle.load(other)
    new = file_with(tmp_path / "new.safetensors", {"format": FORMAT, "kind": "segmenter"})
    for read in (read_header, SPPClassifier.load, Bundle.load):
        with pytest.raises(InputError, match=r"new\.safetensors: a model of the kind 'segmenter', which this version"):
            read(new)


@pytest.mark.parametrize("read", [read_header, SPPClassifier.load, Bundle.load])
def test_other_files_are_refused_in_one_line(tmp_path, read):
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing of the kind")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    file_with(tmp_path / "text.safetensors", "{no JSON")
    file_with(tmp_path / "list.safetensors", [1, 2])
    file_with(tmp_path / "future.safetensors", {"format": FORMAT + 1, "kind": "classifier"})
    for name, message in {
        "absent": "no such model file",
        "plain": "a safetensors file, but not an sppnet model",
        "broken": "not an sppnet model file",
        "empty": "not an sppnet model file",
        "text": "not an sppnet model file",
        "list": "not an sppnet model file .*no JSON object",
        "future": f"model format {FORMAT + 1}, this version reads format {FORMAT}",
    }.items():
        with pytest.raises(InputError, match=rf"{name}\.safetensors: {message}") as caught:
            read(tmp_path / f"{name}.safetensors")
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such model file"):
        read(tmp_path)


def test_tensors_below_a_prefix():
    tensors = {"head.a": torch.zeros(1), "head.head.a": torch.ones(1), "heads.a": torch.zeros(2), "a": torch.zeros(3)}
    below = tensors_below(tensors, "head.")
    assert below.keys() == {"a", "head.a"}
    assert below["head.a"] is tensors["head.head.a"]
    assert len(tensors) == 4
