"""Where a data set's photos lie on disk: names are looked up below one folder and nowhere else."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from showtell.data.records import SKIP
from showtell.errors import PhotoError


class PhotoFolder:
    """A folder of photos. The folder itself may be a link; nothing below it may.

    ``places`` are folders below it (or "") that are looked through in order, as far as they are
    there: releases of one data set do not agree on them.
    """

    def __init__(self, root: Path, places: Sequence[str] = ("",)) -> None:
        self.root = root
        self.places = [place for place in places if (root / place).is_dir()]
        self._plain: set[str] = {""}  # folders below root that are known to be no links

    def find(self, name: str, where: str, *, endings: Sequence[str] = ("",)) -> str | None:
        """The path of the photo, or None if it is not there; the first of the endings that is.

        Raises PhotoError for a name that climbs out of the folder, for a link on the way, and for
        what is not a file.
        """
        parts = name.split("/")
        if not name or "\\" in name or "\0" in name or ".." in parts or "" in parts or "." in parts:
            raise PhotoError(
                f'{where}: the photo "{name[:80]!s}" lies outside of {self.root} or is no plain '
                f"path; wanted a name below that folder. {SKIP}"
            )
        for place in self.places:
            for ending in endings:
                found = self._file(f"{place}/{name}{ending}" if place else name + ending, where)
                if found is not None:
                    return found
        return None

    def _file(self, name: str, where: str) -> str | None:
        try:
            folder, slash, _ = name.rpartition("/")
            if slash and folder not in self._plain and not self._check_folders(folder, where):
                return None
            path = os.path.join(self.root, name)
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:  # no permission; a name of 300 letters; a surrogate
            reason = getattr(error, "strerror", None) or error
            raise PhotoError(
                f'{where}: the photo "{name[:80]!r}" cannot be looked up ({reason}). {SKIP}'
            ) from error
        if stat.S_ISLNK(mode):
            raise self._link(name, where)
        if not stat.S_ISREG(mode):
            raise PhotoError(f'{where}: "{name[:80]}" is no file, wanted a photo. {SKIP}')
        return path

    def _check_folders(self, folder: str, where: str) -> bool:
        """Whether the folder is there; PhotoError if any of its parents below root is a link."""
        path = ""
        for part in folder.split("/"):
            path = f"{path}/{part}" if path else part
            if path in self._plain:
                continue
            mode = os.lstat(os.path.join(self.root, path)).st_mode
            if stat.S_ISLNK(mode):
                raise self._link(path, where)
            if not stat.S_ISDIR(mode):
                return False
            self._plain.add(path)
        return True

    def _link(self, name: str, where: str) -> PhotoError:
        return PhotoError(
            f'{where}: "{name[:80]}" is a symbolic link; wanted photos that lie in {self.root} '
            f"itself. Copy it there. {SKIP}"
        )
