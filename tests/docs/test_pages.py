"""The pages of the documentation say what is so: their commands and their Python run, their links lead somewhere."""

import contextlib
import io
import shutil
import urllib.request
import warnings

import pytest
import torchvision
from page_blocks import LANGUAGES, PAGES, blocks, commands, option_names, options
from page_world import make_world, random_imagenet_weights
from sppnet.scripts.benchmark import BENCHMARKS
from sppnet.scripts.cli import COMMANDS, build_parser, main

#: What is added to each command so that it takes a second: small images, few windows, few rounds.
QUICK = {
    "detect": ["--max-windows", "50", "--scales", "128"],
    "evaluate": ["--max-windows", "50", "--scales", "128"],
    "train": ["--max-windows", "50", "--scales", "128", "--no-report"],
    "check": [],
    "convert": [],
    "scenes": ["--train", "6", "--val", "3"],
    "propose": [],
    "info": [],
    "make-model": [],
    "distil": ["--epochs", "1", "--sizes", "64", "--batch", "2"],
    "classify train": ["--epochs", "1", "--sizes", "64", "--batch", "2", "--fc-width", "16"],
    "classify evaluate": ["--scales", "64"],
    "classify predict": ["--scales", "64"],
    "classify svm": ["--scales", "64", "--C", "1", "--splits", "2", "--per-class", "3,2", "--views", "full"],
    "benchmark proposals": ["--images", "2"],
    "benchmark pooling": ["--windows", "20", "--repeats", "1"],
    "benchmark head": ["--inputs", "64", "--width", "64", "--windows", "20", "--rank", "8", "--repeats", "1"],
    "benchmark detect": ["--model", "mine.safetensors", "--count", "2", "--repeats", "1"],
    "benchmark table": ["--single", "128", "--scales", "128", "--epochs", "1", "--fc-width", "16"],
    "benchmark views": ["--rounds", "1", "--sample", "1", "--views", "one", "photo.jpg"],
    "benchmark few": ["--minutes", "0.01", "--opponents", "320", "--scales", "128"],
}
#: Commands that have commands.
GROUPS = ("benchmark", "classify")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def place(world, tmp_path, monkeypatch):
    """The files that pages speak of in the working folder, and nothing from the network."""
    place = shutil.copytree(world, tmp_path / "page")
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(place / ".packages")
    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", random_imagenet_weights)

    def refuse(*args, **kwargs):
        raise AssertionError(f"a page needs the network: {args}")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return place


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_python_run(page, place, capsys):
    namespace = {"__name__": "__main__"}
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if block.skip:
            warnings.warn(f"{where} is not run: {block.skip}", stacklevel=1)
        if block.language == "python":
            # So many empty lines that errors name the page's line.
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
            if not block.skip:
                exec(code, namespace)
        elif block.language == "sh":
            for arguments in commands(block):
                build_parser().parse_args(arguments)
                if not block.skip:
                    assert main([*arguments, *quick(arguments), *block.append]) == 0, (
                        where,
                        capsys.readouterr().err,
                    )


def quick(arguments):
    """Options that make a command short."""
    fine_tuning = ["--epochs", "1", "--fc-width", "16"] if "fc7" in arguments and arguments[0] == "train" else []
    return [*QUICK[" ".join(arguments[: 2 if arguments[0] in GROUPS else 1])], *fine_tuning, "--quiet"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_say_what_they_are(page):
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page.name}:{block.line}"
        if block.language != "sh":
            lines = [line for line in block.text.splitlines() if line.removeprefix("$ ").startswith("sppnet ")]
            assert not lines, f"{page.name}:{block.line} has commands: make it a block of sh, which is tested"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_options_that_are_named_exist(page, known_options):
    assert options(page) <= known_options


@pytest.fixture(scope="module")
def known_options():
    """The options of all commands, as their help names them."""
    kinds = {"benchmark": BENCHMARKS, "classify": ("train", "evaluate", "predict", "svm")}
    calls = [[], *([name, kind] if kind else [name] for name in COMMANDS for kind in kinds.get(name, ("",)))]
    return {option for call in calls for option in option_names(help_of(call))}


def help_of(call):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert main([*call, "--help"]) == 0
    return text.getvalue()
