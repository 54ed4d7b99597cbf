"""The one exception that speaks to the user, and the warning."""

from __future__ import annotations


class InputError(ValueError):
    """Input or options that cannot be used; the message is one line that names what was wrong and what was expected.

    The command line prints it without a traceback and ends with status 2.

    Examples
    --------
    >>> import sppnet
    >>> try:
    ...     sppnet.read_image("nowhere.jpg")
    ... except sppnet.InputError as error:
    ...     print(error)
    nowhere.jpg: no such file
    """


class ImageError(InputError):
    """An image file that cannot be read; the message names the file. A batch goes on past it."""


class NotCalibratedError(ValueError, AttributeError):
    """Probabilities were asked of a result that has none; it has scores.

    Also an AttributeError, so that ``hasattr`` and ``getattr`` with a default answer as for what is not there.
    """


class MisuseWarning(UserWarning):
    """Python code asks for something that works and is hardly meant; the command line prints it as one line."""
