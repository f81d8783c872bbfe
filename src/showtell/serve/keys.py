"""Who asks, and how often: nobody is asked for a key at home, and elsewhere each key is an owner of
its own.

    showtell serve --api-keys FILE       one key a line; blank lines and # comments are passed over
                   --pace 30/minute      answers that one key gets

Keys are compared by digest; owners are told by digest, so that no log and no table holds a key.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from showtell.errors import DataError, UsageError
from showtell.serve.worker import Busy

LOCAL = "local"
MIN_LENGTH = 16


class Keys:
    """The keys that are let in; none: everybody is LOCAL."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._digests = [_digest(key) for key in keys]

    @classmethod
    def read(cls, path: Path) -> Keys:
        """Raises DataError for a file without keys, and for keys that are guessed easily."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"the keys in {path} cannot be read ({error}); wanted a file with one key a line"
            ) from error
        keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not keys:
            raise DataError(f"{path} holds no key; wanted one a line; write one into it")
        if short := sum(len(key) < MIN_LENGTH for key in keys):
            raise DataError(
                f"{path} holds {short} keys of less than {MIN_LENGTH} characters; wanted keys that "
                "nobody guesses: python -c 'import secrets; print(secrets.token_urlsafe(24))'"
            )
        return cls(keys)

    def owner(self, authorization: str | None) -> str | None:
        """Whose request this is; None for nobody's."""
        if not self._digests:
            return LOCAL
        kind, _, key = (authorization or "").partition(" ")
        if kind.lower() != "bearer":
            return None
        met = _digest(key.strip())
        known = [hmac.compare_digest(met, digest) for digest in self._digests]  # all, always
        return met[:32] if any(known) else None


class Pace:
    """How many answers one owner gets in a time, as "30/minute" or "2/second;500/day"."""

    def __init__(self, told: str) -> None:
        """Raises UsageError."""
        from limits import parse_many
        from limits.storage import MemoryStorage
        from limits.strategies import MovingWindowRateLimiter

        try:
            self._limits = parse_many(told)
            if any(limit.amount < 1 for limit in self._limits):
                raise ValueError("nothing at all")
        except ValueError as error:
            raise UsageError(
                f'the pace "{told:.80}" is not read; wanted a number of answers in a time; name '
                "one as 30/minute"
            ) from error
        self._counted = MovingWindowRateLimiter(MemoryStorage())

    def wait_s(self, owner: str) -> int:
        """Count one answer of this owner's: 0, or the seconds until there is room for it."""
        for limit in self._limits:
            if not self._counted.test(limit, owner):
                free, _ = self._counted.get_window_stats(limit, owner)
                return max(1, math.ceil(free - time.time()))
        for limit in self._limits:
            self._counted.hit(limit, owner)
        return 0


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _owner(request: Request) -> str:
    keys: Keys = request.app.state.keys
    found = keys.owner(request.headers.get("authorization"))
    if found is None:
        met = (
            "this key is not known here" if request.headers.get("authorization") else "no key came"
        )
        raise HTTPException(401, f"{met}; wanted one of this server's: Authorization: Bearer KEY")
    return found


def _asking(request: Request, owner: Annotated[str, Depends(_owner)]) -> str:
    pace: Pace | None = request.app.state.pace
    if pace is not None and (wait := pace.wait_s(owner)):
        raise Busy(
            f"this key has had as many answers as it gets for now; ask again in {wait} s",
            retry_after=wait,
        )
    return owner


Owner = Annotated[str, Depends(_owner)]  # whose request it is
Asking = Annotated[str, Depends(_asking)]  # the same where a model is asked, and counted
