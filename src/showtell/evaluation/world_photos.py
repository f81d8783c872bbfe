"""The agent's photos in the photo world: what a model paints or finds, and what readers see in it.

Every measure is named in ``docs/metrics.md``. The oracle reads photos; it never trains, ranks or
filters them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from photoworld.oracle import AttributeReader
from photoworld.scenes import ATTRIBUTES
from showtell.batch import to_pixels
from showtell.data.photos import photo_image
from showtell.dialogue import AGENT, Dialogue, Turn
from showtell.metrics.intervals import Value, mean_value
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import described
from showtell.models.respond import OpenAlbum, Responder

Told = Callable[[str, int, int], None]
BATCH, BATCH_ON_GPU = 16, 128  # dialogues that are answered at once


def rows_at_once(model: PhotoDialogueModel, *, on_cpu: int = BATCH) -> int:
    """How many of the world's dialogues to run at once. A GPU's time goes into the number of
    calls, and the world's models are small enough for many rows in each."""
    return on_cpu if model.device.type == "cpu" else BATCH_ON_GPU


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


def images_of(turns: Sequence[Turn]) -> dict[str, Image.Image]:
    return {
        photo.id: photo_image(photo)
        for turn in turns
        for photo in turn.photos
        if "scene" in photo.labels
    }


@dataclass(frozen=True, kw_only=True)
class Order:
    """A photo to paint for measurement: its caption, what is true, and what counts.

    ``dialogue`` is the number of its dialogue among those measured.
    """

    caption: str
    scene: Mapping[str, str]
    counts: tuple[str, ...]
    seed: int
    context: tuple[Turn, ...] = ()
    dialogue: int = 0


def photo_orders(dialogues: Sequence[Dialogue], *, seed: int) -> list[Order]:
    """The agent's photos with their contexts; ``counts`` are the attributes the caption states."""
    orders: list[Order] = []
    for number, dialogue in enumerate(dialogues):
        for k, turn in enumerate(dialogue.turns):
            if turn.speaker == AGENT and turn.photos:
                photo = turn.photos[0]
                orders.append(
                    Order(
                        caption=photo.caption,
                        scene=photo.labels["scene"],
                        counts=tuple(photo.labels["stated"]),
                        seed=seed + len(orders),
                        context=dialogue.turns[:k],
                        dialogue=number,
                    )
                )
    return orders


def gold_photos(dialogues: Sequence[Dialogue]) -> Tensor:
    """The true photos of ``photo_orders``, (N, 3, H, W)."""
    return torch.stack(
        [
            to_pixels(photo_image(turn.photos[0]))
            for dialogue in dialogues
            for turn in dialogue.turns
            if turn.speaker == AGENT and turn.photos
        ]
    )


def paint_orders(
    model: PhotoDialogueModel, orders: Sequence[Order], *, told: Told = quiet
) -> Tensor:
    """The painted photos, (N, 3, H, W); each from its own seed."""
    responder, parts, size = Responder(Decoder(model)), [], rows_at_once(model, on_cpu=32)
    for start in range(0, len(orders), size):
        part = orders[start : start + size]
        painted = responder.paint_captions([o.caption for o in part], seeds=[o.seed for o in part])
        parts.append(painted.cpu())
        told("painting", min(start + size, len(orders)), len(orders))
    return torch.cat(parts)


def attribute_values(
    oracle: AttributeReader,
    pixels_N3HW: Tensor,
    orders: Sequence[Order],
    *,
    name: str,
    seed: int,
    each: bool = True,
    note: str = "",
) -> dict[str, Value]:
    """``photo.<name>``: the share of counted attributes that the oracle reads right.

    The mean is over attributes (every attribute counts the same), resampled by photo; with ``each``
    also every attribute, and all counted attributes of a photo right at once.
    """
    read = oracle.read(pixels_N3HW)
    right: dict[str, list[float]] = {attribute: [] for attribute in ATTRIBUTES}
    photo_of: dict[str, list[int]] = {attribute: [] for attribute in ATTRIBUTES}
    whole = []
    for number, (order, found) in enumerate(zip(orders, read, strict=True)):
        for attribute in order.counts:
            right[attribute].append(float(found[attribute] == order.scene[attribute]))
            photo_of[attribute].append(number)
        if order.counts:
            whole.append(float(all(found[a] == order.scene[a] for a in order.counts)))
    values = {}
    used = [attribute for attribute in ATTRIBUTES if right[attribute]]
    means = [float(np.mean(right[attribute])) for attribute in used]
    low, high = _macro_interval(right, photo_of, used, len(orders), seed=seed)
    values[f"photo.{name}"] = Value(
        value=float(np.mean(means)) if means else None,
        low=low if means else None,
        high=high if means else None,
        n=len(whole),
        protocol="world",
        note=note or f"mean of {len(used)} attributes, read by the oracle",
    )
    values[f"photo.{name}.all_right"] = mean_value(
        whole, seed=seed, protocol="world", note="all counted attributes of a photo at once"
    )
    if each:
        for attribute in used:
            chance = 1 / len(ATTRIBUTES[attribute])
            values[f"photo.{name}.{attribute}"] = mean_value(
                right[attribute], seed=seed, protocol="world", note=f"chance {100 * chance:.1f}%"
            )
    return values


def _macro_interval(
    right: Mapping[str, list[float]],
    photo_of: Mapping[str, list[int]],
    used: Sequence[str],
    num_photos: int,
    *,
    seed: int,
    resamples: int = 1000,
) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    counts_RN = rng.multinomial(num_photos, np.full(num_photos, 1 / num_photos), resamples)
    means = []
    for attribute in used:
        weights = counts_RN[:, photo_of[attribute]]
        means.append((weights @ np.array(right[attribute])) / np.maximum(weights.sum(1), 1))
    draws = np.mean(means, axis=0) if means else np.zeros(1)
    return float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))


@dataclass(frozen=True, kw_only=True)
class SpokenPhotos:
    """A model's own photos at gold moments, in the order of ``photo_orders``.

    The captions in ``orders`` are its own, "" where its bridge has tokens without words; the
    determined attributes count. No pixels from a model without photos, no query from a bridge
    without one.
    """

    orders: list[Order]
    pixels_N3HW: Tensor | None
    query_NE: Tensor | None


def spoken_photos(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    *,
    seed: int,
    read: Sequence[Dialogue] | None = None,
    batch_size: int | None = None,
    album: OpenAlbum | None = None,
    told: Told = quiet,
) -> SpokenPhotos:
    """At gold photo moments and gold contexts, what the model itself describes and paints, or,
    without a painter, the nearest photo of ``album``.

    ``read``: the dialogues as ``described`` has them for this model; None: they are described here.
    """
    read = described(model, dialogues) if read is None else read
    batch_size = batch_size or rows_at_once(model)
    decoder, orders = Decoder(model), []
    photos, queries = [], []
    gold = [
        (number, k)
        for number, dialogue in enumerate(dialogues)
        for k, turn in enumerate(dialogue.turns)
        if turn.speaker == AGENT and turn.photos
    ]
    for start in range(0, len(gold), batch_size):
        part = gold[start : start + batch_size]
        contexts = [read[number].turns[:k] for number, k in part]
        writing, _ = decoder.read_all(contexts, [images_of(context) for context in contexts])
        decoder.open_turn(writing)
        said = decoder.announce(writing)
        seeds = list(range(seed + start, seed + start + len(part)))
        for (number, k), context, caption, own in zip(
            part, contexts, said.captions, seeds, strict=True
        ):
            photo = dialogues[number].turns[k].photos[0]
            orders.append(
                Order(
                    caption=caption,
                    scene=photo.labels["scene"],
                    counts=tuple(photo.labels["determined"]),
                    seed=own,
                    context=context,
                    dialogue=number,
                )
            )
        if model.bridge.query_width is not None:
            queries.append(model.bridge.query(said))
        if model.painter is not None:
            photos.append(Responder(decoder).paint_spans(said, seeds=seeds).cpu())
        elif album is not None:
            found = [album.nearest(each[None], cut_off=-2.0) for each in queries[-1]]
            photos.append(torch.stack([to_pixels(image) for _, image in filter(None, found)]))
        told("own photos", len(orders), len(gold))
    return SpokenPhotos(
        orders=orders,
        pixels_N3HW=torch.cat(photos) if photos else None,
        query_NE=torch.cat(queries) if queries else None,
    )


def ceilings(
    model: PhotoDialogueModel,
    dialogues: Sequence[Dialogue],
    orders: Sequence[Order],
    *,
    oracle: AttributeReader,
    seed: int,
) -> dict[str, Value]:
    """What the oracle reads from the real drawings, and from them after the VAE and back."""
    real = gold_photos(dialogues)
    values = attribute_values(
        oracle, real, orders, name="attribute_ceiling", seed=seed, each=True, note="real drawings"
    )
    painter = model.painter
    rebuilt = torch.cat(
        [painter.decode_photos(painter.encode_photos(part)) for part in real.split(64)]  # type: ignore[union-attr]
    )
    return values | attribute_values(
        oracle,
        rebuilt,
        orders,
        name="attribute_ceiling_vae",
        seed=seed,
        each=True,
        note="real drawings after the VAE and back",
    )
