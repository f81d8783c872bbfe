"""From what the LLM said of a photo to photos of an album (2305.17216): the query, the search."""

from __future__ import annotations

from collections.abc import Collection

import torch

from showtell.album.index import Album, Hit
from showtell.errors import ConfigError
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.parts import PhotoSpans


@torch.no_grad()
def retrieve(
    model: PhotoDialogueModel,
    spans: PhotoSpans,
    album: Album,
    *,
    top_k: int = 1,
    cut_off: float = -1.0,
    without: Collection[str] = (),
) -> list[list[Hit]]:
    """For each of N spans the album's nearest photos, best first (see ``Album.search``).

    Raises ConfigError for a model whose bridge makes no query, DataError for an album that another
    model has made.
    """
    if model.bridge.query_width is None:
        raise ConfigError(
            f'the bridge of "{model.name}", {type(model.bridge).__name__}, makes no query for an '
            'album; wanted Gill; use a model that "showtell train world_gill" wrote'
        )
    query_NE = model.bridge.query(spans.after_NKD)  # type: ignore[operator]
    return album.search(query_NE, top_k=top_k, cut_off=cut_off, without=without)
