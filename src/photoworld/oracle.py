"""Pixels -> attributes: small classifiers that measure photos and never train or choose them.

Two are shipped: ``oracle`` (a ResNet) is the instrument, ``encoder`` (another one, trained apart on
photos of other seeds) stands beside it, so that no figure hangs on one network's blind spots.
Letters: A attributes, F features, O options of one attribute.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from photoworld.drawing import draw
from photoworld.scenes import ATTRIBUTES, sample_scene

INPUT_SIZE = 64
_NO_CONFIG = (ValueError, KeyError, TypeError, AttributeError)  # what a strange config.json raises
NUM_FEATURES = 64  # the last of a reader's widths


READERS: dict[str, ResNetConfig] = {
    "oracle": ResNetConfig(
        embedding_size=32, hidden_sizes=[32, 64, 96, 64], depths=[1, 1, 1, 1], layer_type="basic"
    ),
    # other widths and depths, another seed, other photos: a small ViT and a small ConvNeXt were
    # still confusing subjects after the training in which this one learns them
    "encoder": ResNetConfig(
        embedding_size=24, hidden_sizes=[24, 48, 112, 64], depths=[2, 1, 1, 1], layer_type="basic"
    ),
}


class AttributeReader(nn.Module):
    """A ResNet of the transformers library and one linear head for each attribute."""

    num_features = NUM_FEATURES

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = ResNetModel(config)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(NUM_FEATURES, len(options)) for name, options in ATTRIBUTES.items()}
        )

    def features(self, pixels_N3HW: Tensor) -> Tensor:
        """Pixels in [0, 1] of any size -> features NF, where the reader is."""
        pixels_N3HW = pixels_N3HW.to(next(self.parameters()).device)
        size = (INPUT_SIZE, INPUT_SIZE)
        if pixels_N3HW.shape[-2:] != size:
            pixels_N3HW = F.interpolate(
                pixels_N3HW, size, mode="bilinear", antialias=True, align_corners=False
            )
        return self.backbone(pixels_N3HW * 2 - 1).pooler_output.flatten(1)

    def forward(self, pixels_N3HW: Tensor) -> dict[str, Tensor]:
        """Logits NO of each attribute."""
        features_NF = self.features(pixels_N3HW)
        return {name: head(features_NF) for name, head in self.heads.items()}

    @torch.no_grad()
    def probabilities(self, pixels_N3HW: Tensor, *, batch_size: int = 256) -> dict[str, Tensor]:
        """Probabilities NO of each attribute, with the state of an evaluation, on the CPU."""
        was_training = self.training
        self.eval()
        parts = [self(part_N3HW) for part_N3HW in pixels_N3HW.split(batch_size)]
        self.train(was_training)
        return {name: torch.cat([p[name] for p in parts]).cpu().softmax(-1) for name in ATTRIBUTES}

    def read(self, pixels_N3HW: Tensor) -> list[dict[str, str]]:
        """The most probable value of every attribute, for each photo."""
        found = self.probabilities(pixels_N3HW)
        values = [
            [options[k] for k in found[name].argmax(-1).tolist()]
            for name, options in ATTRIBUTES.items()
        ]
        return [dict(zip(ATTRIBUTES, row, strict=True)) for row in zip(*values, strict=True)]

    def save_pretrained(self, directory: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Writes config.json and model.safetensors, its weights stored as ``dtype``."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        backbone = self.config.to_diff_dict() | {"model_type": self.config.model_type}
        values = {"backbone": backbone, "attributes": ATTRIBUTES}
        (directory / "config.json").write_text(json.dumps(values, indent=1) + "\n")
        state = {
            name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous().cpu()
            for name, tensor in self.state_dict().items()
        }
        save_file(state, directory / "model.safetensors")

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, *, device: torch.device | str = "cpu"
    ) -> AttributeReader:
        """Reads what ``save_pretrained`` wrote; the weights become float32. Raises ValueError."""
        directory = Path(directory)
        try:
            values = json.loads((directory / "config.json").read_text())
            if values["attributes"] != {name: [*known] for name, known in ATTRIBUTES.items()}:
                raise ValueError("it reads other attributes than this world has")
            reader = cls(ResNetConfig.from_dict(values["backbone"]))
            state = load_file(directory / "model.safetensors")
            reader.load_state_dict(
                {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
            )
        except (OSError, SafetensorError, RuntimeError, *_NO_CONFIG) as error:
            raise ValueError(
                f"{directory} holds no reader of attributes that can be used "
                f"({type(error).__name__}: {str(error).splitlines()[0]}); wanted what "
                '"python -m photoworld.train_oracle --out DIR" of this version writes'
            ) from error
        return reader.eval().to(device)


def labelled_photos(seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """One photo a seed, uint8 N3HW, and indices NA into the options of ``ATTRIBUTES``.

    Every sixth is a novel combination: an instrument must read those as well as others, so it is
    trained on both; what it measures never is.
    """
    scenes = [sample_scene(random.Random(seed), novel=seed % 6 == 0) for seed in seeds]
    photos_NHW3 = np.stack([np.asarray(draw(scene)) for scene in scenes])
    rows = [[ATTRIBUTES[a].index(v) for a, v in s.attributes.items()] for s in scenes]
    return torch.from_numpy(photos_NHW3).permute(0, 3, 1, 2).contiguous(), torch.tensor(rows)


def as_pixels(photos_N3HW: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]."""
    return photos_N3HW.float().div(255)
