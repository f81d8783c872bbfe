"""The album of a model that may retrieve a photo (GILL), and the head that decides whether to.

For real prompts people's votes say what is better (``data/parti.py``): they were shown a photo of
the album and a painted one. Here the labels of the photos say it: retrieve where the album's
nearest photo shows all that the wanted photo's caption states but for one attribute at most, else
generate. They are read from ``labels["scene"]`` and ``labels["stated"]``, not from pixels, so no
instrument that measures has a part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from showtell.album.disk import COPIES
from showtell.album.index import Album, AlbumPhoto, empty_album
from showtell.album.ingest import embed_with
from showtell.batch import collate
from showtell.data.photos import photo_image, save_photo
from showtell.dialogue import Dialogue, Photo
from showtell.errors import DataError
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import described, seen_pixels
from showtell.papers.gill import DecisionHead, train_decision


@torch.no_grad()
def album_of(
    model: PhotoDialogueModel, photos: Sequence[Photo], *, folder: Path, batch_size: int = 64
) -> Album:
    """Photos with the model's keys, copied to ``folder`` under their ids."""
    embed = embed_with(model.bridge.photo_keys, look=model.look)
    album = empty_album(width=model.album_width, made_by=model.name)
    for start in range(0, len(photos), batch_size):
        listed, images = [], []
        for number, photo in enumerate(photos[start : start + batch_size], start=start):
            path = f"{COPIES}/{number}.png"
            images.append(photo_image(photo))
            save_photo(images[-1], folder / path)
            told = photo.labels.get("full_caption") or photo.caption
            listed.append(AlbumPhoto(id=photo.id, path=path, caption=told))
        album = album.with_photos(listed, embed(images))
    album.save(folder)
    return album


@torch.no_grad()
def share_states(
    model: PhotoDialogueModel, dialogues: Sequence[Dialogue], *, batch_size: int = 32
) -> tuple[Tensor, list[Photo]]:
    """The states that have read the bridge's tokens, (N, K, D), at each photo that the agent
    shares, and these photos; gold context, one pass over each dialogue."""
    states, photos = [], []
    for start in range(0, len(dialogues), batch_size):
        part = described(model, dialogues[start : start + batch_size])
        rows = [model.renderer.render(dialogue) for dialogue in part]
        if not any(row.spans for row in rows):
            continue
        batch = collate(
            rows,
            pad_id=model.language.tokenizer.pad_token_id,
            pixels_of=seen_pixels(model),
            paint=False,
        )
        states.append(model.gather_spans(model.states(batch), batch).after_NKD.cpu())
        photos += [place.photo for row in rows for place in row.spans]
    return torch.cat(states), photos


def fewest_misses(wanted: Sequence[Photo], album: Sequence[Photo]) -> np.ndarray:
    """(N,): how many of its stated attributes the nearest of the album's photos lacks.

    Raises DataError for an album that is empty, or whose photos' labels do not say what they show.
    """
    scenes = [photo.labels.get("scene") or {} for photo in album]
    if not scenes or not all(scenes):
        raise DataError(
            f"{len(album)} photos of the album do not all say what they show; wanted photos with "
            'labels["scene"], as world:photos:train has; name these, or set decision_dialogues=0'
        )
    misses = []
    for photo in wanted:
        stated = {name: photo.labels["scene"][name] for name in photo.labels["stated"]}
        lacking = (sum(s[name] != stated[name] for name in stated) for s in scenes)
        misses.append(min(lacking))
    return np.array(misses, dtype=int)


def shares_to_decide(
    model: PhotoDialogueModel, album: Sequence[Photo], dialogues: Sequence[Dialogue]
) -> tuple[Tensor, np.ndarray]:
    """States at [IMG1] of the photos that dialogues share, (N, D); whether to retrieve, (N,): where
    the album's nearest lacks one attribute at most."""
    states_NKD, photos = share_states(model, dialogues)
    return states_NKD[:, 0], fewest_misses(photos, album) <= 1


def decision_head(
    model: PhotoDialogueModel, album: Sequence[Photo], dialogues: Sequence[Dialogue]
) -> DecisionHead:
    """GILL's head, trained as released on these labels. Raises DataError if all say the same."""
    states_ND, labels_N = shares_to_decide(model, album, dialogues)
    return train_decision(states_ND, torch.from_numpy(labels_N))
