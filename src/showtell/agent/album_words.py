"""Albums that are asked in words, and what makes their vectors.

``home``    a classifier and a sentence encoder that a package index serves, by ConSE: no training,
            no hub
DIR | ID    the same parts with heads trained on captioned photos (``showtell train album_heads``),
            or CLIP or SigLIP of transformers
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from showtell.album.conse import Conse
from showtell.album.find import AlbumEncoder, Finder
from showtell.album.ingest import finish
from showtell.errors import UsageError
from showtell.metrics.encoders import SentenceEncoder, load_clip, load_sentence_encoder
from showtell.models.classifier import PhotoClassifier, load_classifier
from showtell.models.hub import check_needs, index_part, index_parts
from showtell.models.named import named_folder
from showtell.models.two_heads import DESCRIPTION, PHOTOS, TEXTS, AlbumHeads
from showtell.progress import Progress, quiet
from showtell.runtime import the_device

HOME = "home"


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

        @torch.no_grad()
        def photos(images: Sequence[Image.Image]) -> Tensor:
            return heads.photos(classifier()(images).features_PF).cpu()

        return AlbumEncoder(
            name=str(folder.resolve()),
            width=heads.config.width,
            texts=lambda given: heads.texts(texts(given)).cpu(),
            photos=photos,
        )
    clip = load_clip(folder, option="--encoder")
    return AlbumEncoder(
        name=str(folder.resolve()),
        width=clip.texts([HOME]).shape[1],
        texts=clip.texts,
        photos=clip.photos,
    )


def _home_parts(told: Progress) -> tuple[SentenceEncoder, Callable[[], PhotoClassifier]]:
    """The sentence encoder, and the classifier when it is asked for."""
    check_needs(*(index_parts()[name] for name in (PHOTOS, TEXTS)))  # before any download

    @cache
    def classifier() -> PhotoClassifier:
        return load_classifier(index_part(PHOTOS, told=told)).to(the_device())

    return load_sentence_encoder(index_part(TEXTS, told=told)), classifier


def open_finder(
    folder: str | Path, *, encoder: str | None = None, told: Progress = quiet
) -> Finder:
    """The album in ``folder``, asked by the encoder that made it, or by ``encoder`` if it is that.

    Raises DataError for a folder without an album, UsageError for an album of another encoder, or
    of a model, which asks in vectors of its own; and what ``load_encoder`` raises.
    """
    album = finish(folder)
    loaded = None
    if encoder is not None or album.made_by == HOME or Path(album.made_by).is_dir():
        loaded = load_encoder(encoder or album.made_by, told=told)
    if loaded is None or (loaded.name, loaded.width) != (album.made_by, album.width):
        asks = f'"{loaded.name}", width {loaded.width}, asks' if loaded else "words were asked"
        raise UsageError(
            f'the album in "{folder}" was made by "{album.made_by or "an unnamed model"}", width '
            f"{album.width}, and {asks}; wanted the encoder that made it. Index the photos with "
            f"one: showtell album add FOLDER --into ALBUM --encoder {HOME}"
        )
    return Finder(album, loaded.texts)
