"""One experiment, and the one way to run it: parts of a base, what becomes of them, its stages.

    showtell train dialogues --set data=mmdialog:data/train --set base=runs/parts/model
    showtell train world_mini --set stage.steps=200 --set bridge.vocabulary=word

What an example is, is its stage's form (``papers/forms.py``); which photos and words it must have,
the model's (``training/examples.Needs``). What is left out is counted, by reason, in
``out``/data.json and in the checkpoint's own recipe, together with painted substitutes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from showtell.config import to_plain
from showtell.data.sources import DataSource, open_data
from showtell.data.storage import write_atomically
from showtell.dialogue import AGENT, USER, Dialogue
from showtell.errors import ConfigError
from showtell.models.adapters import (
    LoraConfig,
    PrefixConfig,
    add_lora,
    add_prefix,
    require_peft,
)
from showtell.models.checkpoint import save_model
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.parts import BridgeConfig
from showtell.models.photo_encoder import AnyPhotoEncoder
from showtell.papers import load_model
from showtell.papers.forms import Form, as_dialogue, form_named, readable, shares, swap_speakers
from showtell.progress import terminal_progress
from showtell.recipes.assemble import (
    adapted,
    attending,
    code_painter,
    reading_linearly,
    rebuilt,
    start_bridge,
    told_in_captions,
    with_bridge,
)
from showtell.recipes.held import calibrate, measures
from showtell.recipes.retrieve import album_of, decision_head
from showtell.recipes.runs import Run, check_counts
from showtell.runtime import the_device
from showtell.training.dialogue_task import DialogueTask
from showtell.training.examples import Alternating, Loader, Needs, read_examples
from showtell.training.stage import Stage

Load = Callable[..., PhotoDialogueModel]
Watch = Callable[[DialogueTask], DialogueTask]  # what stands in for a stage's task


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A model from the parts of another, trained in stages.

    base: a model's name or folder, whose parts are taken
    data: DATA of the dialogues, stories or captioned photos
    num_dialogues: the first so many of them; none: all
    dev: DATA that settles the threshold on P(share) and measures a stage while it is trained;
        none: dialogues of the data, which are then not trained on
    calibration_dialogues: how many of these; 0 leaves the base's threshold
    validation_dialogues: how many of them measure a stage
    photos: DATA of captioned photos, which start a new mapper and fill the album
    bridge: the paper's: its type chooses the system; none: the base's own
    start_captions: by so many captions a new mapper is started (Bridge.start); 0: as built
    start_dialogues: and by the photos that the agent shares in the data's first so many dialogues
    photo_encoder: as the base has it, or over its vision encoder a new linear map (GILL) or one
        that the LLM attends to by cross_attention (2408.08650 v2); or photos are read as a caption
        by the base's own captioning; none: the LLM knows only that there was a photo
    photo_tokens: of a linear photo encoder (GILL's k); none: as many as the base's
    cross_attention_layers: their numbers among all of the LLM's, new ones included
    learnt: whose turns: the agent's, or those of both speakers (PSDG's release; the finished model
        is the agent's all the same)
    adapter: what joins the LLM before the last stage, which then trains it in the LLM's place
    lora: of a LoRA adapter
    prefix: of a prefix
    painter: the base's, which the finished model keeps; or only for training: the model then shares
        photos of its album; none: photos are words
    codes: a model of world_codes or photo_codes, which paints instead (Divter); none: the base
    pretrained: whether the translator of the codes starts as it is there, or untrained
    num_samples: photos that are ranked for one caption; none: as the codes have it
    album_photos: so many of the photos make an album beside the model
    decision_dialogues: so many of the data, the last, teach to retrieve or to paint; 0: no head
    missing_photos: error, skip, paint:MODEL, or keep, which leaves out what the model cannot do
        without
    skip_bad: whether broken records are left out
    threads: read photos ahead
    card: what a model tells of itself
    seed: starts every die of the run
    stages: in their order; settings call each by its name, the last one also "stage"
    """

    base: str = "runs/parts/model"
    data: str = "showtell:data/dialogues.jsonl"
    num_dialogues: int | None = None
    dev: str | None = None
    calibration_dialogues: int = 200
    validation_dialogues: int = 200
    photos: str | None = None
    bridge: BridgeConfig | None = None
    start_captions: int = 0
    start_dialogues: int = 0
    photo_encoder: Literal["base", "linear", "cross_attention", "caption", "none"] = "base"
    photo_tokens: int | None = None
    cross_attention_layers: tuple[int, ...] = (1, 4)
    learnt: Literal["agent", "both"] = "agent"
    adapter: Literal["none", "lora", "prefix"] = "none"
    lora: LoraConfig = field(default=LoraConfig(dropout=0.0))
    prefix: PrefixConfig = field(default=PrefixConfig())
    painter: Literal["base", "training", "none"] = "base"
    codes: str | None = None
    pretrained: bool = True
    num_samples: int | None = None
    album_photos: int = 0
    decision_dialogues: int = 0
    missing_photos: str = "skip"
    skip_bad: bool = False
    threads: int = 2
    card: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        check_counts(self)
        if self.photo_tokens is not None and (
            self.photo_encoder != "linear" or self.photo_tokens < 1
        ):
            raise ConfigError(
                f"photo_tokens is {self.photo_tokens} with photo_encoder={self.photo_encoder}; it "
                "says how many tokens a linear map makes of a photo, one or more; set "
                "photo_encoder=linear, or leave photo_tokens out"
            )
        if self.start_captions < 0 or self.start_captions == 1:
            raise ConfigError(
                f"start_captions is {self.start_captions}; wanted 2 or more, since a mapper is "
                "started by what differs between them, or 0 to leave it as built"
            )
        if (self.album_photos or self.start_captions) and not self.photos:
            raise ConfigError(
                "an album and the start of a mapper take captioned photos; name some with "
                "photos=DATA, or set album_photos=0 and start_captions=0"
            )
        if self.painter == "training" and self.album_photos < 1:
            raise ConfigError(
                f"album_photos is {self.album_photos} and the model does not paint, so it has no "
                "photo to share; set album_photos=2000"
            )

    @property
    def stage(self) -> Stage:
        """The last one."""
        return self.stages[-1]

    def train(
        self, *, name: str, out: Path, resume: bool, watch: Watch = lambda task: task
    ) -> Path:
        """Train all stages from the base; write ``out/model``, and what was left out of the data.

        Raises CheckpointError for a base that is none, ConfigError, DataError.
        """
        if self.adapter != "none":
            require_peft()  # now, and not after the first stage
        runner = Run(out=out, resume=resume, seed=self.seed)
        own_data = _opened(self, self.data, out=out)
        model = start(self, name=name, licence=f"trained on {own_data.name}: {own_data.licence}")
        painter, renderer = model.painter, model.renderer
        own = renderer.config
        if self.learnt == "both":
            renderer.config = replace(own, speakers=(USER, AGENT))
        passport: dict[str, Any] = {}
        form = form_named(self.stage.form, seed=self.seed)
        held = _first(self.dev, self.calibration_dialogues, form=form)
        for stage in adapted_stages(self, model):
            model.painter = painter if stage.paint else None
            source = own_data if stage.data is None else _opened(self, stage.data, out=out)
            task, passport, others = task_of(model, self, stage, source)
            held = held if self.dev else others
            task.validate_with = partial(
                measures,
                held=held[: self.validation_dialogues],
                wanted=stage.patience_metrics,
                seed=self.seed,
            )
            if source.world is None:
                told = (json.dumps(passport, indent=2) + "\n").encode()
                write_atomically(out / "data.json", told)
                print(_sentence(passport), file=sys.stderr)
            runner.train(stage, watch(task))
        renderer.config = own
        model.painter = painter if self.painter == "base" else None
        if self.album_photos:
            photos = [d.photos[0] for d in _first(self.photos, self.album_photos)]
            album_of(model, photos, folder=out / "album")
            if self.decision_dialogues and model.painter is not None:
                last = open_data(self.data)
                taught = [last[len(last) - k] for k in range(self.decision_dialogues, 0, -1)]
                model.bridge.decision = decision_head(model, photos, taught)
        calibrate(model, held)
        recipe = {"name": name, "config": to_plain(self), "data": passport}
        save_model(model, out / "model", recipe=recipe)
        return out / "model"


# ---------------------------------------------------------------------------------------- parts


def start(
    experiment: Experiment, *, name: str, licence: str = "", load: Load = load_model
) -> PhotoDialogueModel:
    """The base's parts with bridge and photo encoder as configured, before any training.
    ``load`` reads the base."""
    painter = None
    if experiment.codes is not None:  # first: it may not be there
        painter = code_painter(
            experiment.codes,
            pretrained=experiment.pretrained,
            num_samples=experiment.num_samples,
            seed=experiment.seed,
        )
    torch.manual_seed(experiment.seed)
    model = load(experiment.base, dtype=_dtype(experiment))
    if isinstance(model.photo_encoder, AnyPhotoEncoder):
        model.photo_encoder.float()
    if experiment.painter == "none":
        model = rebuilt(model, {"own_pixels": False}, painter=None)
    if experiment.photo_encoder == "none":
        model = rebuilt(model, {"perceive": "nothing"}, photo_encoder=None)
    if experiment.photo_encoder == "caption" and model.renderer.config.perceive != "caption":
        model = told_in_captions(model, load(experiment.base))
    elif experiment.photo_encoder == "linear":
        tokens = experiment.photo_tokens or model.renderer.config.num_photo_tokens
        model = reading_linearly(model, num_tokens=tokens)
    elif experiment.photo_encoder == "cross_attention":
        model = attending(model, layers=experiment.cross_attention_layers)
    before = model
    if experiment.bridge is not None:
        model = with_bridge(model, experiment.bridge, seed=experiment.seed)
    if painter is not None:
        model.painter = painter
    model.name = name
    model.card = dict(experiment.card) or {"licence": licence}
    if model.painter is not None and model.painter.denoises:
        model.painter.unet.to(memory_format=torch.channels_last)  # type: ignore[attr-defined]
    if before.device.type != "meta":  # where sizes alone are asked for
        model = model.to(the_device())  # its new parts too
    if model is not before:  # else its bridge is a trained one
        _started(model, experiment)
    return model


def _started(model: PhotoDialogueModel, experiment: Experiment) -> None:
    """Start the new bridge by captions, each asked for alone, and by photos within dialogues."""
    examples = _first(experiment.photos, experiment.start_captions)
    if experiment.start_dialogues:
        source = open_data(experiment.data)
        read = (source[number] for number in range(min(experiment.start_dialogues, len(source))))
        examples += [example for dialogue in read for example in shares(dialogue)]
    if examples:
        seen = Loader(examples, model, threads=0).seen_pixels
        pixels_of = None if model.photo_encoder is None else seen
        start_bridge(model, examples, pixels_of=pixels_of, seed=experiment.seed)


def adapted_stages(experiment: Experiment, model: PhotoDialogueModel) -> Iterator[Stage]:
    """The stages, one after another, with the rates of this model's layers; before the last the
    adapter joins its LLM."""
    for stage in experiment.stages:
        if stage is experiment.stage and stage.steps:
            stage = _adapted(stage, experiment, model)
        yield _of_layers(stage, experiment.cross_attention_layers)


def _dtype(experiment: Experiment) -> str | None:
    """float32 for an LLM that is itself trained; that of the base for one that stands still."""
    rates = [stage.learning_rates for stage in experiment.stages[:-1]]
    still = experiment.adapter != "none" and all(r.get("language.model") == 0 for r in rates)
    return None if still else "float32"


def _adapted(stage: Stage, experiment: Experiment, model: PhotoDialogueModel) -> Stage:
    """The stage with the adapter that joins the LLM now."""
    torch.manual_seed(experiment.seed)  # the adapter's first values, also when the run is resumed
    if experiment.adapter == "none":
        return stage
    if experiment.adapter == "lora":
        add_lora(model.language, experiment.lora)
    else:
        add_prefix(model.language, experiment.prefix)
    return adapted(stage, model.language)


def _of_layers(stage: Stage, layers: Sequence[int]) -> Stage:
    """The stage whose rates for "{attended}" are those of the LLM's cross-attention layers."""
    rates = {
        key.replace("{attended}", str(layer)): rate
        for key, rate in stage.learning_rates.items()
        for layer in (layers if "{attended}" in key else layers[:1] or (0,))
    }
    return replace(stage, learning_rates=rates)


# ----------------------------------------------------------------------------------------- data


def _opened(experiment: Experiment, data: str, *, out: Path) -> DataSource:
    """The data. In the world no photo is missing; what is packed was looked at then."""
    missing = experiment.missing_photos
    whole = data.startswith(("world:", "shards:")) and not missing.startswith("paint")
    if missing == "keep" or whole:
        return open_data(data)
    from showtell.evaluation.substitutes import missing_photos

    decode = not data.startswith("shards:")
    policy = missing_photos(missing, folder=out / "substitutes", decode=decode)
    return open_data(data, skip_bad=experiment.skip_bad, missing=policy)


def _first(data: str | None, count: int, *, form: Form = as_dialogue) -> list[Dialogue]:
    """The first dialogues of some data, each as one example of its form; none of no data."""
    if data is None or not count:
        return []
    source = open_data(data)
    made = [form(source[number]) for number in range(min(count, len(source)))]
    return [each[number % len(each)] for number, each in enumerate(made) if each]


def task_of(
    model: PhotoDialogueModel, experiment: Experiment, stage: Stage, source: DataSource
) -> tuple[DialogueTask, dict[str, Any], list[Dialogue]]:
    """The task of a stage, what its data hold, and the dialogues held out of them."""
    read: Callable[[str], str] = str
    if model.painter is not None and model.painter.denoises:
        read = partial(readable, tower=model.painter.text)
    form = form_named(stage.form, seed=experiment.seed, read=read)
    model.bridge.unweighted = frozenset(n for n, weight in stage.weights.items() if not weight)
    needs = Needs.of(model, captions=any(stage.weights.get(key) for key in ("cap", "g")))
    examples, held = read_examples(
        source,
        form=form,
        needs=needs,
        limit=experiment.num_dialogues,
        held_out=0 if experiment.dev else experiment.calibration_dialogues,
        told=terminal_progress,
    )
    alternating = None
    if stage.captions is not None:
        shown = open_data(stage.captions)
        photos, _ = read_examples(shown, form=form_named("captions"), needs=needs)
        alternating = Alternating(examples, photos)
    loader = Loader(
        alternating or examples, model, threads=0 if source.world else experiment.threads
    )
    blind = model.photo_encoder is None and model.painter is None
    task = DialogueTask(
        model,
        dialogue=loader.dialogue,
        length=len(examples),
        pixels_of=None if blind else loader.seen_pixels,
        made_pixels_of=None if blind else loader.made_pixels,
        exchanged=swap_speakers if source.symmetric else None,
        excerpts=stage.excerpts,
        # every caption follows a photo: whether to share one is not learnt from that
        excerpt_only=lambda n: stage.form == "captions" or bool(alternating and n % 2),
        drop_words=stage.drop_words,
        blocks=examples.blocks,
        prefetch_with=loader.prefetch,
        data=source.name,
    )
    return task, _passport(source, examples.counts), held


def _passport(source: DataSource, counts: Mapping[str, int]) -> dict[str, Any]:
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
