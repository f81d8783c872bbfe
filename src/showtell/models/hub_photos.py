"""Photo encoders out of the hub's own folders: what a folder is, its config.json says.

    vit                 a new Q-Former on a ViT, or a new linear map of its feature
    clip, siglip        (whole, or the vision model alone) a new linear map, or a new Q-Former
    blip-2              its ViT, Q-Former, query tokens and projection, tensor by tensor: the image
                        perceptron of 2408.08650, section 2.3
    mllama              Llama-3.2-Vision's tower and projector, for the cross-attention layers of
                        the language model that lies in the same folder (2408.08650 v2)

SigLIP 2 of one size is a siglip by its config.json. A weight without a place and a place without a
weight are errors. Each looks at photos as its preprocessor_config.json says (``photo_look.py``).
MiniGPT-4 is BLIP-2's parts and a projection of its own, which is all that its release holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoConfig,
    Blip2QFormerConfig,
    Blip2QFormerModel,
    Blip2VisionModel,
    CLIPVisionModel,
    MllamaVisionModel,
    SiglipVisionModel,
    ViTModel,
)

from showtell.errors import CheckpointError, ConfigError
from showtell.models.folders import (
    check_shapes,
    from_transformers,
    reading,
    weights_of_whole,
)
from showtell.models.hub import released_weights
from showtell.models.language import EYES
from showtell.models.photo_encoder import (
    AnyPhotoEncoder,
    LinearPhotoEncoder,
    LlamaVision,
    QFormerPhotoEncoder,
    load_vision,
)
from showtell.models.photo_look import PhotoLook
from showtell.progress import terminal_progress

DType = torch.dtype | Literal["auto"]
BLIP2, LLAMA_VISION = "blip-2", "mllama"
TOWERS = {
    "vit": ViTModel,
    "clip": CLIPVisionModel,
    "clip_vision_model": CLIPVisionModel,
    "siglip": SiglipVisionModel,
    "siglip_vision_model": SiglipVisionModel,
}
NEW = "new"
NUM_TOKENS = 32  # of a new map or Q-Former (2408.08650, section 3.1)
_BLIP2 = ("vision_model.", "qformer.", "query_tokens", "language_projection.")


def hub_photo_encoder(
    folder: Path,
    *,
    language_width: int,
    kind: Literal["qformer", "linear"] | None = None,
    num_tokens: int | None = None,
    projection: str | Path | None = None,
    qformer_layers: int = 12,
    dtype: DType = torch.float32,
) -> AnyPhotoEncoder:
    """The photo encoder of a folder of the hub, for an LLM of that width.

    ``kind`` None: BLIP-2's own Q-Former, a new one on a ViT, a linear map of what CLIP and SigLIP
    pool. ``projection`` None: the folder's own if it has one; "new"; or a file of MiniGPT-4. Raises
    CheckpointError for a folder of none of these or a broken one, ConfigError for sizes that do not
    fit.
    """
    kinds = [*TOWERS, BLIP2, LLAMA_VISION]
    wanted = f"config.json of one of {', '.join(kinds)}, safetensors beside it"
    with reading("the photo encoder", folder, wanted=wanted):
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
        if told not in kinds:
            raise ValueError(f"its model_type is {told}")
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        look, own = PhotoLook.of(folder), None
        if told == LLAMA_VISION:
            if kind is not None or projection is not None or num_tokens not in (None, 1):
                raise ConfigError(
                    f'"{folder}" is a Llama-Vision, which looks at photos in its own way; leave '
                    "photo_encoder, projection and num_photo_tokens out"
                )
            return _llama_vision(folder, config, look, dtype=dtype, language_width=language_width)
        if told == BLIP2:
            vision, own = _blip2(folder, config, whole=kind != "linear", dtype=dtype)
        else:
            vision = load_vision(TOWERS[told], folder, dtype=dtype)
        look.check(int(vision.config.image_size))
        if getattr(vision.config, "vision_use_head", True) is False:
            raise ValueError("it is a SigLIP without the head that pools")
    kind = kind or ("linear" if own is None and told != "vit" else "qformer")
    count = num_tokens or (NUM_TOKENS if own is None else own["queries"].shape[1])
    given: dict[str, Any] = {"vision": vision, "own_look": look, "language_width": language_width}
    if kind == "linear":
        encoder: AnyPhotoEncoder = LinearPhotoEncoder(num_tokens=count, **given)
    elif own is None:
        encoder = QFormerPhotoEncoder(
            num_tokens=count, qformer=_new_qformer(vision.config, qformer_layers), **given
        )
    else:
        if count != own["queries"].shape[1]:
            raise ConfigError(
                f'num_photo_tokens is {count}, and the Q-Former in "{folder}" has '
                f"{own['queries'].shape[1]} query tokens; leave num_photo_tokens out"
            )
        encoder = QFormerPhotoEncoder(num_tokens=count, qformer=own["qformer"], **given)
        with torch.no_grad():
            encoder.queries_QC.copy_(own["queries"][0])
    _project(encoder, own and own["projection"], projection, folder)
    return encoder.to(vision.dtype)


def _blip2(
    folder: Path, config: Any, *, whole: bool, dtype: DType
) -> tuple[Any, dict[str, Any] | None]:
    """BLIP-2's ViT, and, if ``whole``, what stands between it and the LLM."""
    seen, asked, queries, projection = weights_of_whole(
        folder, *_BLIP2, beside=("language_model.",)
    )
    dtype = next(iter(seen.values())).dtype if dtype == "auto" else dtype
    how: dict[str, Any] = {"dtype": dtype, "exact": True}
    vision = from_transformers(
        Blip2VisionModel, folder, config=config.vision_config, weights=seen, part=_BLIP2[0], **how
    )
    if not whole:
        return vision, None
    qformer = from_transformers(
        Blip2QFormerModel,
        folder,
        config=config.qformer_config,
        weights=asked,
        part=_BLIP2[1],
        **how,
    )
    width, into = config.qformer_config.hidden_size, config.text_config.hidden_size
    found = {f"query_tokens{name}": value for name, value in queries.items()}
    found |= {f"language_projection.{name}": value for name, value in projection.items()}
    places = {
        "query_tokens": (1, config.num_query_tokens, width),
        "language_projection.weight": (into, width),
        "language_projection.bias": (into,),
    }
    check_shapes(found, places, folder, "BLIP-2")
    return vision, {"qformer": qformer, "queries": queries[""], "projection": projection}


def _llama_vision(
    folder: Path, config: Any, look: PhotoLook, *, dtype: DType, language_width: int
) -> LlamaVision:
    seen, projector = weights_of_whole(folder, *EYES, beside=("language_model.",))
    dtype = next(iter(seen.values())).dtype if dtype == "auto" else dtype
    width, into = config.vision_config.vision_output_dim, config.text_config.hidden_size
    check_shapes(projector, {"weight": (into, width), "bias": (into,)}, folder, "Llama-Vision")
    if into != language_width:
        raise ConfigError(
            f'the Llama-Vision in "{folder}" looks for a language model of width {into}, and this '
            f"one has {language_width}; name the same folder as language"
        )
    how: dict[str, Any] = {"dtype": dtype, "exact": True, "part": EYES[0]}
    vision = from_transformers(
        MllamaVisionModel, folder, config=config.vision_config, weights=seen, **how
    )
    look.check(int(vision.config.image_size))
    if look.processor.max_image_tiles != vision.config.max_num_tiles:
        raise CheckpointError(
            f'"{folder}": the processor cuts photos into {look.processor.max_image_tiles} tiles, '
            f"and the tower sees {vision.config.max_num_tiles}; copy both again from one model"
        )
    encoder = LlamaVision(vision=vision, own_look=look, language_width=language_width)
    encoder.project.load_state_dict(projector)
    return encoder.to(vision.dtype)


def _project(
    encoder: AnyPhotoEncoder,
    own: Mapping[str, Tensor] | None,
    wanted: str | Path | None,
    folder: Path,
) -> None:
    """Give the encoder the folder's ``own`` projection, that of a file, or leave it new."""
    if wanted == NEW or (wanted is None and own is None):
        return
    place: Any = encoder.project
    if wanted is not None:
        if own is None:
            raise ConfigError(
                f'projection is "{wanted}", and what sees photos is no Q-Former of BLIP-2, which '
                "it is of; name a blip-2 as vision, without photo_encoder, or leave projection out"
            )
        own, folder = minigpt4_projection(Path(wanted)), Path(wanted)
    assert own is not None
    if own["weight"].shape != place.weight.shape:
        raise ConfigError(
            f'the projection in "{folder}" makes {_widths(own["weight"])}, and this Q-Former and '
            f"language model want {_widths(place.weight)}; name the language model that it was "
            "trained with, or set projection=new"
        )
    with torch.no_grad():
        for name, value in own.items():
            getattr(place, name).copy_(value)


def minigpt4_projection(path: Path) -> dict[str, Tensor]:
    """``weight`` and ``bias`` of MiniGPT-4's llama_proj: its released file, which another process
    opens, or one of safetensors. Raises CheckpointError."""
    wanted = "llama_proj.weight and llama_proj.bias, as MiniGPT-4's release has them"
    with reading("MiniGPT-4's projection", path, wanted=wanted):
        whole = path.suffix == ".safetensors"
        found = load_file(path) if whole else released_weights(path, told=terminal_progress)
        weight = found.get("llama_proj.weight", torch.empty(0, 0))
        places = {"llama_proj.weight": tuple(weight.shape), "llama_proj.bias": (len(weight),)}
        check_shapes(found, places, path, "projection of MiniGPT-4")
        return {name.removeprefix("llama_proj."): value for name, value in found.items()}


def _widths(weight: Tensor) -> str:
    return f"{weight.shape[0]} numbers of {weight.shape[1]}"


def _new_qformer(vision: Any, layers: int) -> Blip2QFormerModel:
    """As broad as the vision encoder, without dropout."""
    size = int(vision.hidden_size)
    return Blip2QFormerModel(
        Blip2QFormerConfig(
            hidden_size=size,
            intermediate_size=4 * size,
            num_hidden_layers=layers,
            num_attention_heads=vision.num_attention_heads,
            encoder_hidden_size=size,
            vocab_size=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )
