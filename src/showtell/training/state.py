"""The state of a training on disk: safetensors and JSON only, written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from showtell.data.storage import replacing
from showtell.errors import CheckpointError


def save_state(
    folder: Path,
    *,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    names: Mapping[nn.Parameter, str],
    ema: Mapping[str, Tensor] | None,
    generators: Sequence[Tensor],
    progress: Mapping[str, Any],
) -> None:
    """Write everything that a training needs to go on, replacing ``folder`` in one rename.

    ``generators`` are the states of all ranks' dice; the rest is the same on every rank. Only
    moving parameters are written (frozen ones are in the model that the run started from).
    """
    tensors = {f"generator{rank or ''}": value for rank, value in enumerate(generators)}
    for parameter, name in names.items():
        tensors[f"model/{name}"] = parameter
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = torch.as_tensor(value)
    for name, buffer in module.named_buffers():
        tensors[f"buffer/{name}"] = buffer
    for name, value in (ema or {}).items():
        tensors[f"ema/{name}"] = value
    with replacing(folder, what="the training state") as fresh:
        save_file(plain(tensors), fresh / "state.safetensors")
        (fresh / "progress.json").write_text(json.dumps(progress))


def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As a file holds them: on the CPU, row by row, none sharing memory with another."""
    return {name: each.detach().cpu().contiguous().clone() for name, each in tensors.items()}


def recovered(folder: Path) -> bool:
    """Whether there is a state; one that a kill between two renames left aside is put back."""
    old = folder.with_name(folder.name + ".old")
    if not folder.exists() and old.exists():
        old.rename(folder)
    return folder.exists()


def load_state(
    folder: Path,
    *,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    names: Mapping[nn.Parameter, str],
    generator: torch.Generator,
    rank: int = 0,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Put a saved state back; gives progress and EMA. Raises CheckpointError if it does not fit.

    Of the dice ``generator`` becomes that of ``rank``; of a rank that was not there it stays.
    """
    try:
        tensors = load_file(folder / "state.safetensors")
        progress = json.loads((folder / "progress.json").read_text())
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f'no training state can be read from "{folder}" ({error}); wanted state.safetensors '
            "and progress.json; leave out --resume to start again"
        ) from error
    wanted = {f"model/{name}" for name in names.values()}
    held = {key for key in tensors if key.startswith("model/")}
    if wanted != held:
        raise CheckpointError(
            f'the state in "{folder}" belongs to another run: {len(wanted - held)} tensors are '
            f"missing, {len(held - wanted)} are foreign; use another --out, or leave out --resume"
        )
    with torch.no_grad():
        for parameter, name in names.items():
            parameter.copy_(tensors[f"model/{name}"])
            state = {}
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if (value := tensors.get(f"optimizer/{key}/{name}")) is not None:
                    state[key] = _as_it_lies(value, parameter)
            if state:
                optimizer.state[parameter] = state
        for name, buffer in module.named_buffers():
            if f"buffer/{name}" in tensors:
                buffer.copy_(tensors[f"buffer/{name}"])
    if (chance := tensors.get(f"generator{rank or ''}")) is not None:
        generator.set_state(chance)
    ema = {
        name: _as_it_lies(tensors[f"ema/{name}"], parameter)
        for parameter, name in names.items()
        if f"ema/{name}" in tensors
    }
    return progress, ema


def _as_it_lies(value: Tensor, parameter: Tensor) -> Tensor:
    """A saved value with device and memory format of its parameter. The fused optimizer goes
    through both number by number: a U-Net's weights lie channels last, and a file has no format."""
    if value.shape != parameter.shape:  # a count
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
