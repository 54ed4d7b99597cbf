"""Command-line parser with lazily loaded sub-commands, one-line errors and the options of all commands.

A command is a module of this package with

- ``HELP``: the first text of ``--help``,
- ``add_arguments(parser)``: adds its own options, each to one of the parser's ``groups``; their help does not mention
  the default, because ``--help`` adds it,

and, for those the program runs itself, ``run(args) -> int``. The module is imported
when its command is called, so ``sppnet --help`` imports none of them.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from shutil import get_terminal_size
from textwrap import fill
from typing import Any, NoReturn

#: Titles of the option groups, in the order of ``--help``.
GROUPS = ("data", "windows", "network", "learning", "measurement", "output")

Shared = Callable[["CommandParser"], None]


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help formatter that adds "(default: ...)" to the help of options with a default."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if action.help is None or not action.option_strings or default is None or default is False:
            return action.help
        return action.help if default == argparse.SUPPRESS else f"{action.help} (default: {as_typed(default)})"


def as_typed(value: Any) -> str:
    """Text of a value as a user types it: ``(1, 2)`` is ``1,2`` and ``1.0`` is ``1``."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(as_typed, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


class CommandParser(argparse.ArgumentParser):
    """Argument parser that loads its arguments from a command's module on first use.

    Parameters
    ----------
    command_module : str, optional
        Name of the module of this package that describes the command.
    shared : function, optional
        Adds the arguments that this command shares with others of its group.
    **options
        Passed to :class:`argparse.ArgumentParser`.

    Attributes
    ----------
    groups : dict of str to argument group
        Option groups by their titles, :data:`GROUPS`; ``--help`` leaves out empty ones.
    """

    def __init__(self, *, command_module: str | None = None, shared: Shared | None = None, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", HelpFormatter)
        super().__init__(**options)
        self.groups = {title: self.add_argument_group(title) for title in GROUPS}
        self._command_module = command_module
        self._shared = shared
        self._commands: Mapping[str, str] | None = None
        self._kind = "command"

    def add_commands(
        self, commands: Mapping[str, str], dest: str, module_prefix: str = "", shared: Shared | None = None
    ) -> None:
        """Add sub-commands.

        Parameters
        ----------
        commands : mapping of str to str
            Command names with their lines in the list of commands.
        dest : str
            Attribute for the chosen name; in capitals, its name in the usage.
        module_prefix : str
            The command ``x-y`` is in the module ``<module_prefix>x_y``.
        shared : function, optional
            Adds the arguments that all these commands share.
        """
        self._commands = commands
        self._kind = dest
        width = max(map(len, commands))
        group = self.add_subparsers(
            dest=dest,
            metavar=dest.upper(),
            required=True,
            parser_class=CommandParser,
            title=f"{dest}s",
            description="\n".join(f"{name:<{width}}  {line}" for name, line in commands.items()),
            help=argparse.SUPPRESS,  # argparse's own list breaks the line after a long name
        )
        self.usage = f"%(prog)s [-h] {dest.upper()} ..."
        for name in commands:
            group.add_parser(name, command_module=module_prefix + name.replace("-", "_"), shared=shared)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse like argparse, after loading the command's module; unknown arguments are an error.

        The names of the options that were typed are the attribute ``given`` of the result.
        """
        self._load()
        if self._commands is not None and args is not None:
            self._check_command(args)
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        if self._commands is None and args is not None:
            typed = {argument.partition("=")[0] for argument in args}
            namespace.given = {action.dest for action in self._actions if typed.intersection(action.option_strings)}
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        """Print one line on stderr and exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message} (see '{self.prog} --help')\n")

    def _load(self) -> None:
        if self._command_module is None:
            return
        module = import_module(f".{self._command_module}", __package__)
        self._command_module = None
        self.description = _fill(module.HELP)
        module.add_arguments(self)
        if self._shared is not None:
            self._shared(self)
        if self._commands is None:
            self._add_common_arguments()

    def _add_common_arguments(self) -> None:
        """Add ``-h``, ``--device``, ``--seed`` and ``--quiet``, last in the help of every command."""
        common = self._optionals
        common.title = "common options"
        self._action_groups.remove(common)
        self._action_groups.append(common)
        common.add_argument(
            "--device",
            type=device_name,
            default="auto",
            metavar="auto|cpu|cuda",
            help="where to compute; auto takes a CUDA device when there is one; cuda:1 is the second of several",
        )
        common.add_argument("--seed", type=whole_number(0), default=0, metavar="INT", help="seed of all random choices")
        common.add_argument("--quiet", action="store_true", help="no progress on stderr, only warnings and errors")

    def _check_command(self, args: Sequence[str]) -> None:
        """Refuse an unknown command and suggest the nearest; a parser with commands has no options with values."""
        assert self._commands is not None
        given = next((argument for argument in args if not argument.startswith("-")), None)
        if given is None or given in self._commands:
            return
        near = get_close_matches(given, self._commands, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(self._commands)}"
        self.error(f"unknown {self._kind} '{given}'; {hint}")


def _fill(text: str) -> str:
    """Wrap the paragraphs of a text to the width of the terminal."""
    width = min(get_terminal_size().columns - 2, 100)
    return "\n\n".join(fill(paragraph, width) for paragraph in text.split("\n\n"))


def device_name(text: str) -> str:
    """Read the name of a device; whether it is there is seen later, by torch."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps|xpu", text):
        raise argparse.ArgumentTypeError(f"expected auto, cpu, cuda or, of several, cuda:1, got '{text}'")
    return text


def whole_number(least: int) -> Callable[[str], int]:
    """Return a parser of whole numbers of at least ``least``."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} up, got '{text}'")
        return number

    return read
