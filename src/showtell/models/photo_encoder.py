"""Photos -> embeddings that the LLM reads: Q-Former (2408.08650, section 2.3) or a linear map
(2305.17216, GILL). The third one, whose embeddings it attends to, is in ``cross_attention.py``."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Blip2QFormerModel, CLIPVisionModel, ViTModel

from showtell.errors import CheckpointError, ConfigError, did_you_mean
from showtell.models.cross_attention import CrossAttentionPhotoEncoder
from showtell.models.painter import MAX_SHARD_SIZE
from showtell.runtime import small_attention

CENTRE = (0.5, 0.5, 0.5)  # of pixels in [0, 1], for a ViT
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
VISION = {"vit": ViTModel, "clip_vision_model": CLIPVisionModel}
FILE = "projection.safetensors"
DESCRIPTION = "perceptron.json"


class QFormerPhotoEncoder(nn.Module):
    """ViT + Q-Former: a fixed number Q of tokens for a photo of any size (Eq. 3)."""

    attended = False

    def __init__(
        self,
        *,
        vision: ViTModel | CLIPVisionModel,
        qformer: Blip2QFormerModel,
        num_tokens: int,
        language_width: int,
    ) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.vision = vision
        self.qformer = qformer
        width = qformer.config.hidden_size
        self.queries_QC = nn.Parameter(torch.randn(num_tokens, width) * 0.02)
        self.project = nn.Linear(width, language_width)

    @property
    def language_width(self) -> int:
        """D"""
        return self.project.out_features

    @property
    def image_size(self) -> int:
        """Pixels a side of the photos that it was made for."""
        return int(self.vision.config.image_size)

    @property
    def feature_width(self) -> int:
        """F, of ``features``."""
        return int(self.vision.config.hidden_size)

    def forward(self, pixels_P3HW: Tensor) -> Tensor:
        """Pixels in [0, 1], any H and W that the patch size divides -> (P, Q, D)."""
        pixels_P3HW = pixels_P3HW.to(self.queries_QC.device)
        queries = self.queries_QC.expand(len(pixels_P3HW), -1, -1)
        height, width = pixels_P3HW.shape[-2:]
        patches = height * width // self.vision.config.patch_size**2
        with small_attention(pixels_P3HW, length=patches):
            states = self.vision(  # Eq. 3: H_v = ViT(I)
                pixel_values=pixels_P3HW * 2 - 1, interpolate_pos_encoding=True
            ).last_hidden_state
            seen = self.qformer(  # H_v = Q-Former(Q, H_v)
                query_embeds=queries, encoder_hidden_states=states
            ).last_hidden_state
        return self.project(seen)

    @torch.no_grad()
    def features(self, pixels_P3HW: Tensor) -> Tensor:
        """The vision encoder's state at CLS, (P, F), without a gradient: what to search by."""
        return _feature(self.vision, pixels_P3HW.to(self.queries_QC.device) * 2 - 1)

    def save_pretrained(self, folder: Path) -> None:
        self.vision.save_pretrained(folder / "vision", max_shard_size=MAX_SHARD_SIZE)
        self.qformer.save_pretrained(folder / "qformer", max_shard_size=MAX_SHARD_SIZE)
        save_file(
            {
                "queries": self.queries_QC.detach().contiguous().cpu(),
                "project.weight": self.project.weight.detach().contiguous().cpu(),
                "project.bias": self.project.bias.detach().contiguous().cpu(),
            },
            folder / FILE,
        )

    @classmethod
    def from_pretrained(
        cls, folder: Path, *, dtype: torch.dtype = torch.float32
    ) -> QFormerPhotoEncoder:
        """Read from this machine. Raises CheckpointError."""
        try:
            rest = load_file(folder / FILE)
            vision = _load_vision(folder / "vision", dtype=dtype)
            qformer = Blip2QFormerModel.from_pretrained(
                folder / "qformer", dtype=dtype, use_safetensors=True, local_files_only=True
            )
            photo_encoder = cls(
                vision=vision,
                qformer=qformer,
                num_tokens=rest["queries"].shape[0],
                language_width=rest["project.weight"].shape[0],
            )
            with torch.no_grad():
                photo_encoder.queries_QC.copy_(rest["queries"])
                photo_encoder.project.weight.copy_(rest["project.weight"])
                photo_encoder.project.bias.copy_(rest["project.bias"])
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f'the photo encoder in "{folder}" cannot be read ({type(error).__name__}: {error});'
                " wanted vision/, qformer/ and projection.safetensors; copy or train it again"
            ) from error
        return photo_encoder.to(dtype)


class LinearPhotoEncoder(nn.Module):
    """A frozen vision encoder and one linear map: Q tokens from one feature of the photo.

    W_cap of 2305.17216 (GILL: Q = k = 4, CLIP ViT-L/14's pooled output). The encoder never
    trains and stays in evaluation mode. ``mean`` and ``std`` are what it was trained with.
    """

    attended = False
    mean_3: Tensor
    std_3: Tensor

    def __init__(
        self,
        *,
        vision: ViTModel | CLIPVisionModel,
        num_tokens: int,
        language_width: int,
        mean: tuple[float, ...] = CENTRE,
        std: tuple[float, ...] = CENTRE,
    ) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.language_width = language_width
        self.vision = vision.requires_grad_(False).eval()
        self.project = nn.Linear(self.feature_width, num_tokens * language_width)
        self.register_buffer("mean_3", torch.tensor(mean), persistent=False)
        self.register_buffer("std_3", torch.tensor(std), persistent=False)

    @property
    def image_size(self) -> int:
        """Pixels a side of the photos that it was made for."""
        return int(self.vision.config.image_size)

    @property
    def feature_width(self) -> int:
        """F, of ``features``."""
        return int(self.vision.config.hidden_size)

    def train(self, mode: bool = True) -> LinearPhotoEncoder:
        super().train(mode)
        self.vision.eval()  # frozen: dropout would be noise that nothing learns from
        return self

    def forward(self, pixels_P3HW: Tensor) -> Tensor:
        """Pixels in [0, 1], any H and W that the patch size divides -> (P, Q, D)."""
        seen_PF = self.features(pixels_P3HW)
        return self.project(seen_PF).unflatten(-1, (self.num_tokens, self.language_width))

    @torch.no_grad()
    def features(self, pixels_P3HW: Tensor) -> Tensor:
        """One feature a photo, (P, F), without a gradient: CLIP's pooled output, ViT's CLS."""
        mean_311, std_311 = self.mean_3[:, None, None], self.std_3[:, None, None]
        return _feature(self.vision, (pixels_P3HW.to(mean_311.device) - mean_311) / std_311)

    def save_pretrained(self, folder: Path) -> None:
        self.vision.save_pretrained(folder / "vision", max_shard_size=MAX_SHARD_SIZE)
        save_file(
            {
                "project.weight": self.project.weight.detach().contiguous().cpu(),
                "project.bias": self.project.bias.detach().contiguous().cpu(),
            },
            folder / FILE,
        )
        description = {
            "perceptron": "linear",
            "num_tokens": self.num_tokens,
            "mean": self.mean_3.tolist(),
            "std": self.std_3.tolist(),
        }
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")

    @classmethod
    def from_pretrained(
        cls, folder: Path, *, dtype: torch.dtype = torch.float32
    ) -> LinearPhotoEncoder:
        """Read from this machine. Raises CheckpointError."""
        try:
            description = json.loads((folder / DESCRIPTION).read_text())
            rest = load_file(folder / FILE)
            vision = _load_vision(folder / "vision", dtype=dtype)
            photo_encoder = cls(
                vision=vision,
                num_tokens=description["num_tokens"],
                language_width=len(rest["project.bias"]) // description["num_tokens"],
                mean=tuple(description["mean"]),
                std=tuple(description["std"]),
            )
            photo_encoder.project.load_state_dict(
                {name.removeprefix("project."): value for name, value in rest.items()}
            )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f'the photo encoder in "{folder}" cannot be read ({type(error).__name__}: {error});'
                f" wanted vision/ (one of {', '.join(VISION)}), {FILE} and {DESCRIPTION}; "
                "copy or train it again"
            ) from error
        return photo_encoder.to(dtype)


def _load_vision(folder: Path, *, dtype: torch.dtype) -> ViTModel | CLIPVisionModel:
    """Raises OSError, KeyError, ValueError or RuntimeError for what cannot be read."""
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    return VISION[kind].from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        **({"add_pooling_layer": False} if kind == "vit" else {}),
    )


def _feature(vision: nn.Module, pixels_P3HW: Tensor) -> Tensor:
    """(P, F): CLIP's pooled output; of a ViT, whose pooler is not trained, the state at CLS."""
    seen = vision(pixel_values=pixels_P3HW, interpolate_pos_encoding=True)
    pooled = isinstance(vision, CLIPVisionModel)
    return seen.pooler_output if pooled else seen.last_hidden_state[:, 0]


AnyPhotoEncoder = QFormerPhotoEncoder | LinearPhotoEncoder | CrossAttentionPhotoEncoder
PHOTO_ENCODERS: dict[str, type[AnyPhotoEncoder]] = {
    "qformer": QFormerPhotoEncoder,
    "linear": LinearPhotoEncoder,
    "cross_attention": CrossAttentionPhotoEncoder,
}


def photo_encoder_class(name: str) -> type[AnyPhotoEncoder]:
    """The photo encoder of that name. Raises ConfigError."""
    if name not in PHOTO_ENCODERS:
        raise ConfigError(f'unknown photo encoder "{name}"{did_you_mean(name, PHOTO_ENCODERS)}')
    return PHOTO_ENCODERS[name]


def load_photo_encoder(folder: Path, *, dtype: torch.dtype = torch.float32) -> AnyPhotoEncoder:
    """Whatever photo encoder a folder holds. Raises CheckpointError.

    A folder without perceptron.json is a Q-Former's.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        return QFormerPhotoEncoder.from_pretrained(folder, dtype=dtype)
    try:
        name = json.loads(path.read_text())["perceptron"]
        kind = PHOTO_ENCODERS[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f'"{path}" names no photo encoder ({type(error).__name__}: {error}); wanted '
            f"one of {', '.join(PHOTO_ENCODERS)}; copy the model again"
        ) from error
    return kind.from_pretrained(folder, dtype=dtype)
