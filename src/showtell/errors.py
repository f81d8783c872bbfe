"""Every failure a user can meet, and nothing else.

    ShowtellError
    ├── UsageError            the command line was misused              (exit code 2)
    │   └── ConfigError       a recipe, key or value that does not exist (exit code 2)
    ├── DataError             a file or record of data is not what it should be
    │   └── PhotoError        a photo cannot be read, or must not be
    ├── CheckpointError       a model directory is missing, broken or of another kind
    ├── MissingDependency     an optional package is not installed
    ├── GenerationError       the model could not answer
    │   └── EngineError       an LLM or painter of others did not answer as it should
    ├── FetchError            something could not be downloaded
    └── StorageError          something could not be written

A message has three parts: what was met, what was wanted, what to do.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable
from types import ModuleType


class ShowtellError(Exception):
    """Base of all errors that are shown to a user without a traceback."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class UsageError(ShowtellError):
    """The command line was misused."""

    exit_code = 2


class ConfigError(UsageError):
    """A recipe, key or value that does not exist or does not fit."""


class DataError(ShowtellError):
    """A file or record of data is not what it should be; names the file and the record."""


class PhotoError(DataError):
    """A photo that cannot be read, or must not be."""


class CheckpointError(ShowtellError):
    """A model directory that is missing, broken or of another kind."""


class MissingDependency(ShowtellError):
    """An optional package is not installed; names the command that installs it."""


class GenerationError(ShowtellError):
    """The model could not answer."""


class EngineError(GenerationError):
    """An LLM or painter of others, mostly behind an address, did not answer as it should.

    ``code`` is the status that its server sent, 0 where there is none; ``down``: nobody is there,
    and another question would only wait in vain.
    """

    def __init__(self, message: str = "", *, code: int = 0, down: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.down = down


class FetchError(ShowtellError):
    """Something could not be downloaded.

    ``reason`` is a word or two to count by; ``gone``: it is not there any more.
    """

    def __init__(self, message: str = "", *, reason: str = "", gone: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.gone = gone


class StorageError(ShowtellError):
    """Something could not be written; what existed before is unharmed."""


def printable(text: str) -> str:
    """The text with control characters (ESC, NUL, a turn of the writing direction) and halves of
    surrogate pairs escaped: a name out of a file must not command a terminal."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``'; did you mean "x"?'`` for the closest known name, else the list of what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; choose from {', '.join(known)}" if known else ""


def import_extra(module: str, *, what: str, extra: str = "eval") -> ModuleType:
    """A module of an optional package; MissingDependency names what needs it and its extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingDependency(
            f"{what} needs {package}, which is not installed. Install it: "
            f"python -m pip install 'showtell[{extra}]'"
        ) from error
