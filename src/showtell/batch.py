"""Batch and collate: every shape in one dataclass (letters: models/parts.py); images as pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from showtell.dialogue import Photo
from showtell.prompt import IGNORED, Rendered


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B dialogues of T tokens, the P photos seen in them and the N photos to make."""

    ids_BT: Tensor
    labels_BT: Tensor
    mask_BT: Tensor  # bool: real tokens
    seen_pixels_P3HW: Tensor | None
    seen_row_P: Tensor
    seen_start_P: Tensor
    span_row_N: Tensor
    span_start_N: Tensor
    span_stop_N: Tensor
    span_pixels_N3HW: Tensor | None  # None: no photo to make, or the pixels are missing
    captions: tuple[str, ...]
    moment_row_M: Tensor
    moment_index_M: Tensor
    moment_shared_M: Tensor  # bool

    def to(self, device: torch.device) -> Batch:
        """The same batch with its tensors there."""
        tensors = {key: each for key, each in vars(self).items() if isinstance(each, Tensor)}
        if all(each.device == device for each in tensors.values()):
            return self
        return replace(self, **{key: each.to(device) for key, each in tensors.items()})  # type: ignore[arg-type]


def collate(
    rows: Sequence[Rendered],
    *,
    pad_id: int,
    pixels_of: Callable[[Photo], Tensor] | None,
    paint: bool,
    made_pixels_of: Callable[[Photo], Tensor] | None = None,
) -> Batch:
    """Pad to the longest row (on the right). ``pixels_of`` gives a photo's (3, H, W) in [0, 1].

    ``made_pixels_of`` stands in for it for photos to make, where these are of another size. Without
    ``paint`` they get no pixels, so that only words are trained.
    """
    made_pixels_of = made_pixels_of or pixels_of

    def padded(values: Iterable[list[int]], fill: int) -> Tensor:
        return pad_sequence([column(each) for each in values], True, fill)

    def column(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long)

    seen = [(b, place) for b, row in enumerate(rows) for place in row.seen]
    spans = [(b, place) for b, row in enumerate(rows) for place in row.spans]
    moments = [(b, place) for b, row in enumerate(rows) for place in row.moments]
    return Batch(
        ids_BT=padded((row.ids for row in rows), pad_id),
        labels_BT=padded((row.labels for row in rows), IGNORED),
        mask_BT=padded(([1] * len(row.ids) for row in rows), 0).bool(),
        seen_pixels_P3HW=stacked([pixels_of(p.photo) for _, p in seen])
        if seen and pixels_of
        else None,
        seen_row_P=column([b for b, _ in seen]),
        seen_start_P=column([p.start for _, p in seen]),
        span_row_N=column([b for b, _ in spans]),
        span_start_N=column([p.start for _, p in spans]),
        span_stop_N=column([p.stop for _, p in spans]),
        span_pixels_N3HW=torch.stack([made_pixels_of(p.photo) for _, p in spans])
        if spans and made_pixels_of and paint
        else None,
        captions=tuple(p.photo.caption for _, p in spans),
        moment_row_M=column([b for b, _ in moments]),
        moment_index_M=column([p.index for _, p in moments]),
        moment_shared_M=torch.tensor([p.shared for _, p in moments], dtype=torch.bool),
    )


def stacked(photos: Sequence[Tensor]) -> Tensor:
    """(P, 3, H, W); NaN where a smaller photo (3, H, W) has no pixels, which is right and below."""
    height, width = (max(each.shape[axis] for each in photos) for axis in (1, 2))
    return torch.stack(
        [
            F.pad(each, (0, width - each.shape[2], 0, height - each.shape[1]), value=torch.nan)
            if each.shape[1:] != (height, width)
            else each
            for each in photos
        ]
    )


def to_pixels(image: Image.Image) -> Tensor:
    """RGB image -> (3, H, W) in [0, 1]."""
    width, height = image.size
    flat = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    return flat.view(height, width, 3).permute(2, 0, 1).float() / 255


def to_image(pixels_3HW: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] -> RGB image."""
    bytes_3HW = (pixels_3HW.float().clamp(0, 1) * 255).round().byte().cpu()
    array = bytes_3HW.permute(1, 2, 0).contiguous()
    return Image.frombytes("RGB", (array.shape[1], array.shape[0]), array.numpy().tobytes())
