"""A pretraining at work: painter, LM and what sees photos, and the model of them; photos as codes,
for Divter; and a small CLIP, which measures, or ranks what the codes paint."""

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
from diffusers import AutoencoderKL, VQModel
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil

from showtell.config import to_plain
from showtell.data.photos import has_pixels
from showtell.data.sources import DataSource, open_data
from showtell.dialogue import Dialogue, Photo
from showtell.errors import CheckpointError, ConfigError
from showtell.models.checkpoint import model_folder, save_model
from showtell.models.language import LanguageModel
from showtell.models.painter import LatentDiffusionPainter, shrinks
from showtell.models.photo_encoder import QFormerPhotoEncoder, load_photo_encoder
from showtell.models.ranker import ClipRanker
from showtell.models.text_towers import ClipTextTower
from showtell.models.vq_painter import VqPainter
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
)
from showtell.recipes.pretrain import Pretraining
from showtell.recipes.pretrain_tasks import (
    ContrastiveTask,
    Labelled,
    LabelTask,
    PainterTask,
    TranslatorTask,
    VaeTask,
    VqTask,
    codes_of,
    options_of,
    start_codebook,
)
from showtell.recipes.runs import Run
from showtell.runtime import the_device
from showtell.training.dialogue_task import DialogueTask
from showtell.training.examples import square_pixels
from showtell.training.stage import Stage

_SCANNED = 5000  # photos that words and labels are looked up in
_SPOKEN = 6000  # dialogues that words are looked up in
_READ = 32  # tokens of a caption that the translator reads


class Work:
    """A pretraining at work: photos and words are looked up once, parts made in their order."""

    def __init__(self, config: Pretraining, run: Run, *, name: str) -> None:
        self.config, self.run, self.name = config, run, name
        self.stages = {stage.name: stage for stage in config.stages}
        self.folder = run.out / "model"
        self.start: Path | None = None
        if config.start is not None:
            try:
                self.start = model_folder(config.start)
            except CheckpointError as error:
                raise CheckpointError(f"start: {error}") from error

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

    @cached_property
    def pixels(self) -> tuple[PhotoSet, PhotoSet]:
        """The photos to train on and those held out."""
        train, held, _ = self.photos
        cached = partial(cached_pixels, side=small.IMAGE_SIZE, cache=self.run.out / "cache")
        return cached(train), cached(held)

    def latents(self, painter: LatentDiffusionPainter, photos: Sequence[Photo]) -> np.ndarray:
        return cached_latents(painter, photos, cache=self.run.out / "cache")

    def captions(self) -> Iterator[str]:
        """The captions of the first photos: words of a tokenizer."""
        for photo in self.photos[0][:_SCANNED]:
            yield from captions_of(photo)

    def caption(self, index: int, rng: random.Random) -> str:
        """One of the captions of a photo."""
        return rng.choice(captions_of(self.photos[0][index]))

    @cached_property
    def talks(self) -> tuple[DataSource, int]:
        """The dialogues, and how many of them are read."""
        source = open_data(self.config.dialogues)
        return source, min(len(source), self.config.num_dialogues or len(source))

    # --------------------------------------------------------------------------------- painter

    def painter(self) -> LatentDiffusionPainter:
        """The VAE on photos, then text tower and U-Net together on captions."""
        stages = [self.stages[name] for name in ("vae", "vae_whole", "painter")]
        torch.manual_seed(self.config.seed)
        if self.start is not None:
            painter = LatentDiffusionPainter.from_pretrained(self.start / "painter")
            if not any(stage.steps for stage in stages):
                return painter
        else:
            tokenizer = small.train_painter_tokenizer(self.captions())
            painter = LatentDiffusionPainter(
                text=ClipTextTower(small.build_text_tower(tokenizer), tokenizer),
                vae=small.build_vae(),
                unet=small.build_unet(),
                scheduler=small.build_scheduler(),
            )
        self._vae(painter.vae)
        painter.vae.to(the_device()).requires_grad_(False)
        painter.unet.to(memory_format=torch.channels_last)
        latents = self.latents(painter, self.photos[0])
        self.run.train(self.stages["painter"], PainterTask(painter, latents, self.caption))
        return painter

    def _vae(self, vae: AutoencoderKL) -> None:
        """On squares of half the side, then on whole photos."""
        train, held = self.pixels
        vae.to(memory_format=torch.channels_last)
        self.run.train(self.stages["vae"], VaeTask(vae, train, held, crop=small.IMAGE_SIZE // 2))
        self.run.train(self.stages["vae_whole"], VaeTask(vae, train, held))
        pixels = train.seen(range(min(1024, len(train)))).to(vae.device) * 2 - 1
        with torch.no_grad():  # scale and shift that give latents zero mean and unit variance
            latents = vae.encode(pixels).latent_dist.mode()
        scale, shift = float(1 / latents.std()), float(latents.mean())
        vae.register_to_config(scaling_factor=scale, shift_factor=shift)

    # -------------------------------------------------------------------------------- language

    def language(self) -> LanguageModel:
        """The LM on text: dialogues in which photos stand as captions."""
        config, stage = self.config, self.stages["language"]
        torch.manual_seed(config.seed)
        given = None if self.start is None else self.start / "language_model"
        language = None if given is None else LanguageModel.from_pretrained(given)
        source, count = self.talks
        if language is None or config.language_layers or config.language_width:
            if language is None:
                first = (source[number] for number in range(min(_SPOKEN, count)))
                tokenizer = small.train_dialogue_tokenizer(small.words_of(first))
            else:
                tokenizer = language.tokenizer
            layers, width = config.language_layers or 4, config.language_width or 256
            new = small.build_language_model(tokenizer, layers=layers, width=width)
            language = LanguageModel(new, tokenizer)
        settings = RendererConfig(perceive="caption", speakers=("user", "agent"))
        task = DialogueTask(
            words_first(language, settings),
            dialogue=source.__getitem__,
            length=count,
            exchanged=swap_speakers if source.symmetric else None,
            excerpts=stage.excerpts,
        )
        self.run.train(stage, task)
        return language

    # ---------------------------------------------------------------------------------- seeing

    def encoder(self, width: int) -> QFormerPhotoEncoder:
        """What the LLM reads photos by: new, or the one to start from. Its ViT learns labels of
        photos, as others' learn on labelled ones, then the whole does."""
        seed, folder = self.config.seed, None if self.start is None else self.start / "perceptron"
        known = load_photo_encoder(folder) if folder and folder.is_dir() else None
        vision, stage = None if known is None else known.vision, self.stages["vision"]
        if vision is None or stage.steps:
            torch.manual_seed(seed)
            vision = small.build_vision()
            self._labelled(stage, vision)
        torch.manual_seed(seed)
        if isinstance(known, QFormerPhotoEncoder):
            encoder, encoder.vision = known, vision
            if known.language_width != width:
                encoder.project = nn.Linear(encoder.project.in_features, width)
        else:
            encoder = QFormerPhotoEncoder(
                vision=vision,
                qformer=small.build_qformer(vision_width=vision.config.hidden_size),
                num_tokens=small.PHOTO_TOKENS,
                language_width=width,
            )
        self._labelled(self.stages["qformer"], encoder)
        return encoder

    def _labelled(self, stage: Stage, encoder: Any) -> None:
        if not stage.steps:
            return  # then photos need no labels
        train, held = self.pixels
        module = Labelled(encoder, options_of(train.photos[:_SCANNED]))
        self.run.train(stage, LabelTask(module, train, held))

    def model(self) -> Path:
        """The photo encoder with the LM, on dialogues with photos in them and on captions, half and
        half; and the model of all parts."""
        painter = self.painter()
        language = self.language()
        encoder = self.encoder(language.width)
        torch.manual_seed(self.config.seed)
        settings = RendererConfig(num_photo_tokens=encoder.num_tokens)
        model = words_first(language, settings, photo_encoder=encoder, name=self.name)
        model.renderer.has_pixels = lambda photo: "number" in photo.labels or has_pixels(photo)
        (source, count), (train, _) = self.talks, self.pixels
        stage = self.stages["photo_encoder"]

        def dialogue(index: int) -> Dialogue:
            if not index % 2:
                return source[index]
            number = index % len(train)
            # the loop starts torch's own die anew at every step
            told = self.caption(number, random.Random(int(torch.randint(2**31, ()))))
            photo = replace(train.photos[number], caption=told, labels={"number": number})
            return caption_dialogue(photo)

        def pixels_of(photo: Photo) -> Tensor:
            if (number := photo.labels.get("number")) is None:
                return square_pixels(photo, encoder.image_size)
            return train.seen([number])[0]

        task = DialogueTask(
            model,
            dialogue=dialogue,
            length=count,
            pixels_of=pixels_of,
            excerpts=stage.excerpts,
            excerpt_only=lambda index: bool(index % 2),
        )
        self.run.train(stage, task)
        model.painter = painter
        recipe = {"name": self.name, "config": to_plain(self.config)}
        save_model(model, self.folder, recipe=recipe)
        return self.folder

    # ----------------------------------------------------------------------------- codes, CLIP

    def clip(self, folder: Path | None = None) -> Path:
        """A small CLIP in the transformers layout, as load_clip and ``score --clip`` read it."""
        folder = folder or self.folder
        torch.manual_seed(self.config.seed)
        tokenizer = small.train_painter_tokenizer(self.captions())
        task = ContrastiveTask(small.build_clip(tokenizer), *self.pixels, tokenizer)
        self.run.train(self.stages["contrastive"], task)
        task.module.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        CLIPImageProcessorPil(
            size={"height": small.IMAGE_SIZE, "width": small.IMAGE_SIZE},
            do_center_crop=False,
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        ).save_pretrained(folder)
        return self._reported(task.validate(), folder)

    def codes(self) -> Path:
        """V, a VQ model on the latents of the painter's VAE; F, which writes the codes of a
        captioned photo; and a ranker that no measure ever uses."""
        config = self.config
        if self.start is None or not (self.start / "painter").is_dir():
            raise ConfigError(
                f'start is "{config.start}", and codes are of the latents of a painter\'s VAE; '
                "name a model that paints with --set start=PATH"
            )
        base = LatentDiffusionPainter.from_pretrained(self.start / "painter").to(the_device())
        rank = None if config.ranker is None else ClipRanker.from_pretrained(Path(config.ranker))
        if rank is None and (stage := self.stages.get("contrastive")) and stage.steps:
            rank = ClipRanker.from_pretrained(self.clip(self.run.out / "ranker" / "model"))
        base.vae.to(memory_format=torch.channels_last)
        photos, held, about = self.photos
        latents, dev = self.latents(base, photos), self.latents(base, held)
        vq = self._vq(latents, dev).to(the_device())
        torch.manual_seed(config.seed)
        painter = VqPainter(
            translator=small.build_translator(
                base.text.tokenizer,
                num_codes=config.num_codes,
                positions=_READ + 1 + (vq.config.sample_size // shrinks(vq)) ** 2,
                width=config.translator_width,
                layers=config.translator_layers,
            ),
            tokenizer=base.text.tokenizer,
            vq=vq,
            vae=base.vae,
            text_length=_READ,
            num_samples=config.num_samples if rank is not None else 1,
            rank=rank,
        )
        told = [photo.caption for photo in held]
        codes, dev_codes = codes_of(painter, latents), codes_of(painter, dev)
        task = TranslatorTask(painter, codes, self.caption, dev_codes, told)
        self.run.train(self.stages["translator"], task)
        self.folder.mkdir(exist_ok=True)
        painter.save_pretrained(self.folder)
        return self._reported(task.validate(), self.folder, data=about)

    def _vq(self, latents: np.ndarray, dev: np.ndarray) -> VQModel:
        torch.manual_seed(self.config.seed)
        vq = small.build_vq(
            channels=latents.shape[1],
            side=latents.shape[-1],
            num_codes=self.config.num_codes,
            code_width=self.config.code_width,
        )
        start_codebook(vq, latents[:256], seed=self.config.seed)
        self.run.train(self.stages["vq"], VqTask(vq, latents, dev))
        return vq

    def _reported(self, measured: Mapping[str, float], folder: Path, **about: Any) -> Path:
        report = {"recipe": to_plain(self.config), **about, "measures": measured}
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        return folder
