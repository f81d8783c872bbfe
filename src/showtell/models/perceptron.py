"""Photos -> embeddings that the LLM reads (2408.08650, section 2.3)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Blip2QFormerModel, PreTrainedModel, ViTModel

from showtell.errors import CheckpointError
from showtell.models.painter import MAX_SHARD_SIZE


class QFormerPerceptron(nn.Module):
    """ViT + Q-Former: a fixed number Q of tokens for a photo of any size (Eq. 3)."""

    def __init__(
        self,
        *,
        vision: ViTModel,
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

    def forward(self, pixels_P3HW: Tensor) -> Tensor:
        """Pixels in [0, 1], any H and W that the patch size divides -> (P, Q, D)."""
        states = self.vision(  # Eq. 3: H_v = ViT(I)
            pixel_values=pixels_P3HW * 2 - 1, interpolate_pos_encoding=True
        ).last_hidden_state
        queries = self.queries_QC.expand(len(pixels_P3HW), -1, -1)
        seen = self.qformer(  # H_v = Q-Former(Q, H_v)
            query_embeds=queries, encoder_hidden_states=states
        ).last_hidden_state
        return self.project(seen)

    def save_pretrained(self, folder: Path) -> None:
        self.vision.save_pretrained(folder / "vision", max_shard_size=MAX_SHARD_SIZE)
        self.qformer.save_pretrained(folder / "qformer", max_shard_size=MAX_SHARD_SIZE)
        save_file(
            {
                "queries": self.queries_QC.detach().contiguous(),
                "project.weight": self.project.weight.detach().contiguous(),
                "project.bias": self.project.bias.detach().contiguous(),
            },
            folder / "projection.safetensors",
        )

    @classmethod
    def from_pretrained(
        cls, folder: Path, *, dtype: torch.dtype = torch.float32
    ) -> QFormerPerceptron:
        """Read from this machine. Raises CheckpointError."""
        try:
            rest = load_file(folder / "projection.safetensors")
            vision: PreTrainedModel = ViTModel.from_pretrained(
                folder / "vision",
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                add_pooling_layer=False,
            )
            qformer = Blip2QFormerModel.from_pretrained(
                folder / "qformer", dtype=dtype, use_safetensors=True, local_files_only=True
            )
            perceptron = cls(
                vision=vision,
                qformer=qformer,
                num_tokens=rest["queries"].shape[0],
                language_width=rest["project.weight"].shape[0],
            )
            with torch.no_grad():
                perceptron.queries_QC.copy_(rest["queries"])
                perceptron.project.weight.copy_(rest["project.weight"])
                perceptron.project.bias.copy_(rest["project.bias"])
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f'the perceptron in "{folder}" cannot be read ({type(error).__name__}: {error}); '
                "wanted vision/, qformer/ and projection.safetensors; copy or train it again"
            ) from error
        return perceptron.to(dtype)
