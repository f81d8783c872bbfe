"""Where a photo of some words comes from: found in an album, painted, or nowhere; and the words
for a photo that somebody brings."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from showtell.agent.engines import ToldStep, WordPainter
from showtell.agent.prompts import prompts
from showtell.dialogue import Photo
from showtell.errors import EngineError, PhotoError
from showtell.models.reply import Shared

if TYPE_CHECKING:
    from PIL.Image import Image

    from showtell.album.find import Finder
    from showtell.models.classifier import PhotoClassifier


class PhotosInWords:
    """An album that is asked in words, and the folder that its photos lie in."""

    def __init__(self, finder: Finder, folder: Path) -> None:
        self.finder, self.folder = finder, folder

    def find(self, words: str, *, without: Collection[str]) -> tuple[Photo, Image] | None:
        """The best photo for one of the sentences that can be read, one ``without`` these ids if
        there is any; None if no photo reaches the finder's cut-off."""
        from showtell.album.told import words_of
        from showtell.data.photos import load_photo

        said = [each for each in re.split(r"(?<=[.!?])\s+", words) if words_of(each)]

        for unwanted in (without, ()):
            hits = [h for each in said for h in self.finder.find(each, top_k=3, without=unwanted)]
            for hit in sorted(hits, key=lambda hit: -hit.score):
                photo = self.finder.album.photo(hit, folder=self.folder)
                with suppress(PhotoError):  # it was moved, or is damaged
                    return photo, load_photo(photo.path or "")
        return None


class PhotoSources:
    """An album first, then a painter; with neither, no photo. What a session's model shares from
    that tells its photos in words."""

    def __init__(
        self, *, album: PhotosInWords | None = None, painter: WordPainter | None = None
    ) -> None:
        self.album, self.painter = album, painter

    def look_up(self, request: str, *, without: Collection[str]) -> Shared | None:
        """The album's photo for somebody's words, if they say what it should show, and there is
        one."""
        found = None if self.album is None else self.album.find(request, without=without)
        return None if found is None else Shared(photo=found[0], image=found[1])

    def share(
        self,
        description: str,
        *,
        photo_id: str,
        seed: int,
        without: Collection[str],
        notes: list[str],
        on_step: ToldStep | None = None,
    ) -> Shared:
        """A photo of the description: found, painted, late, or none; ``notes`` get what went
        otherwise than it should. ``without``: photos that are not wanted where there are others;
        ``photo_id``: of a painted one."""
        from showtell.data.photochat import OBJECTS

        # no photo is found by the words that open every description
        found = self.look_up(description.replace(OBJECTS, " ").strip(), without=without)
        if found is not None:
            return found
        if self.painter is None:
            where = "the album has none" if self.album else "there is no album and no painter"
            notes.append(f'a photo was due ("{description}"), and {where}')
            return Shared(instead=prompts()["itself"]["no_photo"])
        photo = Photo(id=photo_id, caption=description, origin="painted", seed=seed)
        try:
            return Shared(
                photo=photo, image=self.painter.paint(description, seed=seed, on_step=on_step)
            )
        except EngineError as error:
            notes.append(f'the photo is late ("{description}"): {error}')
            return Shared(photo=photo)


class Looks:
    """Photos in words, by a classifier out of an index's wheels, which is fetched where the first
    photo is seen: as PhotoChat describes them, by what is in them."""

    def __init__(self, part: str) -> None:
        self.part = part
        self.classifier: PhotoClassifier | None = None

    def __call__(self, images: Sequence[Image]) -> list[str]:
        from showtell.data.photochat import OBJECTS
        from showtell.models.classifier import load_classifier
        from showtell.models.hub import index_part
        from showtell.progress import terminal_progress

        if self.classifier is None:
            self.classifier = load_classifier(index_part(self.part, told=terminal_progress))
        told, names = [], self.classifier.classes
        for chances in self.classifier(images).logits_PC.softmax(dim=1):
            top = chances.topk(min(3, len(chances)))
            sure = top.indices[top.values >= top.values[0] / 2].tolist()  # the best one always
            told.append(f"{OBJECTS} {', '.join(names[k][:1].upper() + names[k][1:] for k in sure)}")
        return told
