"""A classifier of photos: what it takes them for, and its pooled features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from showtell.batch import to_pixels
from showtell.errors import import_extra
from showtell.models.folders import reading


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Of P photos: scores of C classes before their softmax, and F features."""

    logits_PC: Tensor
    features_PF: Tensor


class PhotoClassifier(nn.Module):
    """EfficientNet-Lite (1905.11946, without squeeze-and-excitation), of efficientnet-lite-pytorch.

    ``classes``: the C names; photos are squeezed to ``side`` pixels. Nothing here is trained.
    """

    mean_3: Tensor
    std_3: Tensor

    def __init__(
        self, network: Any, *, side: int, mean: Sequence[float], std: Sequence[float], classes: Any
    ) -> None:
        super().__init__()
        self.network, self.side, self.classes = network, side, tuple(classes)
        self.register_buffer("mean_3", torch.tensor(mean), persistent=False)
        self.register_buffer("std_3", torch.tensor(std), persistent=False)
        self.eval().requires_grad_(False)
        _fold_norms(network)
        network.to(memory_format=torch.channels_last)  # 1.4 times as fast on a CPU

    def forward(self, photos: Sequence[Image.Image]) -> Seen:
        """Of at least one photo, whatever its size."""
        size = (self.side, self.side)
        squeezed = [p.convert("RGB").resize(size, Image.Resampling.BICUBIC) for p in photos]
        pixels_P3HW = torch.stack([to_pixels(photo) for photo in squeezed]).to(self.mean_3.device)
        mean_311, std_311 = self.mean_3[:, None, None], self.std_3[:, None, None]
        given_P3HW = ((pixels_P3HW - mean_311) / std_311).to(memory_format=torch.channels_last)
        states_PFHW = self.network.extract_features(given_P3HW)
        features_PF = states_PFHW.mean((2, 3))
        return Seen(logits_PC=self.network._fc(features_PF), features_PF=features_PF)


def _fold_norms(network: nn.Module) -> None:
    """Let each convolution do the work of the batch norm behind it, and of an even border before
    it: 1.4 times as fast, the same to five digits."""
    parts = dict(network.named_children())
    for (first, one), (second, other) in pairwise(parts.items()):
        if isinstance(one, nn.Conv2d) and isinstance(other, nn.BatchNorm2d):
            setattr(network, first, fuse_conv_bn_eval(one, other))
            setattr(network, second, nn.Identity())
    part: Any
    for part in network.children():
        border = getattr(part, "static_padding", None)
        if isinstance(border, nn.ZeroPad2d) and len(set(border.padding)) == 1:
            part.padding, part.static_padding = border.padding[:2], nn.Identity()
        _fold_norms(part)


def load_classifier(folder: Path) -> PhotoClassifier:
    """Read config.json and model.safetensors, as ``index_part("efficientnet-lite0")`` has them.
    Raises CheckpointError, MissingDependency."""
    package = import_extra(
        "efficientnet_lite_pytorch", what="The classifier of photos", extra="home"
    )
    with reading("the classifier of photos", folder, wanted="config.json and model.safetensors"):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        network = package.EfficientNet.from_name(
            config.pop("architecture"),
            image_size=config["side"],
            num_classes=len(config["classes"]),
        )
        network.load_state_dict(load_file(folder / "model.safetensors"))
        return PhotoClassifier(network, **config)
