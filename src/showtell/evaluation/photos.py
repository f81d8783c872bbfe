"""What models of real photos are measured by: retrieval both ways, captions, painted photos.

Photos with several captions, as Flickr8k has them. Retrieval: a photo ranks the captions of all
photos and is right at the rank of the first of its own; each caption ranks all photos, and
intervals draw photos. Letters: N photos, T captions of all photos, E width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image

from showtell.batch import to_image
from showtell.data.photos import load_photo, square
from showtell.dialogue import Photo
from showtell.errors import DataError
from showtell.metrics.cider import cider_d
from showtell.metrics.encoders import ClipEncoder
from showtell.metrics.intervals import Value, mean_value
from showtell.metrics.retrieval import ranks, retrieval_values
from showtell.metrics.text import text_values
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.parts import Conditioning
from showtell.models.respond import Responder

Told = Callable[[int, int], None]


def retrieval_both_ways(
    clip: ClipEncoder, photos: Sequence[Photo], *, seed: int
) -> dict[str, Value]:
    """``retrieval.photo_to_caption.*`` and ``retrieval.caption_to_photo.*``."""
    captions = [caption for photo in photos for caption in photo.labels["captions"]]
    owners_T = np.repeat(np.arange(len(photos)), [len(p.labels["captions"]) for p in photos])
    photos_NE = _unit(clip.photos([photo.path or "" for photo in photos]))
    captions_TE = _unit(clip.texts(captions))
    to_caption_N, to_photo_T = two_way_ranks(photos_NE @ captions_TE.T, owners_T)
    return {
        **retrieval_values(to_caption_N, seed=seed, prefix="retrieval.photo_to_caption"),
        **retrieval_values(
            to_photo_T,
            seed=seed,
            prefix="retrieval.caption_to_photo",
            groups=[photo.id for photo in photos for _ in photo.labels["captions"]],
        ),
    }


def two_way_ranks(scores_NT: np.ndarray, owners_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rank of the first of each photo's captions, rank of each caption's photo), (N,) and (T,).

    Raises DataError where a photo has no caption.
    """
    if not np.array_equal(np.unique(owners_T), np.arange(len(scores_NT))):
        raise DataError(
            "a photo has no caption, so nothing can find it; wanted one or more of each. "
            "Leave such photos out."
        )
    first_N = np.full(len(scores_NT), scores_NT.shape[1])
    np.minimum.at(first_N, owners_T, ranks(scores_NT[owners_T], np.arange(len(owners_T))))
    return first_N, ranks(scores_NT.T, owners_T)


def _unit(rows: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(rows.float(), dim=-1).numpy()


# -------------------------------------------------------------------------------------- captions


def write_captions(
    model: PhotoDialogueModel, photos: Sequence[Photo], *, side: int, told: Told
) -> list[str]:
    """What the model sees in each photo, greedy."""
    said: list[str] = []
    responder = Responder(Decoder(model))
    for n, photo in enumerate(photos):
        said += responder.captions([photo], [square(load_photo(photo.path or ""), side)])
        told(n + 1, len(photos))
    return said


def caption_values(
    said: Sequence[str], references: Sequence[Sequence[str]], *, seed: int
) -> dict[str, Value]:
    """``text.standard.*`` against all captions of a photo, and ``caption.cider_d`` (0 to 10); and
    both once more as ``baseline.next_photo.*``, of each caption put under the next photo: what
    captions of this kind score that have not seen theirs.

    Flickr8k's captions end in " ." and are split into words; sacrebleu splits both sides alike.
    """

    def values(said: Sequence[str]) -> dict[str, Value]:
        scores_N = cider_d(said, references)
        return {
            "caption.cider_d": mean_value(scores_N, seed=seed, unit="", note="0 to 10"),
            **text_values(said, references, protocol="standard", seed=seed),
        }

    blind = values([*said[-1:], *said[:-1]])
    return values(said) | {f"baseline.next_photo.{name}": v for name, v in blind.items()}


# --------------------------------------------------------------------------------------- painted


def paint_photos(
    painter: LatentDiffusionPainter,
    captions: Sequence[str],
    *,
    num_steps: int = 25,
    guidance: float = 3.0,
    seed: int = 0,
) -> list[Image.Image]:
    """One photo a caption, each from its own seed (``seed`` and its number)."""
    images = []
    for start in range(0, len(captions), 16):
        some = list(captions[start : start + 16])
        with torch.no_grad():
            painted = painter.paint(
                Conditioning(cond_NSC=painter.encode_text(some)),
                num_steps=num_steps,
                guidance=guidance,
                seeds=range(seed + start, seed + start + len(some)),
            )
        images += [to_image(pixels) for pixels in painted]
    return images


def painted_values(
    clip: ClipEncoder,
    painted: Sequence[Image.Image],
    photos: Sequence[Photo],
    *,
    seed: int,
) -> dict[str, Value]:
    """``painted.clip_t``: the cosine of a painted photo with the caption it was made of.

    ``baseline.next_photo.painted.clip_t`` with the caption of the next one, which a painter that
    reads nothing would score as high; ``baseline.true.painted.clip_t`` of the true photo.
    """
    own_NE = _unit(clip.texts([photo.labels["captions"][0] for photo in photos]))
    painted_NE = _unit(clip.photos(painted))
    true_NE = _unit(clip.photos([photo.path or "" for photo in photos]))
    found = {
        "painted.clip_t": (painted_NE * own_NE).sum(-1),
        "baseline.next_photo.painted.clip_t": (painted_NE * np.roll(own_NE, 1, axis=0)).sum(-1),
        "baseline.true.painted.clip_t": (true_NE * own_NE).sum(-1),
    }
    return {name: mean_value(values, seed=seed, unit="") for name, values in found.items()}


def nearest(images: Sequence[Image.Image], pixels_NHW3: np.ndarray) -> list[int]:
    """The number of the photo with the least squared difference to each image, mirrored or not."""
    found = []
    for image in images:
        wanted = np.asarray(image.convert("RGB"), dtype=np.float32)
        best, least = 0, np.inf
        for start in range(0, len(pixels_NHW3), 512):
            some = pixels_NHW3[start : start + 512].astype(np.float32)
            for shown in (wanted, wanted[:, ::-1]):
                errors = ((some - shown) ** 2).mean((1, 2, 3))
                if errors.min() < least:
                    best, least = start + int(errors.argmin()), float(errors.min())
        found.append(best)
    return found
