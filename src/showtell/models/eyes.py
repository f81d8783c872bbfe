"""Eyes: photos of the user's in words, for a model that reads captions, or who wants words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from PIL import Image

from showtell.dialogue import USER, Photo, Turn, with_photos
from showtell.models.decoder import Decoder, Images

CAPTIONS_AT_ONCE = 64


class Eyes:
    """What a decoder sees on photos, or its captioner, or ``looks``, where it has that."""

    def __init__(
        self,
        decoder: Decoder,
        *,
        looks: Callable[[Sequence[Image.Image]], list[str]] | None = None,
    ) -> None:
        self.decoder = decoder
        self.model = decoder.model
        self.looks = looks

    @property
    def sees(self) -> bool:
        """Whether it, or what tells it of photos, looks at them."""
        eyes = (self.model.photo_encoder, self.model.captioner, self.looks)
        return any(each is not None for each in eyes)

    @torch.no_grad()
    def describe_all(
        self, contexts: Sequence[tuple[Turn, ...]], images: Sequence[Images]
    ) -> list[tuple[Turn, ...]]:
        """The turns with the user's photos as the captioner tells them, or ``looks``, for a model
        that reads captions only; a photo without an image keeps the caption it has."""
        if self.model.captioner is None and self.looks is None:
            return list(contexts)
        photos = [[photo for turn in turns for photo in turn.photos] for turns in contexts]
        shown = [
            (photo, own[photo.id])
            for group, own in zip(photos, images, strict=True)
            for photo in group
            if _to_describe(photo, own)
        ]
        if not shown:
            return list(contexts)
        if self.model.captioner is not None:
            eyes = Eyes(Decoder(self.model.captioner))
            captions = iter(eyes.captions([p for p, _ in shown], [i for _, i in shown]))
        elif self.looks is not None:
            captions = iter(self.looks([image for _, image in shown]))

        def told(photo: Photo, own: Images) -> Photo:
            return replace(photo, caption=next(captions)) if _to_describe(photo, own) else photo

        return [
            with_photos(turns, [told(photo, own) for photo in group])
            for turns, group, own in zip(contexts, photos, images, strict=True)
        ]

    @torch.no_grad()
    def captions(self, photos: Sequence[Photo], images: Sequence[Image.Image]) -> list[str]:
        """What it sees in each of the photos, in words."""
        said: list[str] = []
        for start in range(0, len(photos), CAPTIONS_AT_ONCE):
            part = slice(start, start + CAPTIONS_AT_ONCE)
            writing, _ = self.decoder.read_all(
                [(Turn(speaker=USER, elements=(photo,)),) for photo in photos[part]],
                [{p.id: image} for p, image in zip(photos[part], images[part], strict=True)],
            )
            self.decoder.open_turn(writing)
            said += self.decoder.write_captions(writing)
        return said

    def look(self, image: Image.Image) -> str:
        """What it, or what tells it of photos, sees in one; "" where it sees none, or has no words
        for it."""
        if self.looks is not None:
            return self.looks([image])[0]
        eyes = self if self.model.captioner is None else Eyes(Decoder(self.model.captioner))
        if eyes.model.photo_encoder is None or eyes.decoder.renderer.span_ids:
            return ""
        return eyes.captions([Photo(id="seen")], [image])[0]


def _to_describe(photo: Photo, images: Images) -> bool:
    """Whether it is the user's, and there to see: the agent knows what its own photos show."""
    return photo.origin == "user" and photo.id in images
