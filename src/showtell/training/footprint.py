"""What a training needs of memory, by part: weights, gradients, the optimizer's states; and what
needs less."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from diffusers import ModelMixin
from torch import Tensor, nn
from transformers import PreTrainedModel

MOMENTS = 8  # bytes of a moving number in AdamW: two of float32
GB = 1e9


@dataclass
class PartMemory:
    """Of one part: how many numbers move and stand still, and the bytes of each kind."""

    moved: int = 0
    frozen: int = 0
    weights: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0

    @property
    def bytes(self) -> float:
        return self.weights + self.gradients + self.optimizer


def part_of(name: str) -> str:
    """The part that a parameter belongs to: "language", "painter.unet" ..."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if first == "painter" and len(rest) > 1 else first


def memory_of(
    parameters: Iterable[tuple[str, Tensor]], *, average: bool = False, shares: int = 1
) -> dict[str, PartMemory]:
    """By part, of one process. ``average``: with a moving average of what moves; ``shares``: how
    many processes share out all of it."""
    parts: dict[str, PartMemory] = {}
    for name, parameter in parameters:
        part = parts.setdefault(part_of(name), PartMemory())
        count, size = parameter.numel(), parameter.element_size()
        part.weights += count * size / shares
        if parameter.requires_grad:
            part.moved += count
            part.gradients += count * size / shares
            part.optimizer += count * (MOMENTS + (size if average else 0)) / shares
        else:
            part.frozen += count
    return parts


def keep_less(module: nn.Module) -> None:
    """Have the models of transformers and diffusers within run their layers once more for their
    gradients."""
    for part in module.modules():
        if isinstance(part, PreTrainedModel) and part.supports_gradient_checkpointing:
            part.activation_checkpointing_enable()
        elif isinstance(part, ModelMixin) and part._supports_gradient_checkpointing:
            part.enable_gradient_checkpointing()
