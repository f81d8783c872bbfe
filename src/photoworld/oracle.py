"""Pixels -> attributes: small classifiers that measure photos and never train or choose them.

Two are shipped: ``oracle`` (a ResNet) is the instrument, ``encoder`` (another one, trained apart on
photos of other seeds) stands beside it, so that no figure hangs on one network's blind spots.
Letters: A attributes, F features, O options of one attribute.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    ResNetModel,
)

from photoworld.degradation import blur, shift
from photoworld.drawing import draw
from photoworld.scenes import ATTRIBUTES, Scene, sample_scene
from showtell.errors import CheckpointError, ConfigError, did_you_mean
from showtell.runtime import the_device

INPUT_SIZE = 64
NUM_FEATURES = 64
BACKBONES: dict[str, tuple[type[PretrainedConfig], type[PreTrainedModel]]] = {
    "resnet": (ResNetConfig, ResNetModel),
}
READERS: dict[str, PretrainedConfig] = {
    "oracle": ResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 96, NUM_FEATURES],
        depths=[1, 1, 1, 1],
        layer_type="basic",
    ),
    # other widths and depths, another seed, other photos: a small ViT and a small ConvNeXt were
    # still confusing subjects after the training in which this one learns them
    "encoder": ResNetConfig(
        embedding_size=24,
        hidden_sizes=[24, 48, 112, NUM_FEATURES],
        depths=[2, 1, 1, 1],
        layer_type="basic",
    ),
}


class AttributeReader(nn.Module):
    """A backbone of the transformers library and one linear head for each attribute."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = BACKBONES[config.model_type][1](config)
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
        best = {
            name: p_NO.argmax(-1).tolist() for name, p_NO in self.probabilities(pixels_N3HW).items()
        }
        return [
            {name: ATTRIBUTES[name][best[name][n]] for name in ATTRIBUTES}
            for n in range(len(pixels_N3HW))
        ]

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
    def from_pretrained(cls, directory: str | Path) -> AttributeReader:
        """Reads what ``save_pretrained`` wrote, to ``the_device()``; the weights become float32."""
        directory = Path(directory)
        remedy = 'give a directory written by "showtell train world_oracle"'
        try:
            values = json.loads((directory / "config.json").read_text())
            config_class = BACKBONES[values["backbone"]["model_type"]][0]
            config = config_class.from_dict(values["backbone"])
            attributes = {name: tuple(options) for name, options in values["attributes"].items()}
        except FileNotFoundError as error:
            raise CheckpointError(f"{directory} has no config.json; {remedy}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{directory / 'config.json'} does not describe a reader of attributes "
                f"({type(error).__name__}: {error}); {remedy}"
            ) from error
        if attributes != ATTRIBUTES:
            wrong = [name for name in ATTRIBUTES if attributes.get(name) != ATTRIBUTES[name]]
            raise CheckpointError(
                f"{directory} reads other attributes than this world has "
                f"({', '.join(wrong) or 'more of them'}); {remedy} of this version"
            )
        reader = cls(config)
        try:
            state = load_file(directory / "model.safetensors")
            reader.load_state_dict(
                {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
            )
        except (FileNotFoundError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(
                f"{directory / 'model.safetensors'} is missing, cut short or of another model "
                f"({str(error).splitlines()[0]}); {remedy}"
            ) from error
        return reader.eval().to(the_device())


def build_reader(kind: str, *, seed: int) -> AttributeReader:
    """An untrained reader of a kind of ``READERS``."""
    if kind not in READERS:
        raise ConfigError(f'unknown reader "{kind}"{did_you_mean(kind, READERS)}')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AttributeReader(READERS[kind])


# ------------------------------------------------------------------------------------ photos


def scenes_of(seeds: Sequence[int], *, novel_every: int = 6) -> list[Scene]:
    """One scene a seed; every ``novel_every``-th is a novel combination.

    An instrument must read novel combinations as well as others, so it is trained on both; what it
    measures never is.
    """
    return [sample_scene(random.Random(seed), novel=seed % novel_every == 0) for seed in seeds]


def draw_photos(scenes: Sequence[Scene], *, size: int = 64) -> np.ndarray:
    """uint8 N3HW."""
    photos_N3HW = np.empty((len(scenes), 3, size, size), np.uint8)
    for n, scene in enumerate(scenes):
        photos_N3HW[n] = np.asarray(draw(scene, size=size)).transpose(2, 0, 1)
    return photos_N3HW


def label_scenes(scenes: Sequence[Scene]) -> Tensor:
    """Indices NA into the options of each attribute, in the order of ``ATTRIBUTES``."""
    rows = [[ATTRIBUTES[a].index(v) for a, v in s.attributes.items()] for s in scenes]
    return torch.tensor(rows, dtype=torch.long)


def as_pixels(photos_N3HW: np.ndarray | Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]."""
    return torch.as_tensor(photos_N3HW).float().div(255)


# ------------------------------------------------------------------------------- measurement


def accuracy(reader: AttributeReader, pixels_N3HW: Tensor, labels_NA: Tensor) -> dict[str, float]:
    """The share of photos in which each attribute is read right."""
    probabilities = reader.probabilities(pixels_N3HW)
    return {
        name: (probabilities[name].argmax(-1) == labels_NA[:, a]).float().mean().item()
        for a, name in enumerate(ATTRIBUTES)
    }


def excess_confidence(reader: AttributeReader, pixels_N3HW: Tensor) -> dict[str, float]:
    """Mean top probability less chance, for each attribute."""
    return {
        name: p_NO.max(-1).values.mean().item() - 1 / p_NO.shape[1]
        for name, p_NO in reader.probabilities(pixels_N3HW).items()
    }


def measure_reader(
    reader: AttributeReader, *, seeds: Sequence[int], generator: torch.Generator
) -> dict[str, Mapping[str, float]]:
    """Accuracy under each condition, and ``noise_*``: confidence above chance."""
    scenes = scenes_of(seeds)
    labels_NA = label_scenes(scenes)
    pixels_N3HW = as_pixels(draw_photos(scenes))
    two_N = torch.randint(0, 2, (2, len(scenes)), generator=generator) * 4 - 2
    noise_N3HW = torch.rand(pixels_N3HW[:512].shape, generator=generator)
    gauss_N3HW = 0.5 + 0.25 * torch.randn(noise_N3HW.shape, generator=generator)
    return {
        "clean": accuracy(reader, pixels_N3HW, labels_NA),
        "blur_0.6": accuracy(reader, blur(pixels_N3HW, radius=0.6), labels_NA),
        "blur_1.0": accuracy(reader, blur(pixels_N3HW, radius=1.0), labels_NA),
        "shift_2": accuracy(reader, shift(pixels_N3HW, dx_N=two_N[0], dy_N=two_N[1]), labels_NA),
        "noise_uniform": excess_confidence(reader, noise_N3HW),
        "noise_gaussian": excess_confidence(reader, gauss_N3HW.clamp(0, 1)),
    }
