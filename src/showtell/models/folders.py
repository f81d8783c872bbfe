"""Parts on disk: the libraries' own folders, safetensors only, and one clear error for what cannot
be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import save_file
from torch import Tensor
from transformers.utils import logging as transformers_logging

from showtell.errors import CheckpointError, ConfigError, MissingDependency

MAX_SHARD_SIZE = "15MB"

# The libraries draw a bar for every folder they read or write; ours are the only bars of interest.
diffusers_logging.disable_progress_bar()
transformers_logging.disable_progress_bar()


@contextmanager
def reading(what: str, folder: Path, *, wanted: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes a CheckpointError that says what was wanted."""
    try:
        yield
    except (CheckpointError, ConfigError, MissingDependency):
        raise
    except Exception as error:  # the libraries raise many kinds for a broken file
        raise CheckpointError(
            f'{what} in "{folder}" cannot be read ({type(error).__name__}: {error}); wanted '
            f"{wanted}; copy or train it again"
        ) from error


def from_transformers(kind: Any, folder: Path, *, dtype: torch.dtype, **settings: Any) -> Any:
    """A model of transformers from this machine."""
    return kind.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, local_files_only=True, **settings
    )


def from_diffusers(kind: Any, folder: Path, *, dtype: torch.dtype) -> Any:
    """A model of diffusers from this machine."""
    return kind.from_pretrained(
        folder,
        torch_dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        low_cpu_mem_usage=False,  # or diffusers asks for accelerate
    )


def to_diffusers(model: Any, folder: Path) -> None:
    """Write it, without the folder that it was read from, which diffusers notes in its config."""
    model.save_pretrained(folder, max_shard_size=MAX_SHARD_SIZE)
    config = json.loads((folder / "config.json").read_text())
    config.pop("_name_or_path", None)
    write_json(folder / "config.json", config)


def save_rows(rows: Mapping[str, Tensor], path: Path, **notes: str) -> None:
    """Tensors as safetensors, wherever they are; ``notes`` are the file's metadata."""
    plain = {name: value.detach().contiguous().cpu() for name, value in rows.items()}
    save_file(plain, path, metadata=notes or None)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
