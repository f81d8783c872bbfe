"""Parts on disk: the libraries' own folders, safetensors only, and one clear error for what cannot
be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

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


def from_transformers(
    kind: Any,
    folder: Path,
    *,
    dtype: torch.dtype | Literal["auto"],
    exact: bool = False,
    **settings: Any,
) -> Any:
    """A model of transformers from this machine; ``dtype`` "auto": that of its file. ``exact``:
    raises CheckpointError where a weight of the file finds no place, or a place no weight."""
    model, told = kind.from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=exact,  # they are told of below
        **settings,
    )
    names = {
        "finds no place": told["unexpected_keys"],
        "is missing": told["missing_keys"],
        "has another shape": told["mismatched_keys"],
    }
    if exact and any(names.values()):
        faults = [
            f"{name if isinstance(name, str) else name[0]} {what}"
            for what, found in names.items()
            for name in sorted(found)
        ]
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CheckpointError(
            f'the weights in "{folder}" are not those of a {type(model).__name__}: '
            f"{', '.join(faults[:3])}{more}; wanted all that its config.json names and nothing "
            "else; copy the folder again, or name the one that its config.json is of"
        )
    return model


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
