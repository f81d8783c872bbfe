"""Which photo, where one is due: an album's, a painted one, or none.

    words       the request's, where it names something; else what the model says of the photo
    hits        the album's best photos for these, each with its score
    retrieve    the best that was not shown yet, if its score reaches the cut-off
    paint       where none does, and there is a painter
    none        "I have no such photo."

The album is asked once: a second text would be a second chance of a wrong photo. A photo that was
shown comes once more where the user says so ("again"), and else never.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from showtell.agent.engines import AT_ONCE, ToldStep, WordPainter
from showtell.agent.prompts import prompts
from showtell.agent.when import wish_of
from showtell.dialogue import PAINTED_BY, USER, Photo, Turn
from showtell.errors import EngineError, PhotoError
from showtell.models.reply import Shared, Wish

if TYPE_CHECKING:
    from PIL.Image import Image

    from showtell.album.find import AlbumEncoder, Finder
    from showtell.album.immich import ImmichFinder
    from showtell.album.index import AlbumPhoto, Hit

CONSIDERED = 5  # photos that are told with a choice
# of a sentence, or of a part that speaks of somebody: "a dog, my brother will love it"
_ENDS = re.compile(
    r"(?<=[.!?])\s+|,\s+(?=(?:and |but |so |because )?(?:i|i'm|i'd|we|you|he|she|they|my|our)\b)",
    re.IGNORECASE,
)


class PhotosInWords:
    """An album that is asked in words, and the folder that its photos lie in; ``encoder``: what
    takes more photos in."""

    def __init__(
        self, finder: Finder, folder: Path, *, encoder: AlbumEncoder | None = None
    ) -> None:
        self.finder, self.folder, self.encoder = finder, folder, encoder

    @property
    def cut_off(self) -> float:
        return self.finder.cut_off

    @property
    def photos(self) -> Sequence[AlbumPhoto]:
        return self.finder.album.photos

    def hits(self, words: str, *, top_k: int) -> list[Hit]:
        """The best photos for one of the sentences, those that ask first; whatever their scores. []
        where no sentence names anything."""
        best: dict[str, Hit] = {}
        for sentence in sentences(words):
            for hit in self.finder.find(sentence, top_k=top_k, cut_off=-math.inf):
                if hit.photo.id not in best or hit.score > best[hit.photo.id].score:
                    best[hit.photo.id] = hit
        return sorted(best.values(), key=lambda hit: -hit.score)[:top_k]

    def opened(self, hit: Hit) -> tuple[Photo, Image] | None:
        """The photo and its pixels; None where it was moved, or is damaged."""
        from showtell.data.photos import load_photo

        photo = self.finder.album.photo(hit, folder=self.folder)
        with suppress(PhotoError):
            return photo, load_photo(photo.path or "")
        return None

    def of_id(self, id: str) -> Hit | None:
        """The photo of that id, as if found."""
        from showtell.album.index import Hit

        photo = self.finder.album.of_id(id)
        return None if photo is None else Hit(photo=photo, score=math.inf)

    def same(self, ids: Sequence[str]) -> Callable[[Hit], bool]:
        """Whether a hit is one of these photos, or nearly the same as one."""
        shots = {hit.photo.shot for id in ids if (hit := self.of_id(id)) is not None} - {0}
        return lambda hit: hit.photo.id in ids or hit.photo.shot in shots


class PhotosOfImmich(PhotosInWords):
    """A library of immich's in an album's place; its photos have no files here."""

    def __init__(self, finder: ImmichFinder) -> None:
        super().__init__(cast("Finder", finder), Path(), encoder=finder.encoder)
        self._library = finder

    def opened(self, hit: Hit) -> tuple[Photo, Image] | None:
        photo = Photo(id=hit.photo.id, caption=hit.photo.caption, origin="album")
        with suppress(PhotoError, EngineError):
            return photo, self._library.image(hit.photo.id)
        return None

    def of_id(self, id: str) -> Hit | None:
        from showtell.album.index import Hit

        photo = self._library.of_id(id)
        return None if photo is None else Hit(photo=photo, score=math.inf)


class Together:
    """Albums of one encoder that are asked as one; at least one."""

    def __init__(self, albums: Sequence[PhotosInWords]) -> None:
        self.albums = albums

    @property
    def cut_off(self) -> float:
        return self.albums[0].cut_off

    def hits(self, words: str, *, top_k: int) -> list[Hit]:
        """A photo that is in two of them is found once."""
        found = {h.photo.id: h for a in reversed(self.albums) for h in a.hits(words, top_k=top_k)}
        return sorted(found.values(), key=lambda hit: -hit.score)[:top_k]

    def opened(self, hit: Hit) -> tuple[Photo, Image] | None:
        for album in self.albums:
            if album.of_id(hit.photo.id) and (found := album.opened(hit)) is not None:
                return found
        return None

    def of_id(self, id: str) -> Hit | None:
        return next((hit for album in self.albums if (hit := album.of_id(id)) is not None), None)

    def same(self, ids: Sequence[str]) -> Callable[[Hit], bool]:
        """Whether a hit is one of these photos, or nearly the same as one of its album."""
        each = [(album, album.same(ids)) for album in self.albums]

        def seen(hit: Hit) -> bool:
            return hit.photo.id in ids or any(
                album.of_id(hit.photo.id) and same(hit) for album, same in each
            )

        return seen


class Which:
    """An album first, then a painter; with neither, no photo. What a session's model shares from
    that tells its photos in words. ``albums``, once set: of whoever asks (``Wish.album``)."""

    def __init__(
        self, *, album: PhotosInWords | None = None, painter: WordPainter | None = None
    ) -> None:
        self.album, self.painter = album, painter
        self.albums: Callable[[str], Together | None] | None = None

    def _album(self, wish: Wish) -> PhotosInWords | Together | None:
        return self.album if self.albums is None else self.albums(wish.album)

    @property
    def paints(self) -> bool:
        """Whether words may become a photo that no album has."""
        return self.painter is not None

    @property
    def at_once(self) -> int:
        """Photos that may be asked for side by side."""
        return AT_ONCE if self.painter is None else getattr(self.painter, "at_once", 1)

    def look_up(self, words: str, *, wish: Wish, shown: Sequence[str]) -> Shared | None:
        """The album's photo for these words, or that it has none; None where the words name nothing
        or there is no album, or none that answers."""
        with suppress(EngineError):
            return self._looked_up(words, wish=wish, shown=shown)
        return None

    def _looked_up(self, words: str, *, wish: Wish, shown: Sequence[str]) -> Shared | None:
        if (album := self._album(wish)) is None:
            return None
        if wish.again and not sentences(wish.words):  # "that one again"
            for hit in filter(None, map(album.of_id, reversed(shown))):
                if (same := album.opened(hit)) is not None:
                    return Shared(photo=same[0], image=same[1])
            return None
        if not sentences(words):
            return None
        hits = album.hits(words, top_k=CONSIDERED + len(shown))
        fit = [hit for hit in hits if hit.score >= album.cut_off]
        seen = album.same(shown)
        for hit in fit:
            if (wish.again or not seen(hit)) and (found := album.opened(hit)) is not None:
                return Shared(photo=found[0], image=found[1], hits=_told(hits))
        why = "no_other" if any(map(seen, fit)) else "no_photo"
        return Shared(instead=prompts()["itself"][why], hits=_told(hits))

    def share(
        self,
        description: str,
        *,
        wish: Wish,
        photo_id: str,
        seed: int,
        shown: Sequence[str],
        notes: list[str],
        looked: Shared | None = None,
        on_step: ToldStep | None = None,
    ) -> Shared:
        """A photo of the description: found, painted, late, or none; ``notes`` get what went
        otherwise than it should. ``photo_id``: of a painted one; ``looked``: what ``look_up`` has
        said already."""
        from showtell.data.photochat import OBJECTS

        # no photo is found by the words that open every description
        words = description.replace(OBJECTS, " ").strip()
        found = looked or Shared()
        if looked is None:
            try:
                found = self._looked_up(words, wish=wish, shown=shown) or found
            except EngineError as error:
                notes.append(f"the album was not asked: {error}")
        if found.photo is not None:
            return found
        if self.painter is None:
            where = (
                "the album has none" if self._album(wish) else "there is no album and no painter"
            )
            notes.append(f'a photo was due ("{description}"), and {where}')
            return Shared(instead=found.instead or prompts()["itself"]["no_photo"], hits=found.hits)
        photo = Photo(
            id=photo_id,
            caption=description,
            origin="painted",
            seed=seed,
            labels={PAINTED_BY: self.painter.name},
        )
        image = None
        try:
            if wish.start is None:
                image = self.painter.paint(description, seed=seed, on_step=on_step)
            else:
                image = self.painter.paint(
                    description,
                    seed=seed,
                    on_step=on_step,
                    start=wish.start,
                    strength=wish.strength,
                )
                if not self.painter.edits:
                    notes.append(
                        f"{self.painter.name} cannot start from a photo, so it was painted anew"
                    )
        except EngineError as error:
            notes.append(f'the photo is late ("{description}"): {error}')
        return Shared(photo=photo, image=image, hits=found.hits)


def sentences(words: str) -> list[str]:
    """The sentences that name something: those of them that ask for a photo, or else all."""
    from showtell.album.shown import names_something

    said = _ENDS.split(words)
    naming = [each for each in said if names_something(each)]
    asking = [each for each in naming if wish_of([Turn(speaker=USER, elements=(each,))]).share]
    return asking or naming


def _told(hits: Sequence[Hit]) -> tuple[tuple[str, float], ...]:
    return tuple((hit.photo.id, hit.score) for hit in hits[:CONSIDERED])
