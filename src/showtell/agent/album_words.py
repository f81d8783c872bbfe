"""Albums that are asked in words, and what makes their vectors.

``home``    a classifier and a sentence encoder that a package index serves, by ConSE: no training,
            no hub
DIR | ID    the same parts with heads trained on captioned photos (``showtell train album_heads``),
            or CLIP or SigLIP of transformers

``sample``, as an album, is the one that ships: indexed by ``home`` when it is first asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from showtell.agent.which import PhotosInWords, PhotosOfImmich
from showtell.album import conse as looks
from showtell.album import ingest
from showtell.album import told as names
from showtell.album.conse import Conse
from showtell.album.find import CUT_OFF, AlbumEncoder, Finder
from showtell.album.gather import photo_paths
from showtell.album.immich import PREFIX, Immich, ImmichFinder
from showtell.album.index import Album, content_of
from showtell.album.ingest import add_photos, finish, has_album
from showtell.album.shown import Terms
from showtell.errors import UsageError
from showtell.metrics.encoders import SentenceEncoder, load_clip, load_sentence_encoder
from showtell.metrics.report import digest, model_digest
from showtell.models import hub
from showtell.models.checkpoint import SHIPPED
from showtell.models.classifier import PhotoClassifier, load_classifier
from showtell.models.hub import cache_folder, check_needs, fetch_parts, index_part, index_parts
from showtell.models.named import named_folder
from showtell.models.two_heads import DESCRIPTION, PHOTOS, TEXTS, AlbumHeads
from showtell.progress import Progress, quiet
from showtell.recipes.album_heads import eyes_of
from showtell.runtime import the_device

HOME, SAMPLE = "home", "sample"


def load_encoder(name: str, *, told: Progress = quiet) -> AlbumEncoder:
    """``home``, or that of a folder or id. Parts that are not there are fetched, the classifier
    where the first photo is seen.

    Raises what ``named_folder`` raises.
    """
    if name == HOME:
        texts, classifier = _home_parts(told)

        @cache
        def conse() -> Conse:
            look = classifier()
            return Conse(lambda images: look(images).logits_PC, look.classes, texts)

        width = texts([HOME]).shape[1]
        return AlbumEncoder(
            name=HOME, width=width, texts=texts, photos=lambda images: conse()(images)
        )
    folder = named_folder(name, flag="--encoder", told=told)
    if (folder / DESCRIPTION).is_file():
        heads = AlbumHeads.load(folder).to(the_device())
        texts, classifier = _home_parts(told)
        names = heads.config.terms

        @cache
        def eyes() -> Callable[[Sequence[Image.Image]], Tensor]:
            if heads.config.eyes:
                return eyes_of(heads.config.eyes)
            look = classifier()
            return lambda images: look(images).features_PF

        @torch.no_grad()
        def photos(images: Sequence[Image.Image]) -> Tensor:
            return heads.photos(eyes()(images)).cpu()

        return AlbumEncoder(
            name=f"{folder.resolve()}#{model_digest(folder)}",
            width=heads.config.width,
            texts=lambda given: heads.texts(texts(given)).cpu(),
            photos=photos,
            terms=Terms(names=names, **heads.terms(), texts=texts) if names else None,
            cut_off=CUT_OFF if heads.config.cut_off is None else heads.config.cut_off,
        )
    clip = load_clip(folder, option="--encoder")
    return AlbumEncoder(
        name=f"{folder.resolve()}#{model_digest(folder)}",
        width=clip.texts([HOME]).shape[1],
        texts=clip.texts,
        photos=clip.photos,
    )


def fetch_for(name: str, *, say: Callable[[str], None]) -> None:
    """Fetch now what ``load_encoder`` of that name needs, all sizes said first. Raises what
    ``fetch_parts`` raises."""
    if name == HOME or (Path(name).expanduser() / DESCRIPTION).is_file():
        fetch_parts(PHOTOS, TEXTS, say=say)


def _home_parts(told: Progress) -> tuple[SentenceEncoder, Callable[[], PhotoClassifier]]:
    """The sentence encoder, and the classifier when it is asked for."""
    check_needs(*(index_parts()[name] for name in (PHOTOS, TEXTS)))  # before any download

    @cache
    def classifier() -> PhotoClassifier:
        return load_classifier(index_part(PHOTOS, told=told)).to(the_device())

    return load_sentence_encoder(index_part(TEXTS, told=told)), classifier


def open_album_of_words(
    folder: str | Path, *, encoder: str | None = None, told: Progress = quiet
) -> PhotosInWords:
    """The album in ``folder``, asked by the encoder that made it, or by ``encoder`` if it is that,
    wherever it lies now.

    Raises DataError for a folder without an album, UsageError for an album of another encoder, or
    of a model, which asks in vectors of its own; and what ``load_encoder`` raises.
    """
    album = finish(folder)
    made_at = album.made_by.rpartition("#")[0] or album.made_by
    loaded = None
    if encoder is not None or made_at == HOME or Path(made_at).is_dir():
        loaded = load_encoder(encoder or made_at, told=told)
    wanted = content_of(album.made_by), album.width
    if loaded is None or (content_of(loaded.name), loaded.width) != wanted:
        asks = f'"{loaded.name}", width {loaded.width}, asks' if loaded else "words were asked"
        raise UsageError(
            f'the album in "{folder}" was made by "{album.made_by or "an unnamed model"}", width '
            f"{album.width}, and {asks}; wanted the encoder that made it (if it was moved: "
            "--encoder DIR). Or index the photos with another: "
            f"showtell album add FOLDER --into ALBUM --encoder {HOME}"
        )
    finder = Finder(album, loaded.texts, terms=loaded.terms, cut_off=loaded.cut_off)
    return PhotosInWords(finder, Path(folder), encoder=loaded)


def open_finder(
    folder: str | Path, *, encoder: str | None = None, told: Progress = quiet
) -> Finder:
    """What searches it alone."""
    return open_album_of_words(folder, encoder=encoder, told=told).finder


def open_photos(
    album: str | Path, *, encoder: str | None = None, told: Progress = quiet
) -> PhotosInWords:
    """An album for an agent that shares photos: a folder, ``sample``, or immich:ADDRESS. Raises
    what ``open_finder`` and ``album_folder`` raise; EngineError where immich does not answer."""
    if str(album).startswith(PREFIX):
        library = Immich(str(album).removeprefix(PREFIX), os.environ.get("IMMICH_API_KEY", ""))
        library.people()  # what is wrong is said now
        return PhotosOfImmich(ImmichFinder(library, load_encoder(encoder or HOME, told=told)))
    return open_album_of_words(album_folder(album, told=told), encoder=encoder, told=told)


def album_folder(album: str | Path, *, told: Progress = quiet) -> Path:
    """The folder of an album; of ``sample``, which is indexed now where it is not yet, one in the
    cache, which is known by the photos, their captions and the parts that look at them.

    Raises what ``load_encoder`` and ``add_photos`` raise.
    """
    if str(album) != SAMPLE:
        return Path(album)
    shipped = SHIPPED / "album"
    makers = [Path(module.__file__ or "") for module in (looks, names, ingest, hub)]
    key = digest([*shipped.iterdir(), *makers, makers[-1].with_suffix(".toml")])
    folder = cache_folder() / f"album-{SAMPLE}-{key[:8]}"
    if not has_album(folder) or len(Album.load(folder)) < len(photo_paths(shipped)[0]):
        home = load_encoder(HOME, told=told)
        add_photos(
            shipped,
            into=folder,
            embed=home.photos,
            texts=home.texts,
            width=home.width,
            made_by=home.name,
            told=told,
        )
    return folder
