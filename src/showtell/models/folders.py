"""Parts on disk: the libraries' own folders, safetensors only, and one clear error for what cannot
be read."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.utils import logging as diffusers_logging
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from showtell.errors import CheckpointError, ConfigError, MissingDependency
from showtell.models.bases import Base
from showtell.models.foreign import VARIANT
from showtell.runtime import the_device

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
            f'{what} in "{folder}" cannot be read ({type(error).__name__}: '
            f"{' '.join(str(error).split()):.300}); wanted {wanted}; copy or train it again"
        ) from error


def from_transformers(
    kind: Any,
    folder: Path,
    *,
    dtype: torch.dtype | Literal["auto"],
    exact: bool = False,
    beside: Sequence[str] = (),
    weights: Mapping[str, Tensor] | None = None,
    part: str = "",
    **settings: Any,
) -> Any:
    """A model of transformers from this machine; ``dtype`` "auto": that of its file. ``exact``:
    raises CheckpointError where a weight of the file finds no place, or a place no weight.

    ``beside``: how names begin of weights that belong to other parts of a whole model. ``weights``
    stand in for the files of the folder (``weights_of_whole``): those of a ``part``, its name with
    the dot; ``config`` is then in settings. A folder may refer to another (``bases.py``).
    """
    folder, base = based(folder)
    loud = transformers_logging.get_verbosity()
    if exact:
        transformers_logging.set_verbosity_error()  # they are told of below
    try:
        model, told = kind.from_pretrained(
            folder if weights is None else None,
            variant=variant_of(folder) if weights is None else None,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=exact,
            **settings,
            **({} if weights is None else {"state_dict": dict(weights)}),
        )
    finally:
        transformers_logging.set_verbosity(loud)
    if exact:
        faults = _faults(told, beside=beside, part=part)
        _refuse(faults, folder, type(model).__name__)
    model.origin = base if weights is None else None
    return model


def variant_of(folder: Path) -> str | None:
    """Which kind weights are of that are there as fp16 or bf16 alone; None: of neither."""
    names = [path.name for path in folder.glob("*.safetensors")]
    kinds = {found[1] if (found := VARIANT.search(name)) else None for name in names}
    return None if None in kinds else min(filter(None, kinds), default=None)


def based(folder: Path) -> tuple[Path, Base | None]:
    """Where the weights of a folder lie, and what they are to those who do not change them."""
    referred = Base.read(folder)
    return (folder, Base.of(folder)) if referred is None else (referred[0].folder, referred[0])


def to_transformers(model: Any, folder: Path) -> None:
    """Write it, or a reference where its weights are those of the folder that it was read from."""
    if not _referred(model, folder):
        model.save_pretrained(folder, max_shard_size=MAX_SHARD_SIZE)


def _referred(model: Any, folder: Path) -> bool:
    origin = getattr(model, "origin", None)
    if origin is None or not origin.holds(model.state_dict()):
        return False
    origin.write(folder)
    return True


def read_tokenizer(folder: Path, *, rows: int) -> Any:
    """The tokenizer of a folder, for a model with so many rows of tokens.

    Raises CheckpointError where there is none, or it is one of a model with more, and
    MissingDependency for SentencePiece's own file where its package is not installed.
    """
    old = (folder / "tokenizer.model").is_file() and not (folder / "tokenizer.json").is_file()
    if old and importlib.util.find_spec("sentencepiece") is None:
        raise MissingDependency(
            f'the tokenizer in "{folder}" is tokenizer.model, which sentencepiece reads, and that '
            "is not installed. Install it (python -m pip install sentencepiece), or copy a "
            "tokenizer.json of the same model there"
        )
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    if not tokenizer("so", add_special_tokens=False)["input_ids"]:
        raise CheckpointError(
            f'"{folder}" has no tokenizer; wanted tokenizer.json and tokenizer_config.json as '
            "save_pretrained writes them; copy those of the model there, too"
        )
    added = tokenizer.added_tokens_decoder
    words = [n for n in tokenizer.get_vocab().values() if n not in added or not added[n].special]
    if max(words) >= rows:
        raise CheckpointError(
            f'the tokenizer in "{folder}" knows {max(words) + 1:,} tokens and the model {rows:,}; '
            "these are parts of two models; copy the tokenizer that the model was trained with"
        )
    return tokenizer


def weights_of_whole(
    folder: Path, *parts: str, beside: Sequence[str] = ()
) -> list[dict[str, Tensor]]:
    """The weights of some parts of a whole model of transformers: for each beginning of names
    those that have it, without it.

    Raises CheckpointError for a weight that begins otherwise, and is not of the parts ``beside``
    them, and for a part without weights.
    """
    index = folder / "model.safetensors.index.json"
    files = ["model.safetensors"]
    if index.is_file():
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    found: dict[str, dict[str, Tensor]] = {part: {} for part in parts}
    faults = []
    for file in files:
        with safe_open(folder / file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                if part := next((part for part in parts if name.startswith(part)), None):
                    found[part][name.removeprefix(part)] = weights.get_tensor(name)
                elif not name.startswith(tuple(beside)):
                    faults.append(f"{name} finds no place")
    faults += [f"{part.rstrip('.')} is missing" for part, own in found.items() if not own]
    _refuse(faults, folder, "model of that kind")
    return [found[part] for part in parts]


def check_shapes(
    weights: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], folder: Path, kind: str
) -> None:
    """Raises CheckpointError for weights without a place, and places without a weight."""
    faults = [f"{name} finds no place" for name in sorted(set(weights) - set(wanted))]
    for name, shape in wanted.items():
        if name not in weights:
            faults.append(f"{name} is missing")
        elif weights[name].shape != shape:
            faults.append(f"{name} has another shape, {tuple(weights[name].shape)}, not {shape}")
    _refuse(faults, folder, kind)


def _faults(told: Mapping[str, Any], *, beside: Sequence[str] = (), part: str = "") -> list[str]:
    """What a library tells of weights without a place, and of places without a weight."""
    unexpected = [key for key in told["unexpected_keys"] if not key.startswith(tuple(beside))]
    names = {
        "finds no place": unexpected,
        "is missing": told["missing_keys"],
        "has another shape": [name for name, *_ in told["mismatched_keys"]],
    }
    return [f"{part}{name} {what}" for what, found in names.items() for name in sorted(found)]


def _refuse(faults: Collection[str], folder: Path, kind: str) -> None:
    """Raises CheckpointError if there is a fault."""
    if faults:
        first, more = ", ".join(list(faults)[:3]), len(faults) - 3
        raise CheckpointError(
            f'the weights in "{folder}" are not those of a {kind}: {first}'
            f"{f' and {more} more' if more > 0 else ''}; wanted all that its config.json names and "
            "nothing else; copy the folder again, or name the one that its config.json is of"
        )


def from_diffusers(kind: Any, folder: Path, *, dtype: torch.dtype) -> Any:
    """A model of diffusers from this machine. Raises CheckpointError where a weight of the file
    finds no place, or a place no weight."""
    folder, base = based(folder)
    model, told = kind.from_pretrained(
        folder,
        variant=variant_of(folder),
        torch_dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        low_cpu_mem_usage=False,  # or diffusers asks for accelerate
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are told of below
    )
    _refuse(_faults(told), folder, kind.__name__)
    model.origin = base
    return model


def stored_dtype(folder: Path) -> torch.dtype:
    """The numbers of the weights in a folder; float16 as float32 on a CPU, which has no use of
    them."""
    file = min(based(folder)[0].glob("*.safetensors"))
    with safe_open(file, framework="pt") as weights:
        first = weights.get_tensor(min(weights.keys()))
    half = first.dtype == torch.float16 and the_device().type == "cpu"
    return torch.float32 if half else first.dtype


def to_diffusers(model: Any, folder: Path) -> None:
    """Write it, or a reference as ``to_transformers`` does; without the folder that it was read
    from, which diffusers notes in its config."""
    if _referred(model, folder):
        return
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
