"""Which of several photos shows best what a caption says: Divter ranks its samples so, by CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPModel,
    PreTrainedTokenizerFast,
)

from showtell.models.folders import from_transformers, reading, to_transformers


class ClipRanker(nn.Module):
    """Photos and captions -> their cosines in the space of a contrastive encoder.

    ``processor`` says which mean and standard deviation the encoder's pixels had.
    """

    def __init__(
        self,
        clip: CLIPModel,
        tokenizer: PreTrainedTokenizerFast,
        processor: CLIPImageProcessorPil,
    ) -> None:
        super().__init__()
        self.clip = clip.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.processor = processor

    @torch.no_grad()
    def forward(self, pixels_N3HW: Tensor, captions: Sequence[str]) -> Tensor:
        """Pixels in [0, 1] -> cosines (N,), each photo's with its own caption."""
        pixels_N3HW = pixels_N3HW.to(self.clip.device)
        side = self.clip.config.vision_config.image_size
        if pixels_N3HW.shape[-1] != side:
            pixels_N3HW = F.interpolate(pixels_N3HW, (side, side), mode="bicubic", antialias=True)
        mean_311 = pixels_N3HW.new_tensor(self.processor.image_mean)[:, None, None]
        std_311 = pixels_N3HW.new_tensor(self.processor.image_std)[:, None, None]
        told = self.tokenizer(
            list(captions),
            padding=True,
            truncation=True,
            max_length=self.clip.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(pixels_N3HW.device)
        seen = self.clip(
            input_ids=told["input_ids"],
            attention_mask=told["attention_mask"],
            pixel_values=(pixels_N3HW - mean_311) / std_311,
        )
        return (seen.image_embeds * seen.text_embeds).sum(-1)  # both are unit vectors

    def save_pretrained(self, folder: Path) -> None:
        """A CLIP in the transformers layout, its tokenizer and processor beside it."""
        to_transformers(self.clip, folder)
        self.tokenizer.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    @classmethod
    def from_pretrained(cls, folder: Path, *, dtype: torch.dtype = torch.float32) -> ClipRanker:
        """Read from this machine; only safetensors are read. Raises CheckpointError."""
        wanted = "a CLIP in the transformers layout with its tokenizer and preprocessor_config.json"
        with reading("the ranker", folder, wanted=wanted):
            return cls(
                from_transformers(CLIPModel, folder, dtype=dtype),
                AutoTokenizer.from_pretrained(folder, local_files_only=True),
                CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True),
            )
