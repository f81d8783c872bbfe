"""A model on disk: one folder that explains itself.

    showtell.json        name, card, dtype, decoding, renderer, bridge, recipe
    language_model/      transformers layout            painter/      diffusers layout (optional)
    perceptron/          the photo encoder (optional)
    captioner/           a model (pipeline only)
    bridge.safetensors   what a bridge has learnt (optional)

Weights are safetensors in shards of at most 15 MB; nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from showtell.config import from_plain, to_plain
from showtell.data.storage import replacing
from showtell.errors import CheckpointError
from showtell.models.cross_attention import has_cross_attention
from showtell.models.dialogue_model import Decoding, PhotoDialogueModel
from showtell.models.folders import reading, save_rows, write_json
from showtell.models.language import LanguageModel
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.painters import any_painter
from showtell.models.parts import Bridge
from showtell.models.photo_encoder import AnyPhotoEncoder, load_photo_encoder
from showtell.models.vq_painter import VqPainter
from showtell.prompt import Renderer, RendererConfig
from showtell.runtime import DTYPES, the_dtype

FORMAT = 1
SHIPPED = Path(__file__).parent.parent / "shipped"
FOLDER = "perceptron"  # the papers' word for the photo encoder, kept in checkpoints
BRIDGE = "bridge.safetensors"  # absent where a bridge has nothing to learn
PARTS = ("language", "photo_encoder", "painter")  # that may be of another type than float32
DECISION = "decision.safetensors"  # where GILL's head stood before it was the bridge's


def save_model(model: PhotoDialogueModel, folder: Path, *, recipe: Mapping[str, Any]) -> None:
    """Write the folder anew, replacing what was there in one rename.

    Raises StorageError; what existed before is then unharmed.
    """
    with replacing(folder, what="the model") as fresh:
        model.language.save_pretrained(fresh / "language_model")
        if isinstance(model.photo_encoder, AnyPhotoEncoder):
            model.photo_encoder.save_pretrained(fresh / FOLDER)
        if isinstance(model.painter, LatentDiffusionPainter | VqPainter):
            model.painter.save_pretrained(fresh / "painter")
        if any(True for _ in model.bridge.parameters()):
            save_rows(model.bridge.state_dict(), fresh / BRIDGE)
        if model.captioner is not None:
            save_model(model.captioner, fresh / "captioner", recipe=recipe)
        description = {
            "format": FORMAT,
            "name": model.name,
            "card": model.card,
            "dtype": dtypes_of(model),
            "decoding": to_plain(model.decoding),
            "renderer": to_plain(model.renderer.config),
            "bridge": to_plain(model.bridge.config),
            "recipe": recipe,
        }
        write_json(fresh / "showtell.json", description)


def dtypes_of(model: PhotoDialogueModel) -> dict[str, str]:
    """The types of the parts that may be other than float32."""
    parts = dict(
        zip(PARTS, (model.language.model, model.photo_encoder, model.painter), strict=True)
    )
    return {
        key: str(next(part.parameters()).dtype).removeprefix("torch.")
        for key, part in parts.items()
        if isinstance(part, nn.Module)
    }


def model_folder(name_or_path: str) -> Path:
    """The folder of a shipped model or of a path. Raises CheckpointError."""
    shipped = SHIPPED / name_or_path
    if Path(name_or_path).name == name_or_path and (shipped / "showtell.json").is_file():
        return shipped
    path = Path(name_or_path)
    for candidate in (path, path / "model"):
        if (candidate / "showtell.json").is_file():
            return candidate
    known = sorted(p.parent.name for p in SHIPPED.glob("*/showtell.json"))
    met, do = "", 'see "showtell recipes"'
    if path.is_dir():
        met = ": the folder has no showtell.json"
    elif path.parts[:1] == ("runs",) and len(path.parts) > 1:  # what a recipe writes, unless told
        do = f'train it first with "showtell train {path.parts[1]}", or name another'
        do += " (of a recipe with --set base=NAME)"
    elif near := get_close_matches(name_or_path, known, n=1):
        do = f'did you mean "{near[0]}"?'
    raise CheckpointError(
        f'there is no model "{name_or_path}"{met}; wanted one of {", ".join(known)} or a folder '
        f'that "showtell train" wrote; {do}'
    )


def read_description(folder: Path) -> dict[str, Any]:
    """showtell.json of a model folder. Raises CheckpointError."""
    with reading("the model", folder, wanted=f"showtell.json of format {FORMAT}"):
        description: dict[str, Any] = json.loads((folder / "showtell.json").read_text())
        if (found := description["format"]) != FORMAT:
            raise ValueError(f"format {found}, of another version of showtell")
    return description


def load_model_folder(
    folder: Path,
    *,
    bridge_of: Callable[[Mapping[str, Any], LanguageModel], Bridge],
) -> PhotoDialogueModel:
    """Read a model folder; ``bridge_of`` builds the bridge from its plain configuration. The
    LLM, what sees photos and the painter are read in ``the_dtype()``, else as they were when saved;
    all else in float32.

    Raises CheckpointError if a part is missing, broken or does not fit the others.
    """
    description = read_description(folder)
    chosen, was = the_dtype(), dict.fromkeys(PARTS, torch.float32)
    with reading("the model", folder, wanted=f"types of weights among {', '.join(DTYPES)}"):
        was |= {key: getattr(torch, name) for key, name in description.get("dtype", {}).items()}
    dtype = chosen or was["language"]
    language = LanguageModel.from_pretrained(folder / "language_model", dtype=dtype)
    seen_in = chosen if isinstance(chosen, torch.dtype) else was["photo_encoder"]
    photo_encoder = (
        load_photo_encoder(folder / FOLDER, dtype=seen_in) if (folder / FOLDER).is_dir() else None
    )
    has_painter = (folder / "painter").is_dir()
    paints_in = chosen or was["painter"]
    painter = any_painter(folder / "painter", dtype=paints_in) if has_painter else None
    config = from_plain(RendererConfig, description["renderer"])
    if photo_encoder is not None:
        count, width = photo_encoder.num_tokens, photo_encoder.language_width
        misfit = ""
        if count != config.num_photo_tokens:
            misfit = f"{count} tokens a photo and the renderer wants {config.num_photo_tokens}"
        elif width != language.width:
            misfit = f"tokens of width {width} and the language model reads {language.width}"
        elif photo_encoder.attended and not has_cross_attention(language):
            misfit = "photos to attend to and the language model has no cross-attention layers"
        if misfit:
            raise CheckpointError(
                f'"{folder}": the photo encoder gives {misfit}; these are parts of two models; '
                "copy the model again"
            )
    bridge = bridge_of(description["bridge"], language)
    if any(True for _ in bridge.parameters()):
        wanted = f"{BRIDGE} as showtell train writes it"
        with reading("the bridge", folder, wanted=wanted):
            state = load_file(folder / BRIDGE)
            if (folder / DECISION).is_file():
                state |= {
                    f"decision.linear.{k}": v for k, v in load_file(folder / DECISION).items()
                }
            bridge.load_state_dict(state)
    captioner = (
        load_model_folder(folder / "captioner", bridge_of=bridge_of)
        if (folder / "captioner").is_dir()
        else None
    )
    return PhotoDialogueModel(
        captioner=captioner,
        language=language,
        photo_encoder=photo_encoder,
        bridge=bridge,
        painter=painter,
        renderer=Renderer(language.tokenizer, config),
        name=description["name"],
        card=description["card"],
        decoding=from_plain(Decoding, description["decoding"]),
    ).eval()
