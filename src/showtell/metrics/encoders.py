"""What turns texts and photos into vectors for the metrics: named, local, offline.

Any callable will do in place of one of these: texts -> NE, photos -> NE, pixels N3HW -> NE. What
is read from disk is safetensors and JSON, never a pickle. An encoder loaded here is on
``the_device()``; what it gives is on the CPU. Letters: N items, E width, T tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from showtell.data.photos import load_photo, square
from showtell.errors import CheckpointError, DataError
from showtell.runtime import the_device

PixelEncoder = Callable[[Tensor], Tensor]  # N3HW in [0, 1] -> NE
BATCH = 32
PHOTO_BATCH = 8  # photos are opened at their full size
WORLD_READERS = ("oracle", "encoder")
CLIP_FILES = "config.json, model.safetensors, preprocessor_config.json and the tokenizer's files"
SENTENCE_FILES = "config.json, model.safetensors, the tokenizer's files and 1_Pooling/config.json"


def batches(items: Sequence[Any], size: int = BATCH) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def opened(photo: str | Path | Image.Image) -> Image.Image:
    """The photo as RGB; a path is read with the care of ``load_photo`` (PhotoError)."""
    return photo.convert("RGB") if isinstance(photo, Image.Image) else load_photo(photo)


def pixels_of(image: Image.Image) -> Tensor:
    """RGB -> 3HW in [0, 1]."""
    return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).float() / 255


# ------------------------------------------------------------------------------------ sentences


class SentenceEncoder:
    """A transformers sentence encoder: texts -> NE, pooled as its own 1_Pooling/config.json says.

    ``truncated`` counts the texts that were longer than the model reads.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, pooling: str, max_length: int, id: str, path: str = ""
    ) -> None:
        self.model = model.eval()
        self.path = path
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.max_length = max_length
        self.id = id
        self.truncated = 0

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        parts = []
        for part in batches(texts):
            inputs, cut = _tokens(self.tokenizer, part, self.max_length)
            self.truncated += cut
            inputs = inputs.to(self.model.device)
            hidden_NTE = self.model(**inputs).last_hidden_state
            real_NT1 = inputs["attention_mask"][..., None].to(hidden_NTE.dtype)
            if self.pooling == "cls":
                parts.append(hidden_NTE[:, 0])
            elif self.pooling == "max":
                parts.append(hidden_NTE.masked_fill(real_NT1 == 0, -torch.inf).amax(1))
            else:
                parts.append((hidden_NTE * real_NT1).sum(1) / real_NT1.sum(1).clamp_min(1e-9))
        return torch.cat(parts).cpu()


def load_sentence_encoder(path: str | Path) -> SentenceEncoder:
    """A sentence-transformers folder (or hub id) read by transformers alone.

    Its dense layers are not supported; a final Normalize does not move a cosine. Raises
    CheckpointError, which says which files are wanted.
    """
    from transformers import AutoModel, AutoTokenizer

    name = str(path)
    model = _loaded(
        name,
        SENTENCE_FILES,
        "sentence-transformers/all-MiniLM-L6-v2",
        "--sentence-encoder",
        lambda: AutoModel.from_pretrained(name, use_safetensors=True).to(the_device()),
    )
    tokenizer = _loaded(
        name,
        SENTENCE_FILES,
        "sentence-transformers/all-MiniLM-L6-v2",
        "--sentence-encoder",
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
    most = getattr(model.config, "max_position_embeddings", 512)
    max_length = min(int(settings.get("max_seq_length") or most), most)
    return SentenceEncoder(
        model,
        tokenizer,
        pooling=pooling,
        max_length=max_length,
        id=f"{name} ({pooling} pooling, {max_length} tokens)",
        path=name,
    )


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


# ----------------------------------------------------------------------------------------- CLIP


class ClipEncoder:
    """A transformers CLIP: ``texts`` and ``photos`` give projected vectors of one space.

    ``truncated`` counts the texts that were cut at the model's 77 (or other) tokens.
    """

    def __init__(
        self, model: Any, tokenizer: Any, processor: Any, *, id: str, path: str = ""
    ) -> None:
        self.model = model.eval()
        self.path = path
        self.tokenizer = tokenizer
        self.processor = processor
        self.max_length = model.config.text_config.max_position_embeddings
        self.id = id
        self.truncated = 0

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        parts = []
        for part in batches(texts):
            inputs, cut = _tokens(self.tokenizer, part, self.max_length)
            self.truncated += cut
            inputs = inputs.to(self.model.device)
            parts.append(self.model.get_text_features(**inputs).pooler_output)
        return torch.cat(parts).cpu()

    @torch.no_grad()
    def photos(self, photos: Sequence[Any]) -> Tensor:
        parts = []
        for part in batches(photos, PHOTO_BATCH):
            pixels = self.processor(images=[opened(photo) for photo in part], return_tensors="pt")
            pixels = pixels.to(self.model.device)
            parts.append(self.model.get_image_features(**pixels).pooler_output)
        return torch.cat(parts).cpu()


def load_clip(path: str | Path, *, wanted: str = "openai/clip-vit-large-patch14") -> ClipEncoder:
    """CLIP of a transformers folder or hub id; ``wanted`` is the one that the protocol names."""
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    name = str(path)

    def load(what: Callable[[], Any]) -> Any:
        return _loaded(name, CLIP_FILES, wanted, "--clip", what)

    return ClipEncoder(
        load(lambda: CLIPModel.from_pretrained(name, use_safetensors=True).to(the_device())),
        load(lambda: AutoTokenizer.from_pretrained(name)),
        load(lambda: CLIPImageProcessorPil.from_pretrained(name)),
        id=name,
        path=name,
    )


def _tokens(tokenizer: Any, texts: Sequence[str], most: int) -> tuple[Any, int]:
    """(inputs, how many of the texts were longer than ``most`` tokens)."""
    whole = tokenizer(list(texts), add_special_tokens=True)["input_ids"]
    inputs = tokenizer(
        list(texts), padding=True, truncation=True, max_length=most, return_tensors="pt"
    )
    return inputs, sum(len(ids) > most for ids in whole)


# --------------------------------------------------------------------------------------- pixels


def load_world_reader(name: str) -> tuple[PixelEncoder, int]:
    """(features, how many) of one of the photo world's own readers: for use offline."""
    from showtell.data.world import load_oracle

    if name not in WORLD_READERS:
        raise DataError(
            f'no features "{name}" in the photo world; wanted {" or ".join(WORLD_READERS)}'
        )
    reader = load_oracle(name)
    return reader.features, reader.num_features


def square_pixels(photos: Sequence[Any], *, size: int = 64) -> Tensor:
    """Photos of any shape -> N3HW: the middle square of each, for encoders of one size."""
    return torch.stack([pixels_of(square(opened(photo), size)) for photo in photos])


# -------------------------------------------------------------------------------------- reading


def _loaded(name: str, files: str, example: str, option: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise CheckpointError(
            f"{name} cannot be used as an encoder ({reason}). Wanted a folder with {files}, for "
            f"example of {example}; weights as safetensors only. Put them into a folder and name "
            f"it: {option} FOLDER."
        ) from error


def _json(name: str, file: str) -> Any:
    """A JSON file of a local folder or a hub id; None where there is none."""
    if Path(name).is_dir():
        path: Path | None = Path(name) / file
    else:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(name, file)
        path = Path(found) if isinstance(found, str) else None
    if path is None or not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is broken JSON ({error}). Copy it again.") from error
