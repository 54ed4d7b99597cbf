import pytest
from sppnet.data.open import open_dataset
from sppnet.scripts import scenes
from sppnet.scripts.parser import CommandParser


def parse(*words):
    parser = CommandParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet", action="store_true")
    scenes.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_the_command_writes_both_sets(tmp_path, capsys):
    assert scenes.run(parse(tmp_path / "made", "--train", 2, "--val", 1, "--seed", 5)) == 0
    assert [len(open_dataset(tmp_path / "made", name)) for name in ("train", "val")] == [2, 1]
    said = capsys.readouterr()
    assert said.out == ""
    assert "2 train and 1 val scenes of box, disc, star, triangle" in said.err


def test_quiet_says_nothing(tmp_path, capsys):
    scenes.run(parse(tmp_path, "--train", 0, "--val", 0, "--quiet"))
    assert capsys.readouterr().err == ""


def test_a_negative_count_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse("made", "--train", -1)
    assert "expected a whole number from 0 up, got '-1'" in capsys.readouterr().err
