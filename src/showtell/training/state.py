"""The state of a training on disk: safetensors and JSON only, written atomically.

Weights that are shared out over ranks are written by all of them, each its share, by
torch.distributed.checkpoint, and read by any number of ranks, shared out or whole.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint import (
    CheckpointException,
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.tensor import DTensor

from showtell.data.storage import replacing
from showtell.errors import CheckpointError
from showtell.runtime import processes, told_by
from showtell.training.sharded import full


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
    shared_out = any(isinstance(each, DTensor) for each in names)
    first = processes()[0] == 0
    with replacing(folder, what="the training state") if first else nullcontext() as own:
        fresh = told_by(0, own) if shared_out else own
        assert fresh is not None
        if shared_out:
            writer = HuggingFaceStorageWriter(str(fresh), save_distributed=True)
            dcp.save(tensors, storage_writer=writer)
        else:
            save_file(plain(tensors), fresh / "state.safetensors")
        if first:
            (fresh / "progress.json").write_text(json.dumps(progress))


def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As a file holds them: whole, on the CPU, row by row, none sharing memory with another."""
    return {name: full(each).cpu().contiguous().clone() for name, each in tensors.items()}


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
    Tensors have device, memory format and share of their parameters.
    """
    parameters = {name: parameter for parameter, name in names.items()}
    buffers = dict(module.named_buffers())
    try:
        known: Any = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
        progress = json.loads((folder / "progress.json").read_text())
        if not known:
            raise ValueError("no tensors are there")
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise _unreadable(folder, error) from error
    wanted = {f"model/{name}" for name in names.values()}
    held = {key for key in known if key.startswith("model/")}
    if wanted != held:
        raise CheckpointError(
            f'the state in "{folder}" belongs to another run: {len(wanted - held)} tensors are '
            f"missing, {len(held - wanted)} are foreign; use another --out, or leave out --resume"
        )
    found: dict[str, Tensor] = {}
    for key in known:
        kind, _, name = key.partition("/")
        if kind == "optimizer":
            name = name.partition("/")[2]
        parameter = parameters.get(name)
        if parameter is not None and not key.startswith("optimizer/step/"):
            found[key] = torch.empty_like(parameter.detach())
        elif kind != "buffer" or name in buffers:
            size, kept = known[key].size, known[key].properties.dtype
            found[key] = torch.empty(size, dtype=kept)
    alone = processes()[1] == 1
    try:
        with warnings.catch_warnings():
            if alone:  # it would say so
                warnings.filterwarnings("ignore", "torch.distributed is disabled")
            dcp.load(found, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=alone)
    except (CheckpointException, OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise _unreadable(folder, error) from error
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(found[f"model/{name}"])
            state = {}
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if (value := found.get(f"optimizer/{key}/{name}")) is not None:
                    state[key] = value.to(parameter.device)
            if state:
                optimizer.state[parameter] = state
        for name, buffer in buffers.items():
            if f"buffer/{name}" in found:
                buffer.copy_(found[f"buffer/{name}"])
    if (chance := found.get(f"generator{rank or ''}")) is not None:
        generator.set_state(chance)
    return progress, {name: found[f"ema/{name}"] for name in parameters if f"ema/{name}" in found}


def _unreadable(folder: Path, error: BaseException) -> CheckpointError:
    return CheckpointError(
        f'no training state can be read from "{folder}" ({error}); wanted state.safetensors, or '
        "the shares of several processes, and progress.json; leave out --resume to start again"
    )
