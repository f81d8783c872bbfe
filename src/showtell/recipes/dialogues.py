"""dialogues: any model trained on any data: dialogues, stories or captions, photos from files.

    showtell train dialogues --set data=mmdialog:data/train --set base=runs/parts/model
    showtell train dialogues --set data=shards:data/packed ...      # more than memory holds

What an example is, is the form's (``forms.py``); which photos and words it must have, the model's
(``training/examples.Needs``). What is left out is counted, by reason, in ``out``/data.json and in
the checkpoint's own recipe, together with painted substitutes.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from showtell.config import to_plain
from showtell.data.sources import DataSource, open_data
from showtell.data.storage import write_atomically
from showtell.dialogue import Dialogue
from showtell.metrics.moment import best_threshold
from showtell.models.adapters import (
    LoraConfig,
    PrefixConfig,
    add_lora,
    add_prefix,
)
from showtell.models.checkpoint import save_model
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.gold import described, read_gold
from showtell.papers import DivterConfig, DvtmConfig, GillConfig, PipelineConfig, e2e
from showtell.papers.divter import RATES, WEIGHTS
from showtell.papers.forms import form_named
from showtell.papers.gill import gill_stages
from showtell.papers.minigpt5 import MLS, UAS
from showtell.papers.minigpt5 import PRESETS as VOKENS
from showtell.prompt import Renderer
from showtell.recipes.bridged import BridgeConfig, adapted, with_bridge
from showtell.recipes.tasks import DialogueTask
from showtell.recipes.world_base import StageRunner
from showtell.recipes.world_divter import code_painter
from showtell.training.examples import Examples, Loader, Needs, photo_sides, read_examples
from showtell.training.stage import Stage

_STILL = {"painter.text": 0.0, "painter.vae": 0.0, "captioner": 0.0}
_ALL = {"t": 1.0, "v": 1.0, "moment": 0.5, "caption": 0.5}


@dataclass(frozen=True, kw_only=True)
class Dialogues:
    """One stage on ``data`` (any DATA name) from the parts of ``base`` (a model's name or folder).

    ``bridge`` None keeps the base's own. ``perceive``: photos of the context as the base reads them
    ("as_base"), or as "caption" by the base's own captions of them. ``adapter`` trains the LLM
    through LoRA or a prefix, instead of its own weights. Without ``paint`` the painter rests, and
    words alone are trained. ``swap``: each speaker is the agent on every second visit; None: where
    the data have no agent (PhotoChat, DialogCC, MMDialog).
    ``missing_photos``: error, skip, paint:MODEL, or keep, which leaves out what the model cannot do
    without. ``held_out`` dialogues of the data settle the threshold on P(share) and are not trained
    on. ``threads`` read photos ahead; ``parts``: a batch is run in so many parts of like length.
    """

    data: str = "showtell:data/dialogues.jsonl"
    base: str = "runs/parts/model"
    bridge: BridgeConfig | None = None
    perceive: Literal["as_base", "caption"] = "as_base"
    adapter: Literal["none", "lora", "prefix"] = "none"
    # no dropout: it would draw from a die that a resumed run does not know
    lora: LoraConfig = field(default=LoraConfig(dropout=0.0))
    prefix: PrefixConfig = field(default=PrefixConfig())
    form: str = "dialogue"
    paint: bool = True
    swap: bool | None = None
    missing_photos: str = "skip"
    skip_bad: bool = False
    held_out: int = 200
    threads: int = 2
    parts: int = 1
    seed: int = 0
    stage: Stage = field(
        default=Stage(
            name="dialogues",
            steps=1000,
            batch_size=32,
            learning_rate=5e-5,
            learning_rates=_STILL,
            warmup=100,
            weights=_ALL,
        )
    )


@dataclass(frozen=True, kw_only=True)
class DialoguesDivter(Dialogues):
    """Divter (2110.08515): the painter is that of ``codes``, a model of photo_codes.

    ``pretrained``: whether its translator starts as it is there, or untrained. ``num_samples``:
    photos that are ranked for one caption; None: as ``codes`` has it.
    """

    codes: str = "runs/photo_codes/model"
    pretrained: bool = True
    num_samples: int | None = None


def seeing() -> Dialogues:
    """What sees photos learns from captions, and nothing else moves: for a base of ``parts``."""
    stage = Stage(
        name="seeing",
        steps=20_000,
        batch_size=64,
        learning_rate=1e-4,
        learning_rates={"": 0.0, "photo_encoder": 1.0, "photo_encoder.vision": 0.0},
        warmup=1000,
        decay="cosine",
        weights={"t": 1.0, "moment": 0.0, "caption": 0.0},
    )
    return Dialogues(
        form="captions", data="cc3m:data/cc3m/GCC-training.tsv", paint=False, stage=stage
    )


def end_to_end() -> Dialogues:
    """2408.08650, section 3.1: DVTM, all losses of the paper and no other."""
    return Dialogues(bridge=DvtmConfig(), stage=e2e.PAPER)


def pipeline() -> Dialogues:
    """Its baseline: the same parts and losses, captions as strings, nothing between the parts."""
    config = end_to_end()
    stage = dataclasses.replace(config.stage, name="pipeline")
    return dataclasses.replace(config, bridge=PipelineConfig(), perceive="caption", stage=stage)


def divter() -> DialoguesDivter:
    """Divter, its G and F trained together on such data, at the pipeline's rate and steps."""
    stage = dataclasses.replace(
        pipeline().stage,
        name="divter",
        learning_rates=RATES,
        weights={**pipeline().stage.weights, **WEIGHTS},
    )
    return DialoguesDivter(bridge=DivterConfig(), perceive="caption", stage=stage)


def vokens_alignment() -> Dialogues:
    """MiniGPT-5's first stage, on captions (2310.02239, section 2.3)."""
    return Dialogues(
        bridge=VOKENS["paper"], form="alignment", data="cc3m:data/cc3m", stage=UAS, held_out=0
    )


def vokens_learning() -> Dialogues:
    """Its second stage, on stories or dialogues, from a model of the first."""
    return Dialogues(
        base="runs/vokens_alignment/model",
        adapter="lora",
        form="story",
        data="vist:data/vist/train.story-in-sequence.json",
        stage=MLS,
        held_out=0,
    )


def gill() -> Dialogues:
    """GILL on captions (2305.17216): its two stages as one, whose rate falls by the cosine."""
    first, _ = gill_stages("paper")
    stage = dataclasses.replace(first, steps=2 * first.steps, decay="cosine")
    return Dialogues(
        bridge=GillConfig(), form="caption_pairs", data="cc3m:data/cc3m", stage=stage, held_out=0
    )


VARIANTS: dict[str, Callable[[], Dialogues]] = {
    "dialogues": Dialogues,
    "photo_encoder_captions": seeing,
    "dialogues_end_to_end": end_to_end,
    "dialogues_pipeline": pipeline,
    "dialogues_divter": divter,
    "vokens_alignment": vokens_alignment,
    "vokens_learning": vokens_learning,
    "gill_captions": gill,
}


def run_dialogues(config: Dialogues, *, out: Path, resume: bool, name: str) -> Path:
    """Train from the base and write ``out/model``, and ``out/data.json`` with what was left out.

    Raises CheckpointError for a base that is none, ConfigError, DataError.
    """
    form = form_named(config.form, seed=config.seed)
    source = _source(config, out)
    torch.manual_seed(config.seed)
    model = start_model(config, name=name, source=source)
    painter = model.painter
    if not config.paint:
        model.painter = None
    weights = config.stage.weights
    needs = Needs.of(model, captions=bool(weights.get("cap") or weights.get("g")))
    examples, held = read_examples(
        source, form=form, needs=needs, held_out=config.held_out, told=_said
    )
    passport = _passport(source, examples.counts)
    write_atomically(out / "data.json", (json.dumps(passport, indent=2) + "\n").encode())
    print(_sentence(passport), file=sys.stderr)
    run = StageRunner(out=out, resume=resume, seed=config.seed)
    swap = source.symmetric if config.swap is None else config.swap
    stage = config.stage if config.adapter == "none" else adapted(config.stage, model.language)
    run.run(stage, dialogue_task(model, config, examples, held, swap=swap))
    calibrate(model, held)
    model.painter = painter
    recipe = {"name": name, "config": to_plain(config), "data": passport}
    save_model(model, out / "model", recipe=recipe)
    return out / "model"


def start_model(config: Dialogues, *, name: str, source: DataSource) -> PhotoDialogueModel:
    """The base's parts with bridge, photo encoder and adapter as configured, before training."""
    from showtell.papers import load_model

    painter = None
    if isinstance(config, DialoguesDivter):  # first: it may not be there
        painter = code_painter(
            config.codes,
            pretrained=config.pretrained,
            num_samples=config.num_samples,
            seed=config.seed,
            made_by="photo_codes",
        )
    model = load_model(config.base)
    if config.perceive == "caption" and model.renderer.config.perceive != "caption":
        settings = dataclasses.replace(model.renderer.config, perceive="caption")
        model.renderer = Renderer(model.language.tokenizer, settings)
        model.photo_encoder = None
        model.captioner = load_model(config.base).requires_grad_(False)
        model.captioner.painter = None
    if config.bridge is not None:
        model = with_bridge(model, config.bridge, seed=config.seed)
    if painter is not None:
        model.painter = painter
    torch.manual_seed(config.seed)  # the adapter's first values
    if config.adapter == "lora":
        add_lora(model.language, config.lora)
    elif config.adapter == "prefix":
        add_prefix(model.language, config.prefix)
    model.name = name
    model.card = {"licence": f"trained on {source.name}: {source.licence}"}
    return model


def dialogue_task(
    model: PhotoDialogueModel,
    config: Dialogues,
    examples: Examples,
    held: list[Dialogue],
    *,
    swap: bool,
) -> DialogueTask:
    """The examples, their photos read ahead, at the sizes that the model's parts are made for."""
    blind = model.photo_encoder is None and model.painter is None
    loader = Loader(
        examples,
        sides=None if blind else photo_sides(model),
        perceive=model.photo_encoder is not None,
        paint=model.painter is not None,
        threads=config.threads,
    )
    return DialogueTask(
        model,
        dialogue=loader.dialogue,
        length=len(examples),
        pixels_of=None if blind else loader.seen_pixels,
        made_pixels_of=None if blind else loader.made_pixels,
        swap=lambda index: swap,
        # every caption follows a photo: whether to share one is not learnt from that
        excerpt_only=lambda index: config.form == "captions",
        parts=config.parts,
        blocks=examples.blocks,
        prefetch=loader.prefetch,
        validate_with=lambda trained: held_out_measures(trained, held),
    )


def held_out_measures(model: PhotoDialogueModel, held: list[Dialogue]) -> dict[str, float]:
    """``perplexity`` of the held-out dialogues, while a model is trained."""
    return {"perplexity": read_gold(model, described(model, held)).perplexity} if held else {}


def calibrate(model: PhotoDialogueModel, held: list[Dialogue]) -> None:
    """Set the threshold on P(share) where held-out dialogues have photos to share and others."""
    if not held:
        return
    read = read_gold(model, described(model, held))
    shared_M, p_share_M = read.shared_M[read.later_M], read.p_share_M[read.later_M]
    if any(shared_M) and not all(shared_M):
        threshold = best_threshold(shared_M, p_share_M).threshold
        model.decoding = dataclasses.replace(model.decoding, share_threshold=threshold)


def _source(config: Dialogues, out: Path) -> DataSource:
    if config.missing_photos == "keep":
        return open_data(config.data, skip_bad=config.skip_bad)
    from showtell.evaluation.substitutes import missing_photos

    # packed photos were looked at when they were packed
    decode = not config.data.startswith("shards:")
    policy, paint = missing_photos(config.missing_photos, folder=out / "substitutes", decode=decode)
    return open_data(config.data, skip_bad=config.skip_bad, missing=policy, paint=paint)


def _passport(source: DataSource, counts: Counter[str]) -> dict[str, Any]:
    return {
        "data": source.name,
        "digest": source.digest(),
        "licence": source.licence,
        "counts": {key: value for key, value in counts.items() if value},
        "notes": list(source.notes),
    }


def _sentence(passport: dict[str, Any]) -> str:
    counts = ", ".join(f"{value:,} {key}" for key, value in passport["counts"].items())
    return "; ".join([f"{passport['data']}: {counts}", *passport["notes"]])


def _said(what: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done >= total else ""
        print(f"\r{what} {done:,}\x1b[K", end=end, file=sys.stderr, flush=True)
