"""Exceptions and warnings of the package."""

from __future__ import annotations


class InputError(ValueError):
    """Input or options that cannot be used; the message is one line: what is wrong and what was expected.

    The command line prints it without a traceback and exits with status 2.

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
    """An image file that cannot be read; the message names the file. A batch continues with the next file."""


class NotCalibratedError(ValueError, AttributeError):
    """Probabilities were requested from a result that has only scores.

    Also an AttributeError, so that ``hasattr`` and ``getattr`` with a default treat them as missing.
    """


class MisuseWarning(UserWarning):
    """A valid call that is probably a mistake; the command line prints the warning as one line."""
