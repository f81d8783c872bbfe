"""How a command ends: 0 fine, 1 failed, 2 misused, 130 stopped; never with a traceback for
something that a user can mend.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from showtell.errors import ShowtellError, StorageError, printable

STOPPED = 130  # what shells expect after Ctrl-C

_REMEDIES = {
    errno.ENOSPC: "the disk is full; make room and run the command again",
    errno.EDQUOT: "your disk quota is used up; make room and run the command again",
    errno.EROFS: "the disk is read-only; name a folder on another one",
    errno.EACCES: "you may not write or read there; name another folder, or change its permissions",
    errno.EPERM: "this is not permitted there; name another folder, or change its permissions",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ENOENT: "there is no such file or folder; check the spelling",
    errno.EISDIR: "that is a folder; name a file",
    errno.ENOTDIR: "a part of that path is a file, not a folder; name another path",
    errno.EEXIST: "that exists already; name another path",
}


def exit_code_of(action: Callable[[], int | None]) -> int:
    """Run ``action``; print what a user must know on stderr; return the exit code."""
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, _interrupt) if in_main else None
    try:
        code = action() or 0
        if sys.stdout is not None:
            sys.stdout.flush()  # a full disk or a closed pipe shows only here
        if code == STOPPED:
            _say("stopped")
        return code
    except KeyboardInterrupt:
        _say("stopped")
        return STOPPED
    except BrokenPipeError:  # "| head" has seen enough
        _silence_stdout()
        return 0
    except ShowtellError as error:
        _say(f"error: {error}")
        return error.exit_code
    except Exception as error:
        remedy, where = _remedy(error), getattr(error, "filename", None)
        if remedy is None:
            raise
        _silence_stdout()
        what = error.strerror if isinstance(error, OSError) else str(error)
        _say(f"error: {what}{f' ({where})' if where else ''}: {remedy}")
        return StorageError.exit_code
    finally:
        if in_main:
            signal.signal(signal.SIGINT, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """KeyboardInterrupt; but while a module is imported the end: some swallow the exception, and
    half a module is of no use to anyone."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            _say("stopped")
            os._exit(STOPPED)
        frame = frame.f_back
    raise KeyboardInterrupt


def _remedy(error: Exception) -> str | None:
    """What a user can do about it, or None for an error that is our own fault."""
    if isinstance(error, OSError):
        return _REMEDIES.get(error.errno or 0)
    # writers in other languages (safetensors) report a full disk as an error of their own
    return _REMEDIES[errno.ENOSPC] if os.strerror(errno.ENOSPC) in str(error) else None


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(printable(f"showtell: {line}"), file=sys.stderr, flush=True)


def _silence_stdout() -> None:
    """Keep the interpreter from failing once more when it flushes stdout at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
