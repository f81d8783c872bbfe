"""Retrieve or generate, on the world's own labels: what people's votes are for real prompts.

People were shown a photo from the album and a painted one, and chose. Here the label is: retrieve,
where the album's nearest photo shows all that the wanted photo's caption states, but for one
attribute at most; else generate. It is read from the scenes, not from pixels, so no instrument
that measures has a part in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from photoworld.scenes import ATTRIBUTES
from photoworld.talk import world_dialogue
from showtell.album.index import Album
from showtell.batch import collate
from showtell.dialogue import Dialogue, Photo
from showtell.errors import DataError
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import described
from showtell.papers.gill import DecisionHead, train_decision
from showtell.recipes.tasks import world_pixels
from showtell.training.features import photo_scene


def fewest_misses(photos: Sequence[Photo], album: Album) -> np.ndarray:
    """(N,): how many of its stated attributes the album's nearest photo of each lacks.

    Raises DataError for an album that is empty, or not of the world.
    """
    if not len(album):
        raise DataError("the album has no photos; wanted one that world_gill has written")
    try:
        seeds = [int(photo.id.removeprefix("photo-")) for photo in album.photos]
    except ValueError as error:
        raise DataError(
            f'the album was made by "{album.made_by}" of other photos than the world\'s ({error}); '
            "wanted one that world_gill has written"
        ) from error
    album_MA = np.array([list(photo_scene(seed).attributes.values()) for seed in seeds])
    misses = []
    for photo in photos:
        stated_A = np.isin(list(ATTRIBUTES), list(photo.labels["stated"]))
        wanted_A = np.array([photo.labels["scene"][name] for name in ATTRIBUTES])
        misses.append(int(((album_MA != wanted_A) & stated_A).sum(1).min()))
    return np.array(misses, dtype=int)


def world_labels(photos: Sequence[Photo], album: Album, *, allowed: int = 1) -> np.ndarray:
    """Whether to retrieve, (N,) bool."""
    return fewest_misses(photos, album) <= allowed


@torch.no_grad()
def share_states(
    model: PhotoDialogueModel, dialogues: Sequence[Dialogue], *, batch_size: int = 32
) -> tuple[Tensor, list[Photo]]:
    """The states that have read the bridge's tokens, (N, K, D), at each photo that the agent
    shares, and these photos; gold context, one pass over each dialogue."""
    states, photos = [], []
    for start in range(0, len(dialogues), batch_size):
        part = dialogues[start : start + batch_size]
        rows = [model.renderer.render(dialogue) for dialogue in described(model, part)]
        if not any(row.spans for row in rows):
            continue
        batch = collate(
            rows,
            pad_id=model.language.tokenizer.pad_token_id,
            pixels_of=world_pixels if model.photo_encoder is not None else None,
            paint=False,
        )
        states.append(model.gather_spans(model.states(batch), batch).after_NKD.cpu())
        photos += [place.photo for row in rows for place in row.spans]
    return torch.cat(states), photos


def world_shares(
    model: PhotoDialogueModel, album: Album, seeds: Sequence[int]
) -> tuple[Tensor, np.ndarray]:
    """States at [IMG1] of the photos of some dialogues, (N, D), and the world's labels, (N,)."""
    states_NKD, photos = share_states(model, [world_dialogue(seed) for seed in seeds])
    return states_NKD[:, 0], world_labels(photos, album)


def world_head(model: PhotoDialogueModel, album: Album, seeds: Sequence[int]) -> DecisionHead:
    """GILL's head, trained as released, on the world's labels.

    Raises DataError where these all say the same.
    """
    states_ND, labels_N = world_shares(model, album, seeds)
    return train_decision(states_ND, torch.from_numpy(labels_N))
