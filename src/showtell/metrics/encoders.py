"""What turns texts and photos into vectors for the metrics: named, local, offline.

Any callable will do in place of one of these: texts -> NE, photos -> NE, pixels N3HW -> NE. Weights
are read from safetensors. An encoder loaded here is on ``the_device()``; what it gives is on the
CPU. Letters: N items, E width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from showtell.data.photos import load_photo, middle
from showtell.errors import CheckpointError, import_extra
from showtell.metrics.protocols import CLIP_L, MINILM
from showtell.models.named import named_folder
from showtell.runtime import the_device

BATCH = 32
PHOTO_BATCH = 8  # photos are opened at their full size
CLIP_FILES = "config.json, model.safetensors, preprocessor_config.json and the tokenizer's files"
SENTENCE_FILES = "modules.json, 1_Pooling/config.json and what a transformers model has"


@dataclass(kw_only=True, eq=False)
class _TextReader:
    """A model and its tokenizer; ``truncated`` counts the texts that were longer than it reads."""

    model: Any
    tokenizer: Any
    max_length: int
    id: str
    path: str = ""
    truncated: int = 0

    def in_parts(self, texts: Sequence[str], encode: Callable[[list[str]], Tensor]) -> Tensor:
        """NE on the CPU, ``BATCH`` texts at once."""
        parts = []
        for start in range(0, len(texts), BATCH):
            part = list(texts[start : start + BATCH])
            whole = self.tokenizer(part, add_special_tokens=True)["input_ids"]
            self.truncated += sum(len(ids) > self.max_length for ids in whole)
            parts.append(encode(part))
        return torch.cat(parts).cpu()


class SentenceEncoder(_TextReader):
    """An encoder of sentence-transformers: texts -> NE, pooled as its folder says."""

    def __call__(self, texts: Sequence[str]) -> Tensor:
        how = {"batch_size": BATCH, "show_progress_bar": False, "convert_to_tensor": True}
        return self.in_parts(texts, lambda part: self.model.encode(part, **how))


def load_sentence_encoder(path: str | Path, *, wanted: str = MINILM) -> SentenceEncoder:
    """A sentence encoder by the name of its folder, or its id (``models/named.py``).

    Raises CheckpointError, which says which files are wanted.
    """
    library = import_extra("sentence_transformers", what="a sentence encoder")
    name, option = str(path), "--sentence-encoder"
    folder = named_folder(name, flag=option)

    def load() -> Any:
        if not (folder / "modules.json").is_file():
            # the library would pool by the mean, whatever the encoder was trained with
            raise ValueError("it has no modules.json, so it does not say how it pools")
        how = {"device": str(the_device()), "model_kwargs": {"use_safetensors": True}}
        return library.SentenceTransformer(str(folder), **how)

    (model,) = _loaded(name, SENTENCE_FILES, wanted, option, load)
    return SentenceEncoder(
        model=model,
        tokenizer=model.tokenizer,
        max_length=model.max_seq_length,
        id=f"{name} ({model.max_seq_length} tokens)",
        path=str(folder),
    )


@dataclass(kw_only=True, eq=False)
class ClipEncoder(_TextReader):
    """A transformers CLIP or SigLIP: ``texts`` and ``photos`` give vectors of one space."""

    processor: Any

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        # SigLIP has no mask: it was trained on texts filled up to one length
        filled = "siglip" in self.model.config.model_type
        padding = "max_length" if filled else True
        how = {"padding": padding, "truncation": True, "max_length": self.max_length}

        def encode(part: list[str]) -> Tensor:
            inputs = self.tokenizer(part, **how, return_tensors="pt").to(self.model.device)
            return self.model.get_text_features(**inputs).pooler_output

        return self.in_parts(texts, encode)

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
        """The photo as RGB; its middle where it is of extreme shape and only that is looked at."""
        image = photo.convert("RGB") if isinstance(photo, Image.Image) else load_photo(photo)
        return middle(image) if getattr(self.processor, "do_center_crop", False) else image


def load_clip(path: str | Path, *, wanted: str = CLIP_L, option: str = "--clip") -> ClipEncoder:
    """CLIP, or another model of texts and photos in one space (SigLIP), of a transformers folder or
    id (``models/named.py``); ``wanted`` is the one that the protocol names."""
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    name = str(path)
    folder = named_folder(name, flag=option)

    def load() -> Any:
        model = AutoModel.from_pretrained(folder, use_safetensors=True)
        if not hasattr(model, "get_image_features") or not hasattr(model.config, "text_config"):
            raise ValueError(f"a {model.config.model_type} has no texts and photos in one space")
        return model.to(the_device())

    model, tokenizer, processor = _loaded(
        name,
        CLIP_FILES,
        wanted,
        option,
        load,
        lambda: AutoTokenizer.from_pretrained(folder),
        lambda: AutoImageProcessor.from_pretrained(folder, backend="pil"),
    )
    return ClipEncoder(
        model=model.eval(),
        tokenizer=tokenizer,
        max_length=model.config.text_config.max_position_embeddings,
        id=name,
        path=str(folder),
        processor=processor,
    )


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
