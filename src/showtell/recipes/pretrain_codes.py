"""Photos as codes, for Divter; and a small CLIP, which measures, or ranks what the codes paint."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import VQModel
from transformers import CLIPImageProcessorPil, CLIPTokenizer

from showtell.errors import ConfigError
from showtell.models.folders import from_diffusers
from showtell.models.painter import LatentDiffusionPainter, shrinks
from showtell.models.ranker import ClipRanker
from showtell.models.vq_painter import VqPainter
from showtell.recipes import small
from showtell.recipes.pretrain_base import Work
from showtell.recipes.pretrain_tasks import (
    ContrastiveTask,
    TranslatorTask,
    VqTask,
    codes_of,
    start_codebook,
)
from showtell.runtime import the_device


class CodesWork(Work):
    """The rest of a pretraining."""

    def clip(self, folder: Path | None = None) -> Path:
        """A small CLIP in the transformers layout, as load_clip and ``score --clip`` read it."""
        config, folder = self.config, folder or self.folder
        torch.manual_seed(config.seed)
        train, held = self.encoder_pixels
        words = self.captions()
        tokenizer = small.train_painter_tokenizer(words, vocabulary=config.vocabulary)
        model = small.build_clip(
            tokenizer,
            width=config.width,
            layers=config.layers,
            text_layers=config.text_layers,
            projection=config.projection,
        )
        task = ContrastiveTask(model, train, held, tokenizer, config.least_crop)
        self.run.train(self.stages["contrastive"], task)
        model.save_pretrained(folder)
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
        read = partial(from_diffusers, VQModel, dtype=torch.float32)
        vq = self.run.made("vq", read, partial(self._vq, latents, dev)).to(the_device())
        torch.manual_seed(config.seed)
        tokenizer: CLIPTokenizer = base.text.tokenizer
        painter = VqPainter(
            translator=small.build_translator(
                tokenizer,
                num_codes=config.num_codes,
                positions=config.text_length + 1 + (vq.config.sample_size // shrinks(vq)) ** 2,
                width=config.translator_width,
                layers=config.translator_layers,
            ),
            tokenizer=tokenizer,
            vq=vq,
            vae=base.vae,
            text_length=config.text_length,
            num_samples=config.num_samples if rank is not None else 1,
            rank=rank,
        )
        task = TranslatorTask(
            painter,
            codes_of(painter, latents),
            self.caption,
            codes_of(painter, dev),
            [photo.caption for photo in held],
        )
        self.run.train(self.stages["translator"], task)
        self.folder.mkdir(exist_ok=True)
        painter.save_pretrained(self.folder)
        return self._reported(task.validate(), data=about)

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
