"""What a photo looks like while it is painted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL.Image import Image
from torch import Tensor

from showtell.batch import to_image
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.parts import Painter
from showtell.models.reply import Preview, Row


def previews(
    painter: Painter, rows: Sequence[Row], *, steps: int
) -> Callable[[int, Tensor | None], None]:
    """``callback`` of a painter: each row hears of each step, and sees three of them: what is known
    of the photo by then, decoded."""
    seen = {max(1, steps // 5), steps // 2, 3 * steps // 4}

    def told(step: int, clean: Tensor | None) -> None:
        images: list[Image | None] = [None] * len(rows)
        if step in seen and clean is not None and isinstance(painter, LatentDiffusionPainter):
            images = [to_image(pixels_3HW) for pixels_3HW in painter.decode_photos(clean)]
        for row, image in zip(rows, images, strict=True):
            row.tell(Preview(id=row.photo_id, step=step, of=steps, image=image))

    return told
