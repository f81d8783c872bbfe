"""A step of GILL whose frozen encoders stand in the loop, and with their features kept.

    python benchmarks/bench_features.py [--photos 64] [--batch 16] [--epochs 3] [--threads 1]

An LLM of 512 x 6 layers and 50,257 tokens that stands still, CLIP ViT-B/32's and Stable Diffusion
1.5's text encoder in size, random weights; captions of the drawn world as (photo, caption) pairs.
The first epoch fills the folder; the figure is the median step of the epochs after it, against
that of as many epochs without a folder, in the same process. Seconds are its own (CPU), so
that others at work on the machine count little; with one thread they are those of a quiet core.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from showtell.data.sources import open_data
from showtell.models.language import LanguageModel
from showtell.models.painter import LatentDiffusionPainter
from showtell.models.photo_encoder import LinearPhotoEncoder
from showtell.models.text_towers import ClipTextTower
from showtell.papers.forms import form_named
from showtell.papers.gill import STAGE, GillConfig
from showtell.prompt import RendererConfig
from showtell.recipes import small
from showtell.recipes.assemble import with_bridge, words_first
from showtell.recipes.hub_parts import with_marks
from showtell.recipes.published_sizes import stand_in_tokenizer
from showtell.training.dialogue_task import DialogueTask
from showtell.training.examples import square_pixels
from showtell.training.loop import run_stage
from showtell.training.stage import Stage


class Timed(DialogueTask):
    """Writes down when each step began."""

    def advance(self, epoch: float, *, of: float) -> None:
        super().advance(epoch, of=of)
        self.__dict__.setdefault("began", []).append(time.process_time())


def built(captions: Sequence[str]) -> Timed:
    torch.manual_seed(0)
    words = small.train_dialogue_tokenizer(captions, vocabulary=2000)
    llm = LlamaConfig(
        vocab_size=50_257,
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=6,
        num_attention_heads=8,
    )
    words.add_tokens([f"w{number}" for number in range(50_257 - len(words))])
    language = LanguageModel(LlamaForCausalLM(llm), words)
    with_marks(language, seed=0)
    eyes = LinearPhotoEncoder(
        vision=CLIPVisionModel(CLIPVisionConfig()), num_tokens=4, language_width=512
    )
    text = CLIPTextConfig(
        vocab_size=49_408,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
    )
    pieces = stand_in_tokenizer(text.vocab_size)
    pieces.pad_token = pieces.eos_token
    tower = ClipTextTower(CLIPTextModel(text), pieces)
    painter = LatentDiffusionPainter(
        text=tower,
        vae=small.build_vae(),
        unet=small.build_unet(),
        scheduler=small.build_scheduler(),
    )
    settings = RendererConfig(num_photo_tokens=4)
    model = words_first(language, settings, photo_encoder=eyes, painter=painter)
    model = with_bridge(model, GillConfig(), seed=0)
    source, form = open_data("world:photos:train"), form_named("caption_pairs", seed=0)
    made = [example for number in range(len(captions)) for example in form(source[number])]
    pixels = partial(square_pixels, side=224)
    return Timed(model, dialogue=made.__getitem__, length=len(made), pixels_of=pixels)


def steps_of(task: Timed, stage: Stage, *, skipped: int) -> list[float]:
    """CPU seconds of each step, the first ``skipped`` left out."""
    task.__dict__["began"] = []
    with tempfile.TemporaryDirectory() as out:
        run_stage(stage, task, out=Path(out), resume=False)
    began = [*task.__dict__["began"], time.process_time()]
    return [b - a for a, b in zip(began, began[1:], strict=False)][skipped:-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("photos", 64), ("batch", 16), ("epochs", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    source = open_data("world:photos:train")
    task = built([source[number].photos[0].caption for number in range(asked.photos)])
    epoch = len(task) // asked.batch
    with tempfile.TemporaryDirectory() as kept:
        found = {}
        for name, folder in (("encoders in the loop", None), ("features kept", kept)):
            stage = Stage(
                **{
                    **STAGE.__dict__,
                    "steps": epoch * asked.epochs,
                    "batch_size": asked.batch,
                    "features": folder,
                }
            )
            found[name] = steps_of(task, stage, skipped=epoch)
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    spread = {name: [round(min(s), 3), round(max(s), 3)] for name, s in found.items()}
    first, second = medians.values()
    told = {"cpu_seconds_a_step": medians, "spread": spread, "times": round(first / second, 2)}
    print(json.dumps({**vars(asked), "steps": {n: len(s) for n, s in found.items()}, **told}))


if __name__ == "__main__":
    main()
