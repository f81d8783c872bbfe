"""A painter from its folder, by the pipeline that it is a folder of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from showtell.errors import CheckpointError, did_you_mean
from showtell.models.flow_painters import KleinPainter, Sd3Painter
from showtell.models.folders import reading
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.vq_painter import VqPainter
from showtell.runtime import Dtype, the_device

PIPELINES: dict[str, type[LatentDiffusionPainter]] = {
    "StableDiffusionPipeline": LatentDiffusionPainter,
    "LatentConsistencyModelPipeline": LatentDiffusionPainter,
    "StableDiffusion3Pipeline": Sd3Painter,
    "Flux2KleinPipeline": KleinPainter,
}


def read_painter(
    folder: Path, *, dtype: Dtype = torch.float32, told: Callable[[str], None] | None = None
) -> LatentDiffusionPainter:
    """A painter of latent diffusion. With ``told`` it is on ``the_device()``, and tried there: a
    line is told about each thing that changes nothing of what it paints (``faults``).

    Raises CheckpointError, also for a folder of another pipeline.
    """
    wanted = f"a folder of diffusers: {', '.join(PIPELINES)}"
    with reading("the painter", folder, wanted=wanted):
        name = str(json.loads((folder / "model_index.json").read_text())["_class_name"])
        if name not in PIPELINES:
            raise CheckpointError(
                f'the painter in "{folder}" is of a {name}{did_you_mean(name, PIPELINES)}; wanted '
                f"{wanted}; name such a one"
            )
        painter = PIPELINES[name].from_pretrained(folder, dtype=dtype).eval()
    if told is not None:
        for line in painter.to(the_device()).faults():
            told(f'warning: the painter in "{folder}": {line}')
    return painter


def any_painter(
    folder: Path, *, dtype: Dtype = torch.float32
) -> LatentDiffusionPainter | VqPainter:
    """The painter of a model. Raises CheckpointError."""
    if (folder / "code_painter.json").is_file():
        whole = torch.float32 if dtype == "auto" else dtype
        return VqPainter.from_pretrained(folder, dtype=whole)
    return read_painter(folder, dtype=dtype)
