"""Who asks: nobody is asked for a key at home, and elsewhere each key is an owner of its own.

    showtell serve --api-keys FILE       one key a line; blank lines and # comments are passed over

Keys are compared by digest; owners are told by digest, so that no log and no table holds a key.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from showtell.errors import DataError

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


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _owner(request: Request) -> str:
    keys: Keys = request.app.state.keys
    found = keys.owner(request.headers.get("authorization"))
    if found is None:
        raise HTTPException(401, "a key is wanted: Authorization: Bearer KEY")
    return found


Owner = Annotated[str, Depends(_owner)]  # whose request it is
