"""Model files: round trips, detection of the kind, and one-line errors for anything else."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sppnet.data.errors import InputError
from sppnet.detector import modelfile as module
from sppnet.detector.classification.network import SPPClassifier
from sppnet.detector.detection.bundle import Bundle
from sppnet.detector.modelfile import FORMAT, read_header, read_model, read_tensors, tensors_below, write_model


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
    write_model(other, {"kind": "classifier"}, {"a": torch.zeros(1)})
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


def test_equal_models_make_equal_bytes(tmp_path):
    tensors = {name: torch.arange(5.0) for name in "cab"}
    contents = set()
    for number, names in enumerate(["abc", "bca", "cab", "acb"]):
        path = tmp_path / f"{number}.safetensors"
        write_model(path, {"kind": "backbone", "card": {"loss": 0.1}}, {name: tensors[name] for name in names})
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_every_flipped_bit_is_found(tmp_path):
    tensors = {
        "a": torch.tensor([1.0, -0.0]),
        "b": torch.tensor(7),
        "c": torch.ones(3).bfloat16(),
        "d": torch.zeros(0, 5),
        "e": torch.ones(2, 3).half().T,
    }
    path = tmp_path / "m.safetensors"
    write_model(path, {"kind": "backbone", "card": {"loss": float("nan"), 3: "Ä\ud800"}}, tensors)
    read_model(path, "backbone")
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    assert len(content) - start == 8 + 8 + 6 + 12
    for place in range(start, len(content)):
        for bit in range(8):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            with pytest.raises(InputError, match=r"m\.safetensors: the file is damaged: its checksum"):
                read_model(path, "backbone")
    assert read_header(path)["card"]["3"] == "Ä\ud800"


@pytest.mark.parametrize("change", ["name", "dtype", "shape", "header"])
def test_the_checksum_is_of_everything(tmp_path, change):
    path, header, tensors = tmp_path / "m.safetensors", {"format": FORMAT, "kind": "backbone"}, {"a": torch.zeros(2, 3)}
    write_model(path, header, tensors)
    with safe_open(path, "pt") as file:
        stored = json.loads(file.metadata()["sppnet"])
    tensors = {
        "name": {"b": tensors["a"]},
        "dtype": {"a": tensors["a"].int()},
        "shape": {"a": tensors["a"].reshape(3, 2)},
        "header": tensors,
    }[change]
    file_with(path, {**stored, "layer": "x"} if change == "header" else stored, tensors)
    with pytest.raises(InputError, match=r"m\.safetensors: the file is damaged"):
        read_model(path, "backbone")


def test_files_of_earlier_versions_have_no_checksum(tmp_path):
    header = {"format": FORMAT, "kind": "backbone", "card": {}}
    path = file_with(tmp_path / "m.safetensors", header, {"a": torch.ones(2)})
    found, tensors = read_model(path, "backbone")
    assert found == header
    assert torch.equal(tensors["a"], torch.ones(2))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_numbers_that_are_not_finite_are_refused(tmp_path, value, dtype):
    weights = torch.zeros(1000, dtype=dtype)
    weights[700] = value
    write_model(tmp_path / "m.safetensors", {"kind": "backbone"}, {"good": torch.ones(3), "bad": weights})
    with pytest.raises(InputError, match=r"m\.safetensors: 'bad' has numbers that are not finite"):
        read_model(tmp_path / "m.safetensors", "backbone")


def test_large_numbers_are_finite_in_single_precision_only(tmp_path):
    path = tmp_path / "m.safetensors"
    write_model(path, {"kind": "backbone"}, {"a": torch.full((9,), 3e38)})  # their sum is not
    assert read_model(path, "backbone")[1]["a"][0] == torch.tensor(3e38)
    write_model(path, {"kind": "backbone"}, {"a": torch.full((9,), 1e300, dtype=torch.float64)})
    with pytest.raises(InputError, match="not finite"):
        read_model(path, "backbone")


def claiming(numbers):
    """A file whose header claims a tensor of so many numbers."""
    entry = {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}
    header = json.dumps({"__metadata__": {"sppnet": json.dumps({"format": FORMAT})}, "a": entry}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


def pickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    torch.save({"a": Trap()}, tmp_path / "trap.pth")
    return (tmp_path / "trap.pth").read_bytes()


@pytest.mark.parametrize("read", [read_header, Bundle.load, read_tensors])
def test_what_people_take_for_a_model_is_named(tmp_path, read):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    for content, message in (
        (b"", "it is empty"),
        (pointer, "it is a Git LFS pointer .*'git lfs pull' fetches the file itself"),
        (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "it is a web page: the download went wrong"),
        (b"<html>\n", "it is a web page"),
        (pickled(tmp_path), r"it is a file of torch\.save under another name"),
        (b"\x80\x02}q\x00.", r"it is a file of torch\.save under another name"),
        (claiming(10**12), ""),
        (claiming(10**18), ""),
        ((2**63).to_bytes(8, "little") + b"{}", ""),
        (claiming(1)[:-2], ""),
    ):
        path = tmp_path / "m.safetensors"
        path.write_bytes(content)
        with pytest.raises(
            InputError,
            match=rf"m\.safetensors: (not an sppnet model file|cannot be read as a state dict) \(.*{message}",
        ) as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()
