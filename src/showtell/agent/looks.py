"""The words for a photo that somebody brings, for a model that sees none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from showtell.models.classifier import PhotoClassifier


class Looks:
    """Photos in words, by a classifier out of an index's wheels, which is fetched where the first
    photo is seen: as PhotoChat describes them, by what is in them."""

    def __init__(self, part: str) -> None:
        self.part = part
        self.classifier: PhotoClassifier | None = None

    def __call__(self, images: Sequence[Image]) -> list[str]:
        from showtell.data.photochat import OBJECTS
        from showtell.models.classifier import load_classifier
        from showtell.models.hub import index_part
        from showtell.progress import terminal_progress

        if self.classifier is None:
            self.classifier = load_classifier(index_part(self.part, told=terminal_progress))
        told, names = [], self.classifier.classes
        for chances in self.classifier(images).logits_PC.softmax(dim=1):
            top = chances.topk(min(3, len(chances)))
            sure = top.indices[top.values >= top.values[0] / 2].tolist()  # the best one always
            told.append(f"{OBJECTS} {', '.join(names[k][:1].upper() + names[k][1:] for k in sure)}")
        return told
