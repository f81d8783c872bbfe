"""Photos -> embeddings for the LLM: Q-Former (2408.08650, section 2.3), a linear map (2305.17216,
GILL), or all states of the vision encoder, to be attended to (2408.08650 v2, Llama-Vision).

The papers call this the image perceptron, and so do checkpoints (``perceptron/``).
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    Blip2QFormerModel,
    Blip2VisionModel,
    CLIPVisionModel,
    MllamaVisionModel,
    SiglipVisionModel,
    ViTModel,
)

from showtell.data.photos import square
from showtell.models.folders import (
    from_transformers,
    reading,
    save_rows,
    to_transformers,
    write_json,
)
from showtell.models.photo_look import FILE as LOOK
from showtell.models.photo_look import PhotoLook
from showtell.runtime import small_attention

CENTRE = (0.5, 0.5, 0.5)  # of pixels in [0, 1], for a ViT of our own
VISION = {
    "vit": ViTModel,
    "clip_vision_model": CLIPVisionModel,
    "siglip_vision_model": SiglipVisionModel,
    "blip_2_vision_model": Blip2VisionModel,
    "mllama_vision_model": MllamaVisionModel,
}
POOLED = (CLIPVisionModel, SiglipVisionModel)  # whose pooled output is trained
# what stands beside a vision encoder in the files of the hub
BESIDE = ["pooler.", "vit.", "classifier.", "text_model.", "visual_projection."]
BESIDE += ["text_projection.", "logit_"]
FILE = "projection.safetensors"
DESCRIPTION = "perceptron.json"


class AnyPhotoEncoder(nn.Module):
    """A vision encoder and a projection to the LLM's width; ``mean`` and ``std`` are of the pixels
    that the vision encoder was trained with, and ``own_look`` is how it looks at photos if that is
    not at their middle squares."""

    attended = False
    photo_token = "<|photo|>"  # that stands for a photo in the text

    def __init__(
        self,
        *,
        vision: Any,
        num_tokens: int,
        language_width: int,
        mean: tuple[float, ...] = CENTRE,
        std: tuple[float, ...] = CENTRE,
        own_look: PhotoLook | None = None,
    ) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.language_width = language_width
        self.vision = vision
        self.own_look = own_look
        self.mean, self.std = (mean, std) if own_look is None else (own_look.mean, own_look.std)

    @property
    def image_size(self) -> int:
        """Pixels a side of the photos that it was made for."""
        return int(self.vision.config.image_size)

    @property
    def feature_width(self) -> int:
        """F, of ``features``."""
        return int(self.vision.config.hidden_size)

    def look(self, image: Image.Image) -> Image.Image:
        """A photo of any size as it looks at it."""
        return square(image, self.image_size) if self.own_look is None else self.own_look(image)

    def normalized(self, pixels_P3HW: Tensor) -> Tensor:
        """Pixels in [0, 1] as the vision encoder was trained with them, where it is."""
        pixels_P3HW = pixels_P3HW.to(self.vision.device)
        mean_311, std_311 = (
            pixels_P3HW.new_tensor(each)[:, None, None] for each in (self.mean, self.std)
        )
        return (pixels_P3HW - mean_311) / std_311

    def states(self, pixels_P3HW: Tensor) -> Any:
        """What the vision encoder sees in pixels in [0, 1], any H and W that its patches divide."""
        return self.vision(pixel_values=self.normalized(pixels_P3HW), interpolate_pos_encoding=True)

    @torch.no_grad()
    def features(self, pixels_P3HW: Tensor) -> Tensor:
        """One feature a photo, (P, F), without a gradient, what to search by: the pooled output of
        CLIP and SigLIP; of a ViT, whose pooler is not trained, the state at CLS."""
        seen = self.states(pixels_P3HW)
        pooled = isinstance(self.vision, POOLED)
        return seen.pooler_output if pooled else seen.last_hidden_state[:, 0]

    # ------------------------------------------------------------------------------ on disk

    def rows(self) -> dict[str, Tensor]:
        """What is stored beside the vision encoder, by the names in the file."""
        return {f"project.{name}": p for name, p in self.project.named_parameters()}  # type: ignore[union-attr, operator]

    def save_pretrained(self, folder: Path) -> None:
        to_transformers(self.vision, folder / "vision")
        save_rows(self.rows(), folder / FILE)
        kind = next(name for name, each in PHOTO_ENCODERS.items() if each is type(self))
        description = {"perceptron": kind, "num_tokens": self.num_tokens}
        if self.own_look is None:
            write_json(folder / DESCRIPTION, {**description, "mean": self.mean, "std": self.std})
        else:
            write_json(folder / DESCRIPTION, description)
            self.own_look.save(folder)


class QFormerPhotoEncoder(AnyPhotoEncoder):
    """ViT + Q-Former: a fixed number Q of tokens for a photo of any size (Eq. 3)."""

    def __init__(self, *, qformer: Blip2QFormerModel, **settings: Any) -> None:
        super().__init__(**settings)
        self.qformer = qformer
        width = qformer.config.hidden_size
        self.queries_QC = nn.Parameter(torch.randn(self.num_tokens, width) * 0.02)
        self.project = nn.Linear(width, self.language_width)

    def forward(self, pixels_P3HW: Tensor) -> Tensor:
        """-> (P, Q, D)"""
        queries = self.queries_QC.expand(len(pixels_P3HW), -1, -1)
        height, width = pixels_P3HW.shape[-2:]
        patches = height * width // self.vision.config.patch_size**2
        with small_attention(queries, length=patches):
            states = self.states(pixels_P3HW).last_hidden_state  # Eq. 3: H_v = ViT(I)
            seen = self.qformer(  # H_v = Q-Former(Q, H_v)
                query_embeds=queries, encoder_hidden_states=states
            ).last_hidden_state
        return self.project(seen)

    def rows(self) -> dict[str, Tensor]:
        return {"queries": self.queries_QC, **super().rows()}

    def save_pretrained(self, folder: Path) -> None:
        to_transformers(self.qformer, folder / "qformer")
        super().save_pretrained(folder)


class LinearPhotoEncoder(AnyPhotoEncoder):
    """A frozen vision encoder and one linear map: Q tokens from one feature of the photo.

    W_cap of 2305.17216 (GILL: Q = k = 4, CLIP ViT-L/14's pooled output). The encoder never
    trains and stays in evaluation mode.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.vision.requires_grad_(False).eval()
        self.project = nn.Linear(self.feature_width, self.num_tokens * self.language_width)

    def train(self, mode: bool = True) -> LinearPhotoEncoder:
        super().train(mode)
        self.vision.eval()  # frozen: dropout would be noise that nothing learns from
        return self

    def forward(self, pixels_P3HW: Tensor) -> Tensor:
        """-> (P, Q, D)"""
        seen_PF = self.features(pixels_P3HW)
        return self.project(seen_PF).unflatten(-1, (self.num_tokens, self.language_width))


class CrossAttentionPhotoEncoder(AnyPhotoEncoder):
    """ViT + linear projector, as Llama-Vision's: all states of a photo, to be attended to
    (``cross_attention.py``). In the text a photo is one token. ``sees_all``: whether a token sees
    all photos before it, or the last one alone, with those right before that."""

    attended = True
    sees_all = True

    def __init__(self, *, num_tokens: int = 1, **settings: Any) -> None:
        super().__init__(num_tokens=num_tokens, **settings)
        self.project = nn.Linear(self.feature_width, self.language_width)

    def forward(self, pixels_P3HW: Tensor) -> Tensor:
        """-> (P, Q, D), Q as many as the vision encoder has states"""
        return self.project(self.states(pixels_P3HW).last_hidden_state)

    def rows(self) -> dict[str, Tensor]:
        return dict(self.project.named_parameters())


class LlamaVision(CrossAttentionPhotoEncoder):
    """Llama-3.2-Vision's own tower and projector: all states of a photo's tiles (2408.08650 v2).

    A photo is cut into tiles as the library's processor cuts it: the picture that is looked at is
    some tiles broad and high, black where the photo leaves room. Photos of one batch that are cut
    in several ways stand in pictures of one size, with NaN where there is none (``batch.stacked``).
    A tile that a photo lacks is zeros in the tower, as in the library; its states are zeros, too,
    which no token sees.
    """

    sees_all = False
    photo_token = "<|image|>"

    @property
    def feature_width(self) -> int:
        return int(self.vision.config.vision_output_dim)

    def tiles(self, pixels_P3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(tiles (P, M, 3, side, side) as the tower was trained with them, the library's number of
        how each photo is cut, which tiles are there (P, M) bool). A photo that is no whole number
        of tiles is scaled to one."""
        side, config = self.image_size, self.vision.config
        if pixels_P3HW.shape[-2] % side or pixels_P3HW.shape[-1] % side:
            how: dict[str, Any] = {"mode": "bilinear", "antialias": True}
            pixels_P3HW = F.interpolate(pixels_P3HW, size=(side, side), **how)
        pixels_P3HW = self.normalized(pixels_P3HW)
        shape = (len(pixels_P3HW), config.max_num_tiles)
        tiles_PM3HW = pixels_P3HW.new_zeros(*shape, 3, side, side)
        there_PM = torch.zeros(shape, dtype=torch.bool, device=pixels_P3HW.device)
        numbers = []
        for photo, pixels_3HW in enumerate(pixels_P3HW):
            there_HW = ~pixels_3HW[0].isnan()
            rows, columns = int(there_HW[:, 0].sum()) // side, int(there_HW[0].sum()) // side
            cut = pixels_3HW[:, : rows * side, : columns * side].unflatten(2, (columns, side))
            own = cut.unflatten(1, (rows, side)).permute(1, 3, 0, 2, 4).flatten(0, 1)
            tiles_PM3HW[photo, : len(own)], there_PM[photo, : len(own)] = own, True
            numbers.append(config.supported_aspect_ratios.index([rows, columns]) + 1)
        return tiles_PM3HW, torch.tensor(numbers, device=pixels_P3HW.device), there_PM

    def states(self, pixels_P3HW: Tensor) -> Any:
        """``last_hidden_state`` (P, M x N, F), N states a tile, and which are ``there`` (P, M x N).
        The first is the first tile's CLS."""
        tiles_PM3HW, number_P, there_PM = self.tiles(pixels_P3HW)
        seen_P1MNF = self.vision(
            pixel_values=tiles_PM3HW[:, None],
            aspect_ratio_ids=number_P[:, None],
            aspect_ratio_mask=there_PM[:, None].long(),
        ).last_hidden_state
        there = there_PM.repeat_interleave(seen_P1MNF.shape[3], dim=1)
        return SimpleNamespace(last_hidden_state=seen_P1MNF.flatten(1, 3), there=there)

    def forward(self, pixels_P3HW: Tensor) -> Tensor:
        """-> (P, Q, D), Q = M x N; zeros where there is no tile"""
        seen = self.states(pixels_P3HW)
        return self.project(seen.last_hidden_state) * seen.there[..., None]


PHOTO_ENCODERS: dict[str, type[AnyPhotoEncoder]] = {
    "qformer": QFormerPhotoEncoder,
    "linear": LinearPhotoEncoder,
    "cross_attention": CrossAttentionPhotoEncoder,
    "llama_vision": LlamaVision,
}


def load_vision(kind: Any, folder: Path, *, dtype: torch.dtype | Literal["auto"]) -> Any:
    """A vision encoder, alone or out of a model of texts and photos. Raises CheckpointError."""
    more: dict[str, Any] = {"add_pooling_layer": False} if kind is ViTModel else {}
    return from_transformers(kind, folder, dtype=dtype, exact=True, beside=BESIDE, **more)


def load_photo_encoder(folder: Path, *, dtype: torch.dtype = torch.float32) -> AnyPhotoEncoder:
    """Whatever photo encoder a folder holds. Raises CheckpointError.

    A folder without perceptron.json is a Q-Former's.
    """
    path = folder / DESCRIPTION
    said: dict[str, Any] = {"perceptron": "qformer"}
    kinds, encoders = ", ".join(PHOTO_ENCODERS), ", ".join(VISION)
    wanted = f"{path.name} (one of {kinds}), vision/ (one of {encoders}), {FILE}, perhaps qformer/"
    with reading("the photo encoder", folder, wanted=wanted):
        said = json.loads(path.read_text()) if path.is_file() else said
        kind = PHOTO_ENCODERS[said["perceptron"]]
        vision_kind = json.loads((folder / "vision" / "config.json").read_text())["model_type"]
        vision = load_vision(VISION[vision_kind], folder / "vision", dtype=dtype)
        rows = load_file(folder / FILE)
        own: dict[str, Any] = {key: tuple(said[key]) for key in ("mean", "std") if key in said}
        if (folder / LOOK).is_file():
            own["own_look"] = PhotoLook.of(folder)
        if (qformer := folder / "qformer").is_dir():
            own["qformer"] = from_transformers(Blip2QFormerModel, qformer, dtype=dtype, exact=True)
        count = said.get("num_tokens", len(rows.get("queries", ())))
        width = len(rows["bias" if kind.attended else "project.bias"])
        encoder = kind(
            vision=vision,
            num_tokens=count,
            language_width=width // count if kind is LinearPhotoEncoder else width,
            **own,
        )
        with torch.no_grad():
            for name, value in encoder.rows().items():
                value.copy_(rows.pop(name))
        if rows:
            raise KeyError(*rows)
    return encoder.to(dtype)
