"""Painted substitutes for photos that are missing: what ``--missing-photos paint:MODEL`` calls.

The authors of arXiv 2408.08650 replaced lost photos so. A substitute is labelled as one, counted,
and named in every report.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from showtell.batch import to_image
from showtell.data.missing import MissingPhotos
from showtell.data.photos import save_photo
from showtell.dialogue import Dialogue, Photo
from showtell.models.decoder import Decoder
from showtell.models.respond import Responder
from showtell.papers import load_model


def missing_photos(text: str | None, *, folder: Path, decode: bool = False) -> MissingPhotos | None:
    """The policy that ``text`` names ("error", "skip", "paint:MODEL"), with what paints for it into
    ``folder``: the same photo every time, and only once.

    ``None`` leaves missing photos missing. Raises UsageError for another text.
    """
    if text is None:
        return None
    policy = MissingPhotos.parse(text, decode=decode)
    if not policy.model:
        return policy
    responder = Responder(Decoder(load_model(policy.model)))

    def paint(photo: Photo, dialogue: Dialogue) -> str:
        digest = hashlib.sha256(f"{photo.id}\n{photo.caption}".encode()).hexdigest()[:16]
        path = folder / f"{digest}.png"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            (painted,) = responder.paint_captions([photo.caption], seeds=[int(digest[:7], 16)])
            save_photo(to_image(painted), path)
        return str(path)

    return replace(policy, paint=paint)
