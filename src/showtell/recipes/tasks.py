"""What each stage trains: a module, numbered examples, their losses (see training/loop.Task)."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import ViTModel

from photoworld.oracle import label_scenes
from photoworld.scenes import ATTRIBUTES, Scene
from showtell.batch import Batch, collate, to_pixels
from showtell.data.photos import photo_image
from showtell.dialogue import AGENT, USER, Dialogue, Photo
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.photo_encoder import QFormerPhotoEncoder
from showtell.papers.forms import caption_dialogue, swap_speakers
from showtell.prompt import IGNORED, Rendered, Renderer
from showtell.runtime import mixed_precision
from showtell.training.features import captioned_scene, pixels_tensor


@dataclass
class VaeTask:
    """Photos through the VAE and back: mean absolute error, and KL to keep the latents smooth."""

    module: AutoencoderKL
    photos: np.ndarray  # uint8 (N, H, W, 3)
    held_out: np.ndarray
    crop: int | None = None  # train on squares of this side: more photos a second

    def __len__(self) -> int:
        return len(self.photos)

    def losses(
        self, indices: Sequence[int], *, generator: torch.Generator, epoch: float
    ) -> dict[str, Tensor]:
        pixels = pixels_tensor(self.photos[sorted(indices)]) * 2 - 1
        if self.crop is not None:
            pixels = self._cropped(pixels, self.crop, generator=generator)
        pixels = pixels.to(memory_format=torch.channels_last)
        flip = torch.rand(len(indices), generator=generator) < 0.5
        pixels = torch.where(flip[:, None, None, None], pixels.flip(3), pixels)
        pixels = pixels.to(self.module.device)
        posterior = self.module.encode(pixels).latent_dist
        rebuilt = self.module.decode(posterior.sample(generator)).sample.float()
        # Edges carry what a photo shows; a plain error would trade them for flat areas.
        edges = sum(F.l1_loss(rebuilt.diff(dim=axis), pixels.diff(dim=axis)) for axis in (2, 3))
        return {
            "pixels": F.l1_loss(rebuilt, pixels),
            # Squared: a small subject in the wrong colour is a large error on few pixels, which
            # an absolute error gives up for the wide flat areas.
            "colour": F.mse_loss(_opponents(rebuilt), _opponents(pixels)),
            "edges": edges,
            "kl": posterior.kl().float().mean() / posterior.mean[0].numel(),
        }

    def _cropped(self, pixels: Tensor, side: int, *, generator: torch.Generator) -> Tensor:
        """One square of each photo, more often from where the subjects stand than from the sky."""
        room = pixels.shape[-1] - side
        chance = torch.rand(2, len(pixels), generator=generator)
        lefts, tops = (chance[0] * (room + 1)).int(), (chance[1].sqrt() * (room + 1)).int()
        return torch.stack(
            [
                photo[:, top : top + side, left : left + side]
                for photo, top, left in zip(pixels, tops.tolist(), lefts.tolist(), strict=True)
            ]
        )

    def validate(self) -> dict[str, float]:
        with torch.no_grad():
            pixels = pixels_tensor(self.held_out).to(self.module.device) * 2 - 1
            rebuilt = self.module.decode(self.module.encode(pixels).latent_dist.mode()).sample
            return {"dev_psnr": float(-10 * torch.log10(F.mse_loss(rebuilt, pixels) / 4))}


def _opponents(pixels: Tensor) -> Tensor:
    """Red against green and blue against yellow: colour apart from light."""
    red, green, blue = pixels.unbind(1)
    return torch.stack([red - green, blue - (red + green) / 2])


class LabelledVision(nn.Module):
    """A vision encoder with one linear head for each attribute, on the mean of its patches.

    ``at_cls``: on its state at CLS, where that one feature is all that will be read of it.
    """

    def __init__(self, vision: ViTModel, *, at_cls: bool = False) -> None:
        super().__init__()
        self.vision = vision
        self.at_cls = at_cls
        self.heads = _attribute_heads(vision.config.hidden_size)

    def forward(self, pixels_N3HW: Tensor) -> dict[str, Tensor]:
        """Pixels in [0, 1] -> logits (N, options) by attribute."""
        pixels_N3HW = pixels_N3HW.to(self.vision.device)
        states = self.vision(pixel_values=pixels_N3HW * 2 - 1).last_hidden_state
        seen_NC = states[:, 0] if self.at_cls else states[:, 1:].mean(1)
        return {name: head(seen_NC) for name, head in self.heads.items()}


class LabelledPhotoEncoder(nn.Module):
    """A photo encoder with one linear head for each attribute, on the mean of its tokens.

    The tokens are normalised as an LLM's first layer normalises them. So they hold all that the
    encoder sees before an LLM is asked to read them, as the Q-Former of BLIP-2 learns to
    represent photos before it meets its LLM (2301.12597, section 3.2).
    """

    def __init__(self, photo_encoder: QFormerPhotoEncoder) -> None:
        super().__init__()
        self.photo_encoder = photo_encoder
        self.heads = _attribute_heads(photo_encoder.language_width)

    def forward(self, pixels_N3HW: Tensor) -> dict[str, Tensor]:
        """Pixels in [0, 1] -> logits (N, options) by attribute."""
        tokens_NQD = self.photo_encoder(pixels_N3HW).float()
        mean_ND = F.rms_norm(tokens_NQD, tokens_NQD.shape[-1:]).mean(1)
        return {name: head(mean_ND) for name, head in self.heads.items()}


def _attribute_heads(width: int) -> nn.ModuleDict:
    return nn.ModuleDict(
        {name: nn.Linear(width, len(options)) for name, options in ATTRIBUTES.items()}
    )


@dataclass
class VisionTask:
    """Drawn photos to their labels: what stands in for the pretraining of a vision encoder."""

    module: LabelledVision | LabelledPhotoEncoder
    photos: np.ndarray  # uint8 (N, H, W, 3)
    scenes: Sequence[Scene]
    held_out: np.ndarray
    held_out_scenes: Sequence[Scene]

    def __len__(self) -> int:
        return len(self.photos)

    def losses(
        self, indices: Sequence[int], *, generator: torch.Generator, epoch: float
    ) -> dict[str, Tensor]:
        pixels = pixels_tensor(self.photos[list(indices)])
        flip = torch.rand(len(indices), generator=generator) < 0.5
        pixels = torch.where(flip[:, None, None, None], pixels.flip(3), pixels)
        labels_NA = label_scenes([self.scenes[index] for index in indices])
        logits = list(self.module(pixels).values())
        labels_NA = labels_NA.to(logits[0].device)
        losses = [F.cross_entropy(l_NO.float(), labels_NA[:, a]) for a, l_NO in enumerate(logits)]
        return {"labels": torch.stack(losses).mean()}

    def validate(self) -> dict[str, float]:
        with torch.no_grad():
            logits = self.module(pixels_tensor(self.held_out))
        labels_NA = label_scenes(self.held_out_scenes)
        right = {
            f"dev_{name}": float((l_NO.argmax(-1).cpu() == labels_NA[:, a]).float().mean())
            for a, (name, l_NO) in enumerate(logits.items())
        }
        return right


@dataclass
class PainterTask:
    """Captions to photos on cached latents; a caption is written anew at each visit."""

    module: LatentDiffusionPainter
    latents: np.ndarray  # float16 (N, 4, h, w)
    caption: Callable[[int, random.Random], str]  # of the photo of that number
    snr_gamma: float | None = 5.0
    drop_caption: float = 0.1

    def __len__(self) -> int:
        return len(self.latents)

    def losses(
        self, indices: Sequence[int], *, generator: torch.Generator, epoch: float
    ) -> dict[str, Tensor]:
        captions = []
        for index in indices:
            seed = int(torch.randint(2**31, (1,), generator=generator))
            rng = random.Random(seed)
            caption = self.caption(index, rng)
            captions.append("" if rng.random() < self.drop_caption else caption)
        latents = torch.from_numpy(np.stack([self.latents[i] for i in indices])).float()
        latents = latents.to(memory_format=torch.channels_last)
        cond_NSC = self.module.encode_text(captions)
        loss = self.module.latent_loss(
            cond_NSC, latents, generator=generator, snr_gamma=self.snr_gamma
        )
        return {"v": loss}

    def validate(self) -> dict[str, float]:
        return {}


def encode_all(
    painter: LatentDiffusionPainter,
    photos: np.ndarray,
    *,
    batch_size: int = 128,
    told: Callable[[int], None] | None = None,
) -> np.ndarray:
    """The scaled latents (modes) of all photos, float16 (N, 4, h, w)."""
    rows = []
    for start in range(0, len(photos), batch_size):
        pixels = pixels_tensor(photos[start : start + batch_size])
        with mixed_precision(painter.vae.device):
            latents = painter.encode_photos(pixels.to(memory_format=torch.channels_last))
        rows.append(latents.float().cpu().numpy().astype(np.float16))
        if told:
            told(start)
    return np.concatenate(rows)


def latent_scale(vae: AutoencoderKL, photos: np.ndarray) -> tuple[float, float]:
    """(scaling factor, shift) that give the latents of photos zero mean and unit variance."""
    with torch.no_grad():
        latents = vae.encode(pixels_tensor(photos).to(vae.device) * 2 - 1).latent_dist.mode()
    return float(1 / latents.std()), float(latents.mean())


def world_pixels(photo: Photo) -> Tensor:
    """(3, H, W) in [0, 1] of a photo of the world."""
    return to_pixels(photo_image(photo))


def by_length(rows: Sequence[Rendered], parts: int) -> list[list[Rendered]]:
    """The rows in up to ``parts`` groups of like length."""
    ordered = sorted(rows, key=lambda row: len(row.ids))
    size = -(-len(ordered) // parts)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def excerpt(
    renderer: Renderer, dialogue: Dialogue, *, before: int, generator: torch.Generator
) -> Rendered | None:
    """One of the agent's turns that shares a photo or speaks of one, and 1 to ``before`` turns.

    How many is drawn, and the last photo by the user is among them: what is told of it cannot be
    learnt without it. Copying is learnt from near first, and short rows are more rows a second.
    Only what that turn says is trained, and not whether it is a photo: excerpts are chosen for
    their photos, so they would teach to share too often. None where there is no such turn.
    """
    about = [
        k
        for k, turn in enumerate(dialogue.turns)
        if turn.speaker == AGENT and (turn.photos or turn.labels.get("named"))
    ]
    if not about:
        return None
    last = about[int(torch.randint(len(about), (1,), generator=generator))]
    first = last - 1 - int(torch.randint(before, (1,), generator=generator))
    shown = [k for k in range(max(0, last - before), last) if dialogue.turns[k].speaker == USER]
    shown = [k for k in shown if dialogue.turns[k].photos]
    first = max(0, min([first, *shown[-1:]]))
    row = renderer.render_turns(dialogue.turns[first : last + 1])
    opening = max(place.index for place in row.moments)  # the next token is [IMG], or a word
    return dataclasses.replace(
        row,
        labels=[IGNORED] * (opening + 2) + row.labels[opening + 2 :],
        spans=[place for place in row.spans if place.start > opening],
        moments=[],
    )


def words_dropped(
    ids_BT: Tensor, *, model: PhotoDialogueModel, rate: float, generator: torch.Generator
) -> Tensor:
    """The ids with some of the words unreadable, as padding; the marks of turns and photos stay."""
    marks = ids_BT.new_tensor(sorted(model.renderer.special))
    chosen_BT = (torch.rand(ids_BT.shape, generator=generator) < rate).to(ids_BT.device)
    chosen_BT &= ~torch.isin(ids_BT, marks)
    return ids_BT.masked_fill(chosen_BT, model.language.tokenizer.pad_token_id)


@dataclass
class DialogueTask:
    """Dialogues through the whole model, or only its words where ``pixels_of`` is None.

    ``module.renderer`` decides what is trained. With ``swap`` every second visit exchanges the
    speakers. ``excerpts`` is the share of visits that read an excerpt of a dialogue (see
    ``excerpt``): more photos a second, for what is told of them. Examples of which ``excerpt_only``
    holds are always read so: a captioning example would teach to share after every photo.
    ``exercises`` is the share of visits that read ``exercise`` of the index in its place.
    """

    module: PhotoDialogueModel
    dialogue: Callable[[int], Dialogue]
    length: int
    pixels_of: Callable[[Photo], Tensor] | None = None
    swap: Callable[[int], bool] = lambda index: False
    excerpts: float = 0.0
    exercises: float = 0.0
    exercise: Callable[[int], Dialogue] | None = None
    drop_words: float = 0.0  # of the words that are read and not learnt: against learning by heart
    excerpt_only: Callable[[int], bool] = lambda index: False
    # a batch is run in parts of like length: the same losses, less padding; None: 4 on a CPU, and 1
    # on a GPU, which waits for the calls of so small models
    parts: int | None = None
    validate_with: Callable[[PhotoDialogueModel], dict[str, float]] | None = None
    made_pixels_of: Callable[[Photo], Tensor] | None = None  # of photos to make; None: pixels_of
    blocks: Sequence[range] | None = None  # see training/loop.Task
    prefetch: Callable[[Sequence[int]], None] | None = None

    def __len__(self) -> int:
        return self.length

    def losses(
        self, indices: Sequence[int], *, generator: torch.Generator, epoch: float
    ) -> dict[str, Tensor]:
        rows = []
        for index in indices:
            if self.exercise and bool(torch.rand(1, generator=generator) < self.exercises):
                rows.append(self.module.renderer.render(self.exercise(index)))
                continue
            dialogue = self.dialogue(index)
            if self.swap(index) and bool(torch.rand(1, generator=generator) < 0.5):
                dialogue = swap_speakers(dialogue)
            row = None
            if self.excerpt_only(index) or (
                self.excerpts and bool(torch.rand(1, generator=generator) < self.excerpts)
            ):
                row = excerpt(self.module.renderer, dialogue, before=6, generator=generator)
            rows.append(row or self.module.renderer.render(dialogue))
        self.module.bridge.advance(epoch)
        parts = self.parts or (4 if self.module.device.type == "cpu" else 1)
        batches = [
            collate(
                part,
                pad_id=self.module.language.tokenizer.pad_token_id,
                pixels_of=self.pixels_of,
                made_pixels_of=self.made_pixels_of,
                paint=self.module.painter is not None,
            )
            for part in by_length(rows, parts)
        ]
        if self.drop_words:
            batches = [self._dropped(batch, generator) for batch in batches]
        counts = [self.module.loss_counts(batch) for batch in batches]
        sums: dict[str, Tensor] = {}
        for batch, count in zip(batches, counts, strict=True):
            for name, loss in self.module(batch, generator=generator).items():
                share = count[name] / sum(other[name] for other in counts)
                sums[name] = sums.get(name, 0.0) + share * loss
        return sums

    def _dropped(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with some of the words that are not learnt unreadable."""
        ids_BT = words_dropped(
            batch.ids_BT, model=self.module, rate=self.drop_words, generator=generator
        )
        ids_BT = torch.where(batch.labels_BT == IGNORED, ids_BT, batch.ids_BT)
        return dataclasses.replace(batch, ids_BT=ids_BT)

    def validate(self) -> dict[str, float]:
        return self.validate_with(self.module) if self.validate_with else {}


def captioning_example(seed: int) -> Dialogue:
    """A drawn photo with a caption that states everything."""
    scene, caption, _ = captioned_scene(seed, always=ATTRIBUTES)
    labels = {"scene": scene.as_dict()}
    return caption_dialogue(Photo(id=f"photo-{seed}", caption=caption, labels=labels))
