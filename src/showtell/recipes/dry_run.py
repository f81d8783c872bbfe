"""What a recipe takes, before it is begun: parameters, memory, hours, data. Nothing is downloaded
or written; models stand on the meta device, where a tensor has a shape and no numbers.

A base that is here is read for its sizes; one that another recipe would write is built from that
recipe's parts (``published_sizes.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from showtell.data.sources import open_data
from showtell.errors import CheckpointError, ConfigError, ShowtellError
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.papers import load_model
from showtell.papers.forms import form_named
from showtell.recipes.experiment import Experiment, adapted_stages, start
from showtell.recipes.hub_parts import Parts
from showtell.recipes.published_sizes import on_meta
from showtell.recipes.registry import RECIPES
from showtell.training.examples import Needs, read_examples
from showtell.training.footprint import GB, PartMemory, memory_of
from showtell.training.stage import Stage

BYTES = 2  # of a kept number under autocast
LOGIT = 8  # bytes of one of the vocabulary's numbers: the logit and its gradient, in float32
PAINTER_LOSSES = ("v", "ldm")  # that go back through the denoiser


@dataclass(frozen=True, kw_only=True)
class StageNeeds:
    """Of one stage and one process: bytes by part, what the losses keep, and hours if known."""

    name: str
    steps: int
    batch_size: int
    tokens: int
    parts: dict[str, PartMemory]
    kept: dict[str, float]
    hours: float | None

    @property
    def bytes(self) -> float:
        return sum(p.bytes for p in self.parts.values()) + sum(self.kept.values())


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What ``--dry-run`` tells."""

    recipe: str
    gpus: int
    stages: list[StageNeeds]
    data: dict[str, str]

    def plain(self) -> dict[str, Any]:
        told = asdict(self)
        for stage, needs in zip(told["stages"], self.stages, strict=True):
            stage["gigabytes"] = round(needs.bytes / GB, 2)
        return told

    def lines(self) -> Iterator[str]:
        for stage in self.stages:
            yield (
                f'{self.recipe}, stage "{stage.name}": {stage.steps:,} steps of '
                f"{stage.batch_size} examples of {stage.tokens:,} tokens on {self.gpus} GPU(s)"
            )
            yield f"  {'':16}{'moved':>16}{'frozen':>16}{'weights':>10}{'grad':>9}{'optim':>9}  GB"
            for name, part in stage.parts.items():
                yield (
                    f"  {name:16}{part.moved:16,}{part.frozen:16,}{part.weights / GB:10.2f}"
                    f"{part.gradients / GB:9.2f}{part.optimizer / GB:9.2f}"
                )
            for name, size in stage.kept.items():
                yield f"  kept for gradients, {name}: {size / GB:.2f} GB (estimated)"
            yield f"  memory of a GPU: {stage.bytes / GB:.1f} GB and what the libraries take"
            if stage.hours is None:
                yield "  hours: not known; say --rate EXAMPLES, as a short run there reaches"
            else:
                yield f"  hours: {stage.hours:.1f}"
        for name, said in self.data.items():
            yield f"data {name}: {said}"


def dry_run(
    name: str,
    config: Any,
    *,
    gpus: int = 1,
    rate: float | None = None,
    tokens: int | None = None,
) -> DryRun:
    """``rate``: examples a second, of all GPUs together; ``tokens``: of an example, else as many as
    the model reads. Raises ConfigError for a recipe that is not an experiment, CheckpointError for
    a base whose size is not known."""
    if gpus < 1 or (rate is not None and not rate > 0) or (tokens is not None and tokens < 1):
        raise ConfigError(
            f"--gpus is {gpus}, --rate {rate} and --tokens {tokens}; wanted at least one GPU, more "
            "than no example a second and at least one token an example; change them"
        )
    if not isinstance(config, Experiment):
        raise ConfigError(
            f'"{name}" is not trained from a base, and a dry run tells of those that are; wanted '
            "a recipe with stages and data, such as dialogues; see showtell recipes"
        )
    model = started(name, config)
    stages, source, counted = [], None, {}
    for stage in adapted_stages(config, model):
        if stage.batch_size % gpus:
            raise ConfigError(
                f'stage "{stage.name}" has a batch of {stage.batch_size} for {gpus} GPUs; wanted '
                "as many examples for each; change --gpus, or batch_size with --set"
            )
        if stage.steps:
            stages.append(_needs_of(stage, model, gpus=gpus, rate=rate, tokens=tokens))
        source = stage.data or config.data
        counted[source] = _data(source, config, stage, model)
    return DryRun(recipe=name, gpus=gpus, stages=stages, data=counted)


def started(name: str, config: Experiment) -> PhotoDialogueModel:
    """The model of an experiment before any training, on the meta device."""

    def base(folder: str, **how: Any) -> PhotoDialogueModel:
        try:
            with torch.device("cpu"):
                model = load_model(folder, **how).to("meta")
            for part in model.modules():
                if isinstance(part, PreTrainedModel):
                    part.tie_weights()  # a move to this device parts them
            return model
        except CheckpointError:
            other = Path(folder).parts[1:2] or (folder,)
            if other[0] not in RECIPES or other[0] == name or Path(folder).exists():
                raise
            of = RECIPES[other[0]].config
            if isinstance(of, Parts):
                return on_meta(of)
            if isinstance(of, Experiment):
                return started(other[0], of)
            raise

    light = replace(config, start_captions=0, start_dialogues=0)
    with torch.device("meta"):
        return start(light, name=name, load=base)


def _needs_of(
    stage: Stage,
    model: PhotoDialogueModel,
    *,
    gpus: int,
    rate: float | None,
    tokens: int | None,
) -> StageNeeds:
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(stage.multiplier(key) > 0)
    parts = memory_of(
        model.named_parameters(),
        average=stage.ema is not None,
        shares=gpus if stage.shard else 1,
    )
    rows = -(-stage.batch_size // (gpus * (stage.accumulate or 1)))
    tokens = tokens or model.renderer.config.max_tokens
    hours = None if rate is None else stage.steps * stage.batch_size / rate / 3600
    return StageNeeds(
        name=stage.name,
        steps=stage.steps,
        batch_size=stage.batch_size,
        parts=parts,
        tokens=tokens,
        kept=_kept(stage, model, rows=rows, tokens=rows * tokens),
        hours=hours,
    )


def _kept(stage: Stage, model: PhotoDialogueModel, *, rows: int, tokens: int) -> dict[str, float]:
    """Bytes that the losses of ``rows`` examples of ``tokens`` together keep for gradients, each
    example with one photo."""
    config = model.language.model.config.get_text_config()
    kept = {
        "language": _kept_by_layers(config, tokens, stage),
        "logits": float(LOGIT * tokens * config.vocab_size),
    }
    vision = getattr(model.photo_encoder, "vision", None)
    if vision is not None and any(p.requires_grad for p in vision.parameters()):
        patches = (vision.config.image_size // vision.config.patch_size) ** 2
        kept["photo_encoder.vision"] = _kept_by_layers(vision.config, rows * patches, stage)
    through = stage.paint and any(stage.weights.get(name) for name in PAINTER_LOSSES)
    if through and model.painter is not None and model.painter.denoises:
        kept["painter.unet"] = rows * _kept_by_denoiser(model.painter, stage)
    return kept


def _kept_by_layers(config: Any, tokens: int, stage: Stage) -> float:
    """Of a transformer: ten states and four rows of the MLP a layer (norms, queries, keys, values,
    products), without the squares of attention, which library kernels do not keep."""
    width, layers = config.hidden_size, config.num_hidden_layers
    inner = getattr(config, "intermediate_size", None) or getattr(config, "ffn_dim", 4 * width)
    layer = float(BYTES * tokens * (10 * width + 4 * inner))
    return layer + layers * BYTES * tokens * width if stage.checkpointing else layers * layer


def _kept_by_denoiser(painter: Any, stage: Stage) -> float:
    """Bytes that one photo's loss keeps in the denoiser: counted while it runs on the meta device,
    less the squares of attention, which are kept there alone."""
    unet, total = painter.unet, 0.0
    length, width = painter.text.sizes[1], painter.text.sizes[0]
    places = {(painter.latent_shape[-1] >> k) ** 2 for k in range(4)}
    own = {id(parameter) for parameter in unet.parameters()}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal total
        shape = tensor.shape
        square = tensor.dim() > 2 and shape[-2] in places and shape[-1] in places | {length}
        if not (square and shape[-2] > 64) and id(tensor) not in own and not _is_view(tensor, own):
            total += tensor.numel() * BYTES
        return tensor

    noisy = torch.empty(1, *painter.latent_shape, device="meta")
    cond = torch.empty(1, length, width, device="meta", requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        unet(noisy, torch.empty(1, device="meta"), encoder_hidden_states=cond)
    return total / 4 if stage.checkpointing else total


def _is_view(tensor: torch.Tensor, own: set[int]) -> bool:
    return tensor._base is not None and id(tensor._base) in own


def _data(data: str, config: Experiment, stage: Stage, model: nn.Module) -> str:
    """What of the data can be used, or why they cannot be read."""
    try:
        source = open_data(data, skip_bad=config.skip_bad)
        needs = Needs.of(model, captions=False)  # type: ignore[arg-type]
        form = form_named(stage.form, seed=config.seed)
        examples, _ = read_examples(source, form=form, needs=needs, limit=config.num_dialogues)
    except ShowtellError as error:
        return f"not as wanted: {error}"
    counts: Counter[str] = examples.counts
    return ", ".join(f"{value:,} {key}" for key, value in counts.items() if value)
