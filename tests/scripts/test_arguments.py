"""The options of all commands: groups, defaults in ``--help``, and list values."""

import argparse
import ast
import re
from pathlib import Path

import pytest
import sppnet
from hypothesis import given
from hypothesis import strategies as st
from sppnet.detector.classification.options import ClassifierOptions
from sppnet.detector.descent.options import DISTIL_AUGMENTATION, DISTIL_LEARN, Augmentation, LearnOptions
from sppnet.detector.options import FOLDS, HELD_OUT, DetectOptions, FeatureOptions, FineTuneOptions, SVMOptions
from sppnet.scripts import arguments
from sppnet.scripts.benchmark import BENCHMARKS
from sppnet.scripts.classify import JOBS
from sppnet.scripts.cli import COMMANDS, build_parser, main
from sppnet.scripts.parser import GROUPS, as_typed

FAMILIES = {"benchmark": BENCHMARKS, "classify": JOBS}
LINES = [name for name in COMMANDS if name not in FAMILIES]
LINES += [f"{family} {name}" for family, names in FAMILIES.items() for name in names]
COMMON = {"help", "device", "seed", "quiet"}


def parser_of(line):
    """The loaded parser of a command."""
    parser = build_parser()
    for word in line.split():
        (choices,) = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        parser = choices[word]
        parser._load()
    return parser


def shown_default(line, option, capsys, monkeypatch):
    """What ``--help`` says that the default of an option is."""
    monkeypatch.setenv("COLUMNS", "1000")
    assert main([*line.split(), "--help"]) == 0
    (text,) = re.findall(rf"^  (?:-\w(?: \S+)?, )?{option}\b(?!-).*\n?.*$", capsys.readouterr().out, re.MULTILINE)
    return re.search(r"\(default: ([^()]*)\)(?:$|\n)", text)[1]


@pytest.mark.parametrize("line", LINES)
def test_every_argument_is_in_a_named_group_in_one_order(line):
    parser = parser_of(line)
    members = {group.title: {action.dest for action in group._group_actions} for group in parser._action_groups}
    assert members.pop("common options") == COMMON
    assert members.pop("positional arguments") == set()
    assert tuple(members) == GROUPS
    assert set().union(*members.values()) | COMMON == {action.dest for action in parser._actions}
    assert members["output"] or line == "info"


@pytest.mark.parametrize("line", LINES)
def test_help_shows_every_default_and_once(line, capsys, monkeypatch):
    for action in parser_of(line)._actions:
        typed = "(default" in (action.help or "")
        has_default = action.default is not None and action.default is not False and action.dest != "help"
        assert not (typed and has_default), action.dest
        if has_default:
            assert shown_default(line, action.option_strings[-1], capsys, monkeypatch) == as_typed(action.default)


def test_no_default_is_typed_by_hand():
    """Words such as "the model's" may be; a value would be one day another than the code's."""
    found = []
    for path in (Path(sppnet.__file__).parent / "scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found += re.findall(r"\(default:? *\d\S*", node.value)
    assert found == []


@pytest.mark.parametrize(
    ("line", "option", "default"),
    [
        ("train", "--C", SVMOptions().C),
        ("train", "--pyramid", FeatureOptions().levels),
        ("train", "--features", FeatureOptions().kind),
        ("train", "--method", FeatureOptions().method),
        ("train", "--fc-width", FineTuneOptions().width),
        ("train", "--epochs", FineTuneOptions().epochs),
        ("train", "--proposals", DetectOptions().proposals),
        ("train", "--max-windows", DetectOptions().max_windows),
        ("train", "--regressions", DetectOptions().regressions),
        ("propose", "--max", DetectOptions().max_windows),
        ("distil", "--area", DISTIL_AUGMENTATION.area),
        ("distil", "--sizes", DISTIL_LEARN.sizes),
        ("distil", "--rate", DISTIL_LEARN.rate),
        ("classify train", "--pyramid", ClassifierOptions().levels),
        ("classify train", "--fc-width", ClassifierOptions().width),
        ("classify train", "--dropout", ClassifierOptions().dropout),
        ("classify train", "--augment", Augmentation().kind),
        *(
            ("classify train", f"--{name.replace('_', '-')}", getattr(LearnOptions(), name))
            for name in ("epochs", "batch", "optimizer", "schedule", "warmup", "sizes", "size_rule", "smoothing")
        ),
        ("benchmark table", "--fc-width", FineTuneOptions().width),
        ("benchmark views", "--fc-width", ClassifierOptions().width),
    ],
)
def test_defaults_are_those_of_the_options(line, option, default, capsys, monkeypatch):
    assert shown_default(line, option, capsys, monkeypatch) == as_typed(default)
    (action,) = (action for action in parser_of(line)._actions if option in action.option_strings)
    assert action.default == default


@pytest.mark.parametrize(("option", "default"), [("--folds", FOLDS), ("--held-out", HELD_OUT)])
def test_defaults_that_depend_on_the_photographs_are_told(option, default, capsys, monkeypatch):
    assert shown_default("train", option, capsys, monkeypatch) == as_typed(default)


@pytest.mark.parametrize("line", LINES)
def test_every_default_is_one_that_could_be_given(line):
    """A default that its own option refused, or read as something else, would be a trap."""
    for action in parser_of(line)._actions:
        if action.option_strings and action.default not in (None, False, argparse.SUPPRESS):
            given = as_typed(action.default)
            kind = action.type or str
            read = kind(given)
            if not isinstance(action.default, str):
                assert read == action.default, action.dest
            assert action.choices is None or read in action.choices


@given(st.lists(st.integers(1, 10**6), min_size=1))
def test_lists_of_whole_numbers_are_read_as_they_are_shown(numbers):
    assert arguments.integers(as_typed(tuple(numbers))) == tuple(numbers)
    assert arguments.integers(" , ".join(map(str, numbers))) == tuple(numbers)


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        (arguments.integers, "1,0", "positive whole numbers"),
        (arguments.integers, "1,,2", "positive whole numbers"),
        (arguments.integers, "", "positive whole numbers"),
        (arguments.integers, "1.5", "positive whole numbers"),
        (arguments.positive_numbers, "1,inf", "positive numbers"),
        (arguments.positive_numbers, "1,nan", "positive numbers"),
        (arguments.positive_numbers, "0", "positive numbers"),
        (arguments.names, "cat,", "different names"),
        (arguments.names, "cat,cat", "different names"),
        (arguments.some_of(["a", "b"]), "a,c", "any of a,b"),
        (arguments.some_of(["a", "b"]), "", "any of a,b"),
        (arguments.compression, "zip", "svd, svd=0.9"),
        (arguments.compression, "svd=2.5", "a share of the energy between 0 and 1"),
    ],
)
def test_a_wrong_list_is_refused_in_one_line_that_says_what_was_expected(read, text, expected):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        read(text)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_chosen_names_come_once_and_in_the_order_of_the_known_ones():
    assert arguments.some_of({"b": 1, "a": 2})("a, b,a") == ("b", "a")
    assert arguments.names("dog, cat") == ("dog", "cat")


def test_a_compression_is_refused_before_anything_is_read(capsys):
    assert main(["train", "nowhere", "--out", "m", "--compress", "zip"]) == 2
    assert "error: argument --compress: unknown compression 'zip'; expected svd" in capsys.readouterr().err
