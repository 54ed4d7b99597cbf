"""The benchmark of the fc layers: every variant is included, and multiplications are counted correctly."""

import json

from sppnet.scripts.cli import main


def test_every_form_is_timed_and_counted(tmp_path, capsys):
    arguments = ["benchmark", "head", "--inputs", "60", "--width", "40", "--windows", "7", "--rank", "5"]
    assert main([*arguments, "--repeats", "2", "--json", str(tmp_path / "head.json"), "--quiet"]) == 0
    table = capsys.readouterr().out
    result = json.loads((tmp_path / "head.json").read_text())["result"]
    forms = ["float32", "bfloat16", "svd=5", "svd=5,bfloat16"]
    assert list(result["times"]) == list(result["ratios"]) == forms
    assert all(form in table for form in forms)
    products = {form: result["costs"][form]["multiplications"] for form in forms}
    whole, factored = 60 * 40 + 40 * 40, 5 * (60 + 40) + 5 * (40 + 40)
    assert products == {"float32": whole, "bfloat16": whole, "svd=5": factored, "svd=5,bfloat16": factored}
    assert result["costs"]["svd=5,bfloat16"]["bytes"] == 2 * factored
    assert result["ratios"]["float32"] == 1


def test_wrong_sizes_are_one_line(capsys):
    assert main(["benchmark", "head", "--rank", "0"]) == 2
    assert "argument --rank: expected a whole number from 1 up, got '0'" in capsys.readouterr().err
