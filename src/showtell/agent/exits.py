"""How a command ends: 0 fine, 1 failed, 2 misused, 130 stopped; never with a traceback for
something that a user can mend.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable

from showtell.errors import ShowtellError, StorageError

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
    try:
        code = action() or 0
        sys.stdout.flush()  # a full disk or a closed pipe shows only here
        if code == STOPPED:
            _say("stopped")
        return code
    except KeyboardInterrupt:
        _say("stopped")
        return STOPPED
    except BrokenPipeError:
        _silence_stdout()
        return 1
    except ShowtellError as error:
        _say(f"error: {error}")
        return error.exit_code
    except OSError as error:
        known = as_storage_error(error)
        if known is None:
            raise
        _silence_stdout()
        _say(f"error: {known}")
        return known.exit_code
    except Exception as error:
        # Writers in other languages (safetensors) report a full disk as an error of their own.
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        _say(f"error: {error}: {_REMEDIES[errno.ENOSPC]}")
        return StorageError.exit_code


def as_storage_error(error: OSError) -> StorageError | None:
    """The same in words a user can act upon, or None for an error that is our own fault."""
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    where = f" ({error.filename})" if error.filename else ""
    return StorageError(f"{error.strerror}{where}: {remedy}")


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        print(f"showtell: {line}", file=sys.stderr, flush=True)


def _silence_stdout() -> None:
    """Keep the interpreter from failing once more when it flushes stdout at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
