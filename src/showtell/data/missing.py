"""What to do about photos that are missing: ``--missing-photos=error|skip|paint:MODEL``.

arXiv 2408.08650 (3.1.1) painted the lost photos of its data sets with another diffusion model. Here
a substitute is marked: its origin is "painted", ``labels["substitute"]`` is true, and what was met
goes into the passport of every report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from showtell.data.photos import photo_image
from showtell.dialogue import PAINTED_BY, Dialogue, Photo, with_photos
from showtell.errors import DataError, PhotoError, UsageError, did_you_mean

Paint = Callable[[Photo, Dialogue], str]
"""Paints the photo from its caption and returns the path of the file that it wrote."""


@dataclass(frozen=True, kw_only=True)
class MissingPhotos:
    """The policy. ``error``: the first missing photo stops. ``skip``: dialogues with a missing
    photo are left out, and counted. ``paint``: ``model`` paints a substitute, which is marked.

    ``decode``: a photo whose file is there but cannot be read counts as missing, too; costs the
    decoding of every photo.
    """

    policy: Literal["error", "skip", "paint"]
    model: str = ""
    paint: Paint | None = None  # wanted by the policy of that name
    decode: bool = False

    @classmethod
    def parse(cls, text: str, *, decode: bool = False) -> MissingPhotos:
        """``error``, ``skip`` or ``paint:MODEL``, which has yet to be given its ``paint``; else
        UsageError."""
        policy, _, model = text.partition(":")
        if text in ("error", "skip") or (policy == "paint" and model):
            return cls(policy=policy, model=model, decode=decode)  # type: ignore[arg-type]
        raise UsageError(
            f"--missing-photos={text}: wanted error, skip or paint:MODEL (as in paint:mini)"
            f"{did_you_mean(policy, ('error', 'skip', 'paint'))}"
        )

    def apply(self, dialogues: Iterable[Dialogue], *, counts: Counter[str]) -> Iterator[Dialogue]:
        """The dialogues under this policy, one by one. ``counts`` grows as they are read: photos,
        missing, unreadable, painted, dialogues, dialogues_skipped.

        Raises DataError for a missing photo under ``error``, and for one without a caption under
        ``paint``; UsageError under ``paint`` without what paints.
        """
        if self.policy == "paint" and self.paint is None:
            raise UsageError(
                f'--missing-photos=paint:{self.model} was given nothing that paints; wanted "paint"'
                ", as evaluation.substitutes.missing_photos gives it"
            )
        for dialogue in dialogues:
            counts["dialogues"] += 1
            counts["photos"] += len(dialogue.photos)
            reasons = [self._missing(photo, counts) for photo in dialogue.photos]
            lost = sum(map(bool, reasons))
            counts["missing"] += lost
            if not lost:
                yield dialogue
            elif self.policy == "error":
                photo, reason = next(p for p in zip(dialogue.photos, reasons, strict=True) if p[1])
                raise DataError(
                    f'dialogue {dialogue.id[:60]}: the photo "{photo.id[:80]}" {reason}. '
                    "Get the photos, or pass --missing-photos=skip to leave such dialogues "
                    "out, or --missing-photos=paint:MODEL for painted substitutes."
                )
            elif self.policy == "skip":
                counts["dialogues_skipped"] += 1
            else:
                counts["painted"] += lost
                photos = zip(dialogue.photos, reasons, strict=True)
                shown = [self._painted(p, dialogue) if lost else p for p, lost in photos]
                yield replace(dialogue, turns=with_photos(dialogue.turns, shown))

    def notes(self, counts: Counter[str]) -> tuple[str, ...]:
        """Lines for a report's passport; none where nothing was missing."""
        if counts["painted"]:
            return (
                f"{counts['painted']:,} of {counts['photos']:,} photos are substitutes, painted by "
                f"{self.model}: figures on them are not those of the data set",
            )
        if counts["dialogues_skipped"]:
            return (
                f"{counts['dialogues_skipped']:,} of {counts['dialogues']:,} dialogues were left "
                f"out, since {counts['missing']:,} photos are missing",
            )
        return ()

    def _missing(self, photo: Photo, counts: Counter[str]) -> str | None:
        """Why the photo counts as missing; None if it does not."""
        if photo.path is None:  # those of the photo world are drawn when they are wanted
            return None if "scene" in photo.labels else "is not there"
        if self.decode:
            try:
                photo_image(photo)
            except PhotoError as error:
                counts["unreadable"] += 1
                return f"cannot be read ({error})"
        return None

    def _painted(self, photo: Photo, dialogue: Dialogue) -> Photo:
        assert self.paint is not None
        if not photo.caption.strip():
            raise DataError(
                f'dialogue {dialogue.id[:60]}: the photo "{photo.id[:80]}" is missing and has no '
                "caption to paint it from; wanted one. Pass --missing-photos=skip."
            )
        return replace(
            photo,
            path=self.paint(photo, dialogue),
            origin="painted",
            labels={**photo.labels, "substitute": True, PAINTED_BY: self.model},
        )
