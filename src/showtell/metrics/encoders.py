"""What turns texts and photos into vectors for the metrics: named, local, offline.

Any callable will do in place of one of these: texts -> NE, photos -> NE, pixels N3HW -> NE. What
is read from disk is safetensors and JSON, never a pickle. An encoder loaded here is on
``the_device()``; what it gives is on the CPU. Letters: N items, E width, T tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from showtell.data.photos import load_photo
from showtell.errors import CheckpointError
from showtell.metrics.protocols import CLIP_L, MINILM
from showtell.runtime import the_device

BATCH = 32
PHOTO_BATCH = 8  # photos are opened at their full size
EXTREME = 16  # how many times as long as broad a photo is before it is cut
CLIP_FILES = "config.json, model.safetensors, preprocessor_config.json and the tokenizer's files"
SENTENCE_FILES = "config.json, model.safetensors, the tokenizer's files and 1_Pooling/config.json"


@dataclass(kw_only=True, eq=False)
class _TextReader:
    """A model and its tokenizer; ``truncated`` counts the texts that were longer than it reads."""

    model: Any
    tokenizer: Any
    max_length: int
    id: str
    path: str = ""
    truncated: int = 0

    def encoded(self, texts: Sequence[str], encode: Callable[[Any], Tensor]) -> Tensor:
        """NE on the CPU, ``BATCH`` texts at once."""
        parts = []
        for start in range(0, len(texts), BATCH):
            part = list(texts[start : start + BATCH])
            whole = self.tokenizer(part, add_special_tokens=True)["input_ids"]
            self.truncated += sum(len(ids) > self.max_length for ids in whole)
            inputs = self.tokenizer(
                part, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
            )
            parts.append(encode(inputs.to(self.model.device)))
        return torch.cat(parts).cpu()


@dataclass(kw_only=True, eq=False)
class SentenceEncoder(_TextReader):
    """A transformers sentence encoder: texts -> NE, pooled as its 1_Pooling/config.json says."""

    pooling: str

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        return self.encoded(texts, self._pooled)

    def _pooled(self, inputs: Any) -> Tensor:
        hidden_NTE = self.model(**inputs).last_hidden_state
        real_NT1 = inputs["attention_mask"][..., None].to(hidden_NTE.dtype)
        if self.pooling == "cls":
            return hidden_NTE[:, 0]
        if self.pooling == "max":
            return hidden_NTE.masked_fill(real_NT1 == 0, -torch.inf).amax(1)
        return (hidden_NTE * real_NT1).sum(1) / real_NT1.sum(1).clamp_min(1e-9)


def load_sentence_encoder(path: str | Path, *, wanted: str = MINILM) -> SentenceEncoder:
    """A sentence-transformers folder (or hub id) read by transformers alone.

    Its dense layers are not supported; a final Normalize does not move a cosine. Raises
    CheckpointError, which says which files are wanted.
    """
    from transformers import AutoModel, AutoTokenizer

    name = str(path)
    model, tokenizer = _loaded(
        name,
        SENTENCE_FILES,
        wanted,
        "--sentence-encoder",
        lambda: AutoModel.from_pretrained(name, use_safetensors=True).to(the_device()),
        lambda: AutoTokenizer.from_pretrained(name),
    )
    modules = _json(name, "modules.json") or []
    if any("Dense" in str(module.get("type", "")) for module in modules):
        raise CheckpointError(
            f"{name} ends in a dense layer, which is not supported; wanted a transformer, a "
            "pooling and at most a normalisation, as all-MiniLM-L6-v2 has. Name another encoder."
        )
    pooling = _pooling(_json(name, "1_Pooling/config.json"), name)
    settings = _json(name, "sentence_bert_config.json") or {}
    most = _most_tokens(model)
    max_length = min(int(settings.get("max_seq_length") or most), most)
    return SentenceEncoder(
        model=model.eval(),
        tokenizer=tokenizer,
        max_length=max_length,
        id=f"{name} ({pooling} pooling, {max_length} tokens)",
        path=name,
        pooling=pooling,
    )


def _most_tokens(model: Any) -> int:
    """How many tokens have a position: RoBERTa and its kin count from behind the padding's."""
    most = getattr(model.config, "max_position_embeddings", 512)
    positions = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(positions, "padding_idx", None)
    return most if padding is None else most - padding - 1


def _pooling(config: dict[str, Any] | None, name: str) -> str:
    if config is None:
        raise CheckpointError(
            f"{name} has no 1_Pooling/config.json, so it does not say how it makes one vector of a "
            "text; wanted a sentence encoder. Copy that file beside its config.json, or pass an "
            "encoder of your own as a callable."
        )
    if isinstance(config.get("pooling_mode"), str):  # as newer sentence-transformers write it
        wanted = [config["pooling_mode"]]
    else:
        wanted = [
            key.removeprefix("pooling_mode_").removesuffix("_token").removesuffix("_tokens")
            for key, on in config.items()
            if key.startswith("pooling_mode_") and on
        ]
    if len(wanted) != 1 or wanted[0] not in ("mean", "cls", "max"):
        raise CheckpointError(
            f"{name}/1_Pooling/config.json asks for {', '.join(wanted) or 'no'} pooling; wanted "
            "one of mean, cls, max. Name another encoder."
        )
    return wanted[0]


@dataclass(kw_only=True, eq=False)
class ClipEncoder(_TextReader):
    """A transformers CLIP: ``texts`` and ``photos`` give projected vectors of one space."""

    processor: Any

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        return self.encoded(texts, lambda x: self.model.get_text_features(**x).pooler_output)

    @torch.no_grad()
    def photos(self, photos: Sequence[str | Path | Image.Image]) -> Tensor:
        """NE of images, or of files, which are read with care (PhotoError)."""
        parts = []
        for start in range(0, len(photos), PHOTO_BATCH):
            images = [self._within(photo) for photo in photos[start : start + PHOTO_BATCH]]
            pixels = self.processor(images=images, return_tensors="pt").to(self.model.device)
            parts.append(self.model.get_image_features(**pixels).pooler_output)
        return torch.cat(parts).cpu()

    def _within(self, photo: str | Path | Image.Image) -> Image.Image:
        """The photo as RGB; the middle of one of extreme shape, of which only the middle square is
        looked at: enlarged as a whole it would take hundreds of megabytes."""
        image = photo.convert("RGB") if isinstance(photo, Image.Image) else load_photo(photo)
        most = EXTREME * min(image.size)
        if max(image.size) <= most or not self.processor.do_center_crop:
            return image
        left, top = (max(0, side - most) // 2 for side in image.size)
        return image.crop((left, top, image.width - left, image.height - top))


def load_clip(path: str | Path, *, wanted: str = CLIP_L) -> ClipEncoder:
    """CLIP of a transformers folder or hub id; ``wanted`` is the one that the protocol names."""
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    name = str(path)
    model, tokenizer, processor = _loaded(
        name,
        CLIP_FILES,
        wanted,
        "--clip",
        lambda: CLIPModel.from_pretrained(name, use_safetensors=True).to(the_device()),
        lambda: AutoTokenizer.from_pretrained(name),
        lambda: CLIPImageProcessorPil.from_pretrained(name),
    )
    return ClipEncoder(
        model=model.eval(),
        tokenizer=tokenizer,
        max_length=model.config.text_config.max_position_embeddings,
        id=name,
        path=name,
        processor=processor,
    )


# -------------------------------------------------------------------------------------- reading


def _loaded(
    name: str, files: str, example: str, option: str, *loads: Callable[[], Any]
) -> list[Any]:
    try:
        return [load() for load in loads]
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise CheckpointError(
            f"{name} cannot be used as an encoder ({reason}). Wanted a folder with {files}, for "
            f"example of {example}; weights as safetensors only. Put them into a folder and name "
            f"it: {option} FOLDER."
        ) from error


def _json(name: str, file: str) -> Any:
    """A JSON file of a local folder or a hub id; None where there is none."""
    path: Any = Path(name) / file
    if not Path(name).is_dir():
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(name, file)
    if not isinstance(path, str | Path) or not Path(path).is_file():
        return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is broken JSON ({error}). Copy it again.") from error
