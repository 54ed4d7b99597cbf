"""What a page of the documentation shows: its blocks of commands and Python, its links and the options it names."""

import glob
import re
import shlex
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[1]

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])

#: Languages of blocks; those that are run are the first two.
LANGUAGES = ("sh", "python", "", "text", "json", "xml", "csv", "bibtex")

# Commands that prepare a machine, or look at results. They are not run.
_OTHER_PROGRAMS = {"python3", "python", "pip", "git", "cd", "export", "torchrun", ".venv/bin/pip", "mkdocs"}

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n`]*\n(?P<text>.*?)^(?P=indent)``` *$", re.M | re.S)
_DIRECTIVE = re.compile(r"<!-- test: (?P<what>append|skip|needs) (?P<text>[^>]*?) *-->\s*\Z")
_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?(?P<target>[^)\s>]+)>?[^)]*\)")
_OPTION = re.compile(r"(?<![\w-])--[A-Za-z][\w-]*")


@dataclass(frozen=True)
class Block:
    """A fenced block, and what the comment before it says of its test.

    ``<!-- test: append --epochs 1 -->`` adds options to its commands, ``<!-- test: skip REASON -->`` says why it is not
    run, and ``<!-- test: needs PACKAGE -->`` that it is run where that package is installed.
    """

    language: str
    text: str
    line: int
    append: tuple[str, ...] = ()
    skip: str = ""


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    content = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(content):
        said = _DIRECTIVE.search(content[: match.start()])
        what, text = (said["what"], said["text"]) if said else ("", "")
        append = tuple(shlex.split(text)) if what == "append" else ()
        skip = text if what == "skip" else ""
        if what == "needs" and find_spec(text) is None:
            skip = f"{text} is not installed"
        line = content.count("\n", 0, match.start()) + 2
        found.append(Block(match["language"], dedent(match["text"]), line, append, skip))
    return found


def commands(block: Block) -> list[list[str]]:
    """The arguments of each ``sppnet`` of a block of shell commands, as a shell would hand them over.

    Patterns are replaced by the files of the working folder. Of the shell there are comments, quotes, lines that go on
    after a backslash, ``&&`` and patterns, and no more.
    """
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        starts = [0, *(i + 1 for i, word in enumerate(words) if word == "&&")]
        for start in starts:
            of_one = words[start:]
            command = of_one[: of_one.index("&&")] if "&&" in of_one else of_one
            if not command or command[0] in _OTHER_PROGRAMS:
                continue
            assert command[0] == "sppnet", f"a block of sh has {command[0]!r}, which is not tested: {line}"
            found.append([file for word in command[1:] for file in _files(word)])
    return found


def _files(word: str) -> list[str]:
    return (sorted(glob.glob(word)) if re.search(r"[*?]", word) else []) or [word]


def links(page: Path) -> list[str]:
    """The targets of a page's links and images that are not addresses of the web."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = (match["target"] for match in _LINK.finditer(prose))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """What links to headings of a page can name, as GitHub and mkdocs make it of the headings."""
    headings = re.findall(r"^#+ +(.+?) *$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower())).strip("-") for heading in headings}


def options(page: Path) -> set[str]:
    """The options that a page names, wherever it does, but those of other programs: ray, torchrun, pytest."""
    others = r"<!--.*?-->|`ray .*?`|torchrun [^`]*? -m |-m pytest [^\n]*"
    return option_names(re.sub(others, "", page.read_text(encoding="utf-8"), flags=re.S))


def option_names(text: str) -> set[str]:
    """What looks like a long option in a text."""
    return set(_OPTION.findall(text))
