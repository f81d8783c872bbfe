"""Which photos were shared, when and why: a line of JSON each, without anything of their content or
of what was said."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from showtell.data.storage import writing
from showtell.dialogue import Photo


class Audit:
    """A file that lines are added to, for its owner alone to read."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def shared(self, id: str, photo: Photo, *, conversation: str, why: str) -> None:
        """One photo; ``id``: what it is called outside. Raises StorageError."""
        told = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "conversation": conversation,
            "photo": id,
            "origin": photo.origin,
            "why": why,
        }
        line = json.dumps(told, ensure_ascii=False).encode() + b"\n"
        with writing(self.path, kept="the lines before it stand"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # one write of a whole line: those of several servers do not mix
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(file, line)
            finally:
                os.close(file)
