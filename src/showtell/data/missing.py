"""What to do about photos that are missing: ``--missing-photos=error|skip|paint:MODEL``.

arXiv 2408.08650 (3.1.1) painted the lost photos of its data sets with another diffusion model. Here
a substitute is marked: its origin is "painted", ``labels["substitute"]`` is true, and
``MissingCounts`` goes into the passport of every report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from showtell.data.photos import photo_image
from showtell.dialogue import Dialogue, Photo, with_photos
from showtell.errors import DataError, PhotoError, UsageError, did_you_mean

Paint = Callable[[Photo, Dialogue], str]
"""Paints the photo from its caption and returns the path of the file that it wrote."""


@dataclass
class MissingCounts:
    """What was met: photos, how many were missing, what became of them."""

    photos: int = 0
    missing: int = 0
    unreadable: int = 0
    painted: int = 0
    dialogues: int = 0
    dialogues_skipped: int = 0

    def as_dict(self) -> dict[str, int]:
        return dict(vars(self))

    def notes(self, policy: MissingPhotos) -> tuple[str, ...]:
        """Lines for a report's passport; none where nothing was missing."""
        if self.painted:
            return (
                f"{self.painted:,} of {self.photos:,} photos are substitutes, painted by "
                f"{policy.model}: figures on them are not those of the data set",
            )
        if self.dialogues_skipped:
            return (
                f"{self.dialogues_skipped:,} of {self.dialogues:,} dialogues were left out, since "
                f"{self.missing:,} photos are missing",
            )
        return ()


@dataclass(frozen=True, kw_only=True)
class MissingPhotos:
    """The policy. ``error``: the first missing photo stops. ``skip``: dialogues with a missing
    photo are left out, and counted. ``paint``: ``model`` paints a substitute, which is marked.

    ``decode``: a photo whose file is there but cannot be read counts as missing, too; costs the
    decoding of every photo.
    """

    policy: Literal["error", "skip", "paint"]
    model: str = ""
    decode: bool = False

    @classmethod
    def parse(cls, text: str, *, decode: bool = False) -> MissingPhotos:
        """``error``, ``skip`` or ``paint:MODEL``; else UsageError."""
        policy, colon, model = text.partition(":")
        if policy in ("error", "skip") and not colon:
            return cls(policy=policy, decode=decode)  # type: ignore[arg-type]
        if policy == "paint":
            if not model:
                raise UsageError(
                    f'--missing-photos={text}: wanted the model that paints, as in "paint:mini"'
                )
            return cls(policy="paint", model=model, decode=decode)
        raise UsageError(
            f"--missing-photos={text}: wanted error, skip or paint:MODEL"
            f"{did_you_mean(policy, ('error', 'skip', 'paint'))}"
        )

    def apply(
        self,
        dialogues: Iterable[Dialogue],
        *,
        counts: MissingCounts,
        paint: Paint | None = None,
    ) -> Iterator[Dialogue]:
        """The dialogues under this policy, one by one; ``counts`` grows as they are read.

        ``paint`` is wanted by the policy of that name. Raises DataError for a missing photo under
        ``error``, and for one without a caption under ``paint``.
        """
        if self.policy == "paint" and paint is None:
            raise UsageError("--missing-photos=paint needs a painter; wanted paint:MODEL")
        for dialogue in dialogues:
            counts.dialogues += 1
            counts.photos += len(dialogue.photos)
            reasons = [self._missing(photo, counts) for photo in dialogue.photos]
            lost = sum(map(bool, reasons))
            counts.missing += lost
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
                counts.dialogues_skipped += 1
            else:
                assert paint is not None
                counts.painted += lost
                yield with_photos(
                    dialogue,
                    [
                        self._painted(photo, dialogue, paint) if reason else photo
                        for photo, reason in zip(dialogue.photos, reasons, strict=True)
                    ],
                )

    def _missing(self, photo: Photo, counts: MissingCounts) -> str | None:
        """Why the photo counts as missing; None if it does not."""
        if photo.path is None:  # those of the photo world are drawn when they are wanted
            return None if "scene" in photo.labels else "is not there"
        if self.decode:
            try:
                photo_image(photo)
            except PhotoError as error:
                counts.unreadable += 1
                return f"cannot be read ({error})"
        return None

    def _painted(self, photo: Photo, dialogue: Dialogue, paint: Paint) -> Photo:
        if not photo.caption.strip():
            raise DataError(
                f'dialogue {dialogue.id[:60]}: the photo "{photo.id[:80]}" is missing and has no '
                "caption to paint it from; wanted one. Pass --missing-photos=skip."
            )
        return replace(
            photo,
            path=paint(photo, dialogue),
            origin="painted",
            labels={**photo.labels, "substitute": True, "painted_by": self.model},
        )
