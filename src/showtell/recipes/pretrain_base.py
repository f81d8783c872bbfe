"""A pretraining at work: painter, LM and what sees photos, and the model of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPModel, ViTModel

from showtell.config import to_plain
from showtell.data.photos import has_pixels
from showtell.data.sources import DataSource, open_data
from showtell.dialogue import Dialogue, Photo
from showtell.errors import CheckpointError
from showtell.models.checkpoint import model_folder, save_model
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.folders import from_diffusers
from showtell.models.language import LanguageModel
from showtell.models.painter import ClipTextTower, LatentDiffusionPainter
from showtell.models.photo_encoder import (
    LinearPhotoEncoder,
    QFormerPhotoEncoder,
    load_photo_encoder,
)
from showtell.papers.forms import caption_dialogue, swap_speakers
from showtell.prompt import RendererConfig
from showtell.recipes import small
from showtell.recipes.assemble import words_first
from showtell.recipes.photo_sets import (
    OnDemand,
    PhotoSet,
    cached_latents,
    cached_pixels,
    captions_of,
    choose_photos,
    pixels_tensor,
    random_crops,
)
from showtell.recipes.pretrain import Pretraining
from showtell.recipes.pretrain_tasks import Labelled, LabelTask, PainterTask, VaeTask, options_of
from showtell.recipes.runs import Run
from showtell.runtime import the_device
from showtell.training.dialogue_task import DialogueTask
from showtell.training.examples import square_pixels
from showtell.training.stage import Stage

_SCANNED = 5000  # photos that words and labels are looked up in


class Work:
    """A pretraining at work: photos and words are looked up once, parts made in their order."""

    def __init__(self, config: Pretraining, run: Run, *, name: str) -> None:
        self.config, self.run, self.name = config, run, name
        self.stages = {stage.name: stage for stage in config.stages}
        self.folder = run.out / "model"
        self.start = None if config.start is None else _start_folder(config.start)

    # ------------------------------------------------------------------------------------ data

    @cached_property
    def photos(self) -> tuple[Sequence[Photo], Sequence[Photo], dict[str, Any]]:
        """(photos to train on, photos held out, what a report says of them)."""
        source = open_data(self.config.photos)
        count, held_out = self.config.num_photos, self.config.num_held
        if self.config.held is not None:
            shown = OnDemand(open_data(self.config.held), held_out)
            return OnDemand(source, count or len(source)), shown, {}
        photos, held = choose_photos(source, num_photos=count, held_out=held_out)
        about = {"name": source.name, "digest": source.digest(), "licence": source.licence}
        return photos, held, {**about, "photos": len(photos), "held_out": len(held)}

    def pixels(self, side: int) -> tuple[PhotoSet, PhotoSet]:
        """The photos to train on and those held out, at a side."""
        train, held, _ = self.photos
        cache = self.run.out / "cache"
        return tuple(cached_pixels(photos, side=side, cache=cache) for photos in (train, held))  # type: ignore[return-value]

    @property
    def encoder_pixels(self) -> tuple[PhotoSet, PhotoSet]:
        """For encoders: larger, where they see crops of them."""
        side = small.IMAGE_SIZE
        return self.pixels(side if self.config.least_crop == 1 else side * 5 // 4)

    def latents(self, painter: LatentDiffusionPainter, photos: Sequence[Photo]) -> np.ndarray:
        cache, threads = self.run.out / "cache", self.config.threads
        mirrored = self.config.mirrored
        return cached_latents(painter, photos, mirrored=mirrored, threads=threads, cache=cache)

    def captions(self) -> Iterator[str]:
        """The captions of the first photos: words of a tokenizer."""
        photos = self.photos[0]
        for number in range(min(_SCANNED, len(photos))):
            yield from captions_of(photos[number])

    def caption(self, index: int, rng: random.Random) -> str:
        """One of the captions of a photo, or of a mirror image, which follow the photos."""
        photos = self.photos[0]
        return rng.choice(captions_of(photos[index % len(photos)]))

    # --------------------------------------------------------------------------------- painter

    def only_painter(self) -> Path:
        """The painter in the diffusers layout."""
        self.painter().save_pretrained(self.folder)
        return self._reported({})

    def painter(self) -> LatentDiffusionPainter:
        """The VAE on photos, then text tower and U-Net together on captions."""
        stages = [self.stages[name] for name in ("vae", "vae_whole", "painter")]
        torch.manual_seed(self.config.seed)
        if self.start and not any(stage.steps for stage in stages):
            return LatentDiffusionPainter.from_pretrained(self.start / "painter")
        return self.run.made("painter", LatentDiffusionPainter.from_pretrained, self._painter)

    def _painter(self) -> LatentDiffusionPainter:
        if self.start is not None:
            painter = LatentDiffusionPainter.from_pretrained(self.start / "painter")
        else:
            words = self.captions()
            tokenizer = small.train_painter_tokenizer(words, vocabulary=self.config.vocabulary)
            painter = LatentDiffusionPainter(
                text=ClipTextTower(small.build_text_tower(tokenizer), tokenizer),
                vae=small.build_vae(),
                unet=small.build_unet(),
                scheduler=small.build_scheduler(),
            )
        read = partial(from_diffusers, AutoencoderKL, dtype=torch.float32)
        painter.vae = self.run.made("vae", read, partial(self._vae, painter.vae))
        painter.vae.to(the_device(), memory_format=torch.channels_last).requires_grad_(False)
        painter.unet.to(memory_format=torch.channels_last)
        latents = self.latents(painter, self.photos[0])
        self.run.train(self.stages["painter"], PainterTask(painter, latents, self.caption))
        return painter

    def _vae(self, vae: AutoencoderKL) -> AutoencoderKL:
        """On squares of half the side, then on whole photos."""
        train, held = self.pixels(small.IMAGE_SIZE)
        vae.to(memory_format=torch.channels_last)
        self.run.train(self.stages["vae"], VaeTask(vae, train, held, crop=small.IMAGE_SIZE // 2))
        self.run.train(self.stages["vae_whole"], VaeTask(vae, train, held))
        pixels = pixels_tensor(train.pixels[:1024]).to(vae.device) * 2 - 1
        with torch.no_grad():  # scale and shift that give latents zero mean and unit variance
            latents = vae.encode(pixels).latent_dist.mode()
        scale, shift = float(1 / latents.std()), float(latents.mean())
        vae.register_to_config(scaling_factor=scale, shift_factor=shift)
        return vae

    # -------------------------------------------------------------------------------- language

    @cached_property
    def talks(self) -> tuple[list[DataSource], list[int]]:
        """The sources of dialogues, and how many of each are read."""
        sources = [open_data(name) for name in (self.config.dialogues or "").split(" + ") if name]
        counts = [len(source) for source in sources]
        counts[:1] = [min(count, self.config.num_dialogues or count) for count in counts[:1]]
        return sources, counts

    def language(self) -> LanguageModel:
        """The LM on text: dialogues in which photos stand as captions."""
        stage = self.stages.get("language")
        torch.manual_seed(self.config.seed)
        given = self.start if self.start and (self.start / "language_model").is_dir() else None
        resized = self.config.language_layers or self.config.language_width
        language = (
            None if given is None else LanguageModel.from_pretrained(given / "language_model")
        )
        if language is None or resized:
            tokenizer = self._tokenizer() if language is None else language.tokenizer
            layers, width = self.config.language_layers or 4, self.config.language_width or 256
            new = small.build_language_model(tokenizer, layers=layers, width=width)
            language = LanguageModel(new, tokenizer)
        if stage is None or not (stage.steps or resized):
            return language
        return self.run.made(
            "language", LanguageModel.from_pretrained, partial(self._talking, language, stage)
        )

    def _tokenizer(self) -> Any:
        sources, counts = self.talks
        if not sources:
            words = (" " + caption for caption in self.captions())
            return small.train_dialogue_tokenizer(words, vocabulary=self.config.vocabulary)
        return small.train_dialogue_tokenizer(
            small.words_of(
                source[number]
                for source, count in zip(sources, counts, strict=True)
                for number in range(min(6000, count))
            )
        )

    def _talking(self, language: LanguageModel, stage: Stage) -> LanguageModel:
        sources, counts = self.talks
        settings = RendererConfig(perceive="caption", speakers=("user", "agent"))
        model = words_first(language, settings)

        def dialogue(index: int) -> Dialogue:
            chosen = 0
            while index >= counts[chosen]:
                index, chosen = index - counts[chosen], chosen + 1
            source = sources[chosen]
            # who is the agent, where neither is: the loop starts torch's own die at every step
            swap = source.symmetric and bool(torch.rand(()) < 0.5)
            return swap_speakers(source[index]) if swap else source[index]

        task = DialogueTask(model, dialogue=dialogue, length=sum(counts), excerpts=stage.excerpts)
        self.run.train(stage, task)
        return language

    # ---------------------------------------------------------------------------------- seeing

    def vision(self) -> Any:
        """The photo encoder's ViT on labels of photos, as others' are on labelled ones."""
        if self.start is not None and (self.start / "perceptron").is_dir():
            known = load_photo_encoder(self.start / "perceptron").vision
            if not self.stages["vision"].steps:
                return known
        elif self.start is not None:
            return CLIPModel.from_pretrained(
                self.start, use_safetensors=True, local_files_only=True
            ).vision_model
        if "vision" not in self.stages:
            return small.build_vision()

        def make() -> ViTModel:
            torch.manual_seed(self.config.seed)
            vision = small.build_vision()
            at_cls = self.config.reader == "linear"
            self._labelled(self.stages["vision"], vision, at_cls=at_cls)
            return vision

        read = partial(ViTModel.from_pretrained, use_safetensors=True, add_pooling_layer=False)
        return self.run.made("vision", read, make)

    def encoder(self, width: int) -> LinearPhotoEncoder | QFormerPhotoEncoder:
        """What the LLM reads photos by: new, or the one to start from."""
        stage, tokens = self.stages.get("qformer"), self.config.num_photo_tokens
        folder = None if self.start is None else self.start / "perceptron"
        known = load_photo_encoder(folder) if folder and folder.is_dir() else None
        if self.config.reader == "linear":
            fits = isinstance(known, LinearPhotoEncoder) and known.language_width == width
            if fits and not self.stages["vision"].steps:
                return known  # type: ignore[return-value]
            vision = self.vision()
            torch.manual_seed(self.config.seed)
            return LinearPhotoEncoder(vision=vision, num_tokens=tokens, language_width=width)

        def make() -> QFormerPhotoEncoder:
            vision = self.vision()
            torch.manual_seed(self.config.seed)
            if isinstance(known, QFormerPhotoEncoder):
                encoder, encoder.vision = known, vision
                if known.language_width != width:
                    encoder.project = nn.Linear(encoder.project.in_features, width)
            else:
                encoder = QFormerPhotoEncoder(
                    vision=vision,
                    qformer=small.build_qformer(vision_width=vision.config.hidden_size),
                    num_tokens=tokens,
                    language_width=width,
                )
            if stage is not None and stage.steps:
                self._labelled(stage, encoder)
            return encoder

        if stage is None or not stage.steps:
            return make()
        return self.run.made("qformer", load_photo_encoder, make)

    def _labelled(self, stage: Stage, encoder: Any, *, at_cls: bool = False) -> None:
        train, held = self.encoder_pixels
        shown = [train.photos[number] for number in range(min(_SCANNED, len(train)))]
        module = Labelled(encoder, options_of(shown), at_cls=at_cls)
        self.run.train(stage, LabelTask(module, train, held, small.IMAGE_SIZE))

    def model(self) -> Path:
        """The photo encoder by captioning, and, where there are dialogues, by these with photos in
        them, half and half."""
        painter = self.painter() if "painter" in self.stages else None
        language = self.language()
        encoder = self.encoder(language.width)
        torch.manual_seed(self.config.seed)
        sources, counts = self.talks
        settings = RendererConfig(
            num_photo_tokens=self.config.num_photo_tokens, own_pixels=bool(sources)
        )
        model = words_first(language, settings, photo_encoder=encoder, name=self.name)
        model.renderer.has_pixels = lambda photo: "number" in photo.labels or has_pixels(photo)
        train, held = self.encoder_pixels
        stage = self.stages["photo_encoder"]

        def dialogue(index: int) -> Dialogue:
            if sources and not index % 2:
                return sources[0][index]
            number, rng = index % len(train), random.Random(int(torch.randint(2**31, ())))
            return shown(train, number, self.caption(number, rng))

        def pixels_of(photo: Photo) -> Tensor:
            if (number := photo.labels.get("number")) is None:
                return square_pixels(photo, encoder.image_size)
            if self.config.least_crop == 1:
                return train.seen([number], side=encoder.image_size)[0]
            whole, least = pixels_tensor(train.pixels[[number]]), self.config.least_crop
            # the loop starts torch's own die anew at every step
            return random_crops(whole, side=encoder.image_size, least=least, generator=None)[0]

        task = DialogueTask(
            model,
            dialogue=dialogue,
            length=counts[0] if sources else len(train),
            pixels_of=pixels_of,
            excerpts=stage.excerpts,
            excerpt_only=lambda index: not sources or bool(index % 2),
            validate_with=partial(_held_nll, held=held),
        )
        self.run.train(stage, task)
        model.painter = painter
        recipe = {"name": self.name, "config": to_plain(self.config)}
        save_model(model, self.folder, recipe=recipe)
        return self.folder

    def _reported(
        self, measured: Mapping[str, float], folder: Path | None = None, **about: Any
    ) -> Path:
        folder = folder or self.folder
        report = {"recipe": to_plain(self.config), **about, "measures": measured}
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        return folder


def shown(photos: PhotoSet, number: int, caption: str) -> Dialogue:
    """A photo of the set by the user, answered by a caption of it."""
    photo = photos.photos[number]
    return caption_dialogue(replace(photo, caption=caption, labels={"number": number}))


@torch.no_grad()
def _held_nll(model: PhotoDialogueModel, *, held: PhotoSet) -> dict[str, float]:
    """The mean negative log-likelihood of a token of the held-out photos' first captions."""
    side = model.seen_side or 0
    task = DialogueTask(
        model,
        dialogue=lambda n: shown(held, n, captions_of(held.photos[n])[0]),
        length=len(held),
        pixels_of=lambda photo: held.seen([photo.labels["number"]], side=side)[0],
        excerpt_only=lambda n: True,
    )
    losses = task.losses(range(len(held)), generator=torch.Generator().manual_seed(0))
    return {"held_out_nll": float(losses["t"])}


def _start_folder(start: str) -> Path:
    """A model's folder, or that of a CLIP. Raises CheckpointError."""
    if (Path(start) / "config.json").is_file():
        return Path(start)
    try:
        return model_folder(start)
    except CheckpointError as error:
        raise CheckpointError(f"start: {error}") from error
