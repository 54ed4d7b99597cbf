"""The command ``sppnet check``: what it prints and writes, and its exit status."""

import json

import numpy as np
from sppnet.data.scenes import make_scenes
from sppnet.data.voc import read_annotation, write_annotation
from sppnet.scripts.cli import main


def test_clean_labels(tmp_path, capsys):
    make_scenes(tmp_path / "scenes", {"train": 5, "val": 3})
    assert main(["check", str(tmp_path / "scenes"), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    text, errors = capsys.readouterr()
    assert "nothing that needs a look" in text
    assert errors == ""
    report = json.loads((tmp_path / "out/check.json").read_text())
    assert report["findings"] == []
    assert {name: one["images"] for name, one in report["sets"].items()} == {"train": 5, "val": 3}
    objects = {name: sum(one["objects"][name] for one in report["sets"].values()) for name in report["classes"]}
    for name, one in report["classes"].items():
        assert one["objects"] == one["small"] + one["medium"] + one["large"] == objects[name]
        assert one["covered"] is None or 0 <= one["covered"] <= 1
    assert max(one["covered"] or 0 for one in report["classes"].values()) > 0.9


def test_faults_are_printed_and_end_with_status_1(tmp_path, capsys):
    make_scenes(tmp_path / "scenes", {"train": 5, "val": 3})
    root = next(path.parent for path in tmp_path.rglob("Annotations"))
    for path in sorted((root / "Annotations").iterdir())[:5]:
        old = read_annotation(path)
        boxes = np.concatenate([old.boxes, old.boxes[:1]])
        write_annotation(path, old.filename, old.size, boxes, [*old.names, old.names[0]])
    assert main(["check", str(root), "--set", "train", "-o", str(tmp_path / "out"), "--quiet"]) == 1
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("needs a look:")
    assert lines[start + 1].startswith("  5 x object labelled twice with the same box, taken once: ")
    assert lines[start + 1].endswith(" and 1 more")
    report = json.loads((tmp_path / "out/check.json").read_text())
    assert (list(report["sets"]), report["findings"][0]["count"]) == (["train"], 5)


def test_a_wrong_call_is_one_line(tmp_path, capsys):
    assert main(["check", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
