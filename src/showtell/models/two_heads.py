"""Two heads that bring a photo's features and a text's vector into one space.

They stand on parts that are not trained (``PHOTOS``, ``TEXTS``: parts that a package index serves,
or a model's photo encoder), and learn from captioned photos which go together (2103.00020), and
which terms of captions a photo calls for (album/shown.py). P photos, N texts, E width, V terms.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from showtell.data.storage import replacing
from showtell.models.folders import reading, save_rows, write_json

PHOTOS, TEXTS = "efficientnet-lite0", "all-minilm-l6-v2"
DESCRIPTION, WEIGHTS = "album_heads.json", "album_heads.safetensors"


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """Sizes: of a photo's features, of a text's vector, of the heads within, of their space. Then
    the terms; ``eyes``: the model whose photo encoder looks, "" for ``PHOTOS``; the search's
    cut-off (none: the usual one)."""

    photo_width: int
    text_width: int
    hidden_width: int
    width: int
    dropout: float
    terms: tuple[str, ...] = ()
    eyes: str = ""
    cut_off: float | None = None


class AlbumHeads(nn.Module):
    """Each head has two layers; ``scale`` sharpens the cosines in training."""

    top_V: Tensor

    def __init__(self, config: HeadsConfig) -> None:
        super().__init__()
        self.config = config
        self.photo, self.text = _head(config.photo_width, config), _head(config.text_width, config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        if config.terms:
            self.to_terms = nn.Linear(config.width, len(config.terms))
            self.register_buffer("top_V", torch.zeros(len(config.terms)))

    def photos(self, features_PF: Tensor) -> Tensor:
        """(P, E) unit vectors."""
        return F.normalize(self.photo(features_PF.to(self.log_scale)), dim=1)

    def texts(self, vectors_NW: Tensor) -> Tensor:
        """(N, E) unit vectors."""
        return F.normalize(self.text(vectors_NW.to(self.log_scale)), dim=1)

    def shows(self, photos_PE: Tensor) -> Tensor:
        """(P, V), the logits of the terms of photos' captions."""
        return self.to_terms(photos_PE * self.config.width**0.5)  # numbers of a usual size

    def terms(self) -> dict[str, Tensor]:
        """What ``album.shown.Terms`` wants of it: rows, bias, top."""
        rows_VE = self.to_terms.weight * self.config.width**0.5
        rows = {"rows_VE": rows_VE, "bias_V": self.to_terms.bias, "top_V": self.top_V}
        return {name: tensor.detach().float().cpu() for name, tensor in rows.items()}

    def save(self, folder: Path) -> Path:
        """Write the folder anew. Raises StorageError."""
        with replacing(folder, what="the album's heads") as fresh:
            write_json(fresh / DESCRIPTION, asdict(self.config))
            save_rows(self.state_dict(), fresh / WEIGHTS)
        return folder

    @classmethod
    def load(cls, folder: Path) -> AlbumHeads:
        """Ready to be asked. Raises CheckpointError."""
        with reading("an album's heads", folder, wanted=f"{DESCRIPTION} and {WEIGHTS}"):
            config = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            heads = cls(HeadsConfig(**config | {"terms": tuple(config.get("terms", ()))}))
            heads.load_state_dict(load_file(folder / WEIGHTS))
        return heads.eval().requires_grad_(False)


def _head(width: int, config: HeadsConfig) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, config.hidden_width),
        nn.GELU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden_width, config.width),
    )
