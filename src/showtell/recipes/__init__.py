"""Recipes: one function returns a complete experiment; and the models by name.

world_oracle, world_encoder   the instruments that read photos
world_contrastive             the instrument that holds photos against words
world_base                    what the papers take as pretrained
world_mini                    the end-to-end model (2408.08650) from world_base: shipped as "mini"
world_paper                   the same with the paper's own settings, early stopping included
world_pipeline                its baseline: the same parts, trained apart
world_v2                      its second version, whose LLM attends to photos (Llama-Vision)
world_vokens, _prefix         MiniGPT-5 (2310.02239), with LoRA or a prefix
world_gill                    GILL (2305.17216), which paints or finds a photo in an album
world_retrieval, world_text   it without a painter; words only
world_stories, _prefix        MiniGPT-5 on the world's stories; _text, _painter: its baselines
world_gill_captions, world_long   GILL on captions; the end-to-end model on long dialogues
world_codes                   Divter's image side: photos as codes, and a translator to them
world_divter                  the baseline Divter (2110.08515), its translator trained before or not
parts                         a base put together from folders of transformers and diffusers
dialogues, dialogues_*        any model on any data (DATA of showtell train), photos from files
vokens_*, gill_captions       MiniGPT-5's two stages and GILL's, on their own data
photochat_small               the text side on real dialogues: shipped as "photochat_small"
photochat_retrieval           the dialogue so far finds the photo's description
photos_contrastive, photos_captioner, photos_painter   on real photos; for measurement only
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.config import override
from showtell.errors import CheckpointError, ConfigError, did_you_mean

if TYPE_CHECKING:
    from showtell.models.dialogue_model import PhotoDialogueModel

SHIPPED = Path(__file__).parent.parent / "shipped"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A named experiment: what it trains, how long on 2 CPU cores, its configuration, its run."""

    name: str
    summary: str
    hours: str
    config: Callable[[], Any]
    run: Callable[..., Path]


def _base() -> Any:
    from showtell.recipes.world_base import WorldBase

    return WorldBase()


def _run_base(config: Any, *, out: Path, resume: bool) -> Path:
    from showtell.recipes.world_base import run_world_base

    return run_world_base(config, out=out, resume=resume)


def _mini() -> Any:
    from showtell.recipes.world_dialogue import WorldDialogue

    return WorldDialogue()


def _pipeline() -> Any:
    from showtell.bridges import PipelineConfig
    from showtell.recipes.world_dialogue import WorldDialogue

    base = WorldDialogue()
    return replace(
        base,
        bridge=PipelineConfig(),
        perceptron="caption",
        stage=replace(base.stage, name="pipeline"),
    )


def _paper() -> Any:
    from showtell.recipes.world_dialogue import PAPER

    return PAPER


def _run_dialogue(name: str) -> Callable[..., Path]:
    def run(config: Any, *, out: Path, resume: bool) -> Path:
        from showtell.recipes.world_dialogue import run_world_dialogue

        return run_world_dialogue(config, out=out, resume=resume, name=name)

    return run


def _system(name: str) -> Callable[[], Any]:
    """A configuration of ``world_systems.py`` by its name there."""

    def config() -> Any:
        from showtell.recipes import world_systems

        found = getattr(world_systems, name)
        return found() if isinstance(found, type) else found

    return config


def _run_system(kind: str, name: str) -> Callable[..., Path]:
    def run(config: Any, *, out: Path, resume: bool) -> Path:
        from showtell.recipes import world_systems

        run_kind = getattr(world_systems, f"run_world_{kind}")
        return run_kind(config, out=out, resume=resume, name=name)

    return run


def _codes() -> Any:
    from showtell.recipes.world_codes import WorldCodes

    return WorldCodes()


def _run_codes(config: Any, *, out: Path, resume: bool) -> Path:
    from showtell.recipes.world_codes import run_world_codes

    return run_world_codes(config, out=out, resume=resume)


def _divter() -> Any:
    from showtell.recipes.world_divter import WorldDivter

    return WorldDivter()


def _run_divter(config: Any, *, out: Path, resume: bool) -> Path:
    from showtell.recipes.world_divter import run_world_divter

    return run_world_divter(config, out=out, resume=resume, name="world_divter")


def _photochat() -> Any:
    from showtell.recipes.photochat import PhotochatSmall

    return PhotochatSmall()


def _run_photochat(config: Any, *, out: Path, resume: bool) -> Path:
    from showtell.recipes.photochat import run_photochat_small

    return run_photochat_small(config, out=out, resume=resume)


def _parts() -> Any:
    from showtell.recipes.parts import Parts

    return Parts()


def _run_parts(config: Any, *, out: Path, resume: bool) -> Path:
    from showtell.recipes.parts import run_parts

    return run_parts(config, out=out, resume=resume)


def _dialogues(name: str) -> Callable[[], Any]:
    def config() -> Any:
        from showtell.recipes.dialogues import VARIANTS

        return VARIANTS[name]()

    return config


def _run_dialogues(name: str) -> Callable[..., Path]:
    def run(config: Any, *, out: Path, resume: bool) -> Path:
        from showtell.recipes.dialogues import run_dialogues

        return run_dialogues(config, out=out, resume=resume, name=name)

    return run


_ANY_DATA = {
    "dialogues": "a model trained on any data: dialogues, stories, captions, with photos",
    "perceptron_captions": "what sees photos, from captions alone",
    "dialogues_end_to_end": "2408.08650 on such data, with the paper's settings",
    "dialogues_pipeline": "its pipeline baseline on such data",
    "vokens_alignment": "MiniGPT-5's first stage, on captioned photos",
    "vokens_learning": "MiniGPT-5's second stage, on stories or dialogues",
    "gill_captions": "GILL on captioned photos",
}


def _v2() -> Any:
    from showtell.recipes.world_v2 import WorldV2

    return WorldV2()


def _run_v2(config: Any, *, out: Path, resume: bool) -> Path:
    from showtell.recipes.world_v2 import run_world_v2

    return run_world_v2(config, out=out, resume=resume, name="world_v2")


def _reader(kind: str) -> Callable[[], Any]:
    def config() -> Any:
        from showtell.recipes.world_readers import WorldReader

        return WorldReader(kind=kind, num_steps={"oracle": 3_200, "encoder": 2_200}[kind])

    return config


def _run_reader(config: Any, *, out: Path, resume: bool) -> Path:
    from showtell.recipes.world_readers import run_world_reader

    return run_world_reader(config, out=out, resume=resume)


def _experiment(name: str) -> Callable[[], Any]:
    def config() -> Any:
        from showtell.recipes.world_experiments import VARIANTS

        return VARIANTS[name][0]

    return config


def _run_experiment(name: str) -> Callable[..., Path]:
    def run(config: Any, *, out: Path, resume: bool) -> Path:
        from showtell.recipes.world_experiments import VARIANTS

        return VARIANTS[name][1](config, out=out, resume=resume, name=name)

    return run


_EXPERIMENTS = {
    "world_stories": "MiniGPT-5 on the world's stories: texts and photos, step by step; LoRA",
    "world_stories_prefix": "the same with prefix tuning",
    "world_stories_text": "its baseline: an LLM fine-tuned on the stories' texts",
    "world_stories_painter": "its baseline: a painter fine-tuned on the stories",
    "world_gill_captions": "GILL on captioned photos, as MiniGPT-5's table 6 has it",
    "world_long": "the end-to-end model on dialogues of 20 to 80 turns",
}


def _photochat_retrieval() -> Any:
    from showtell.recipes.photochat_retrieval import PhotochatRetrieval

    return PhotochatRetrieval()


def _run_photochat_retrieval(config: Any, *, out: Path, resume: bool) -> Path:
    from showtell.recipes.photochat_retrieval import run_photochat_retrieval

    return run_photochat_retrieval(config, out=out, resume=resume)


def _photos(name: str) -> Callable[[], Any]:
    """The configuration of ``photos.py`` of that name."""

    def config() -> Any:
        from showtell.recipes import photos

        return getattr(photos, name)()

    return config


def _run_photos(config: Any, *, out: Path, resume: bool) -> Path:
    from showtell.recipes import photos

    kind = type(config).__name__.removeprefix("Photos").lower()
    return getattr(photos, f"run_photos_{kind}")(config, out=out, resume=resume)


def _contrastive() -> Any:
    from showtell.recipes.world_contrastive import WorldContrastive

    return WorldContrastive()


def _run_contrastive(config: Any, *, out: Path, resume: bool) -> Path:
    from showtell.recipes.world_contrastive import run_world_contrastive

    return run_world_contrastive(config, out=out, resume=resume)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="world_oracle",
            summary="the classifier that reads a photo's attributes, for measurement only",
            hours="0.3",
            config=_reader("oracle"),
            run=_run_reader,
        ),
        Recipe(
            name="world_encoder",
            summary="a second, independent reader of attributes",
            hours="0.3",
            config=_reader("encoder"),
            run=_run_reader,
        ),
        Recipe(
            name="world_contrastive",
            summary="a small CLIP of the world: CLIP-I, CLIP-T and retrieval, offline",
            hours="0.4",
            config=_contrastive,
            run=_run_contrastive,
        ),
        Recipe(
            name="world_base",
            summary="VAE, painter, LM and perceptron of the photo world: every other run's start",
            hours="4",
            config=_base,
            run=_run_base,
        ),
        Recipe(
            name="world_mini",
            summary="the end-to-end model of 2408.08650 (Q-Former, LLM, DVTM, latent diffusion)",
            hours="1",
            config=_mini,
            run=_run_dialogue("mini"),
        ),
        Recipe(
            name="world_paper",
            summary="the same with the paper's settings: 5e-5, stops by dev BLEU-2 and FID",
            hours="40, not run",
            config=_paper,
            run=_run_dialogue("world_paper"),
        ),
        Recipe(
            name="world_pipeline",
            summary="its pipeline baseline: captions as strings, parts trained apart",
            hours="1",
            config=_pipeline,
            run=_run_dialogue("world_pipeline"),
        ),
        Recipe(
            name="world_v2",
            summary="2408.08650 v2: the LLM attends to photos by cross-attention (Llama-Vision)",
            hours="1.5, not run",
            config=_v2,
            run=_run_v2,
        ),
        Recipe(
            name="world_vokens",
            summary="MiniGPT-5 (2310.02239): generative vokens, LoRA; two stages",
            hours="1.5, not run",
            config=_system("WorldVokens"),
            run=_run_system("vokens", "world_vokens"),
        ),
        Recipe(
            name="world_vokens_prefix",
            summary="the same with prefix tuning in place of LoRA",
            hours="1.5, not run",
            config=_system("PREFIX"),
            run=_run_system("vokens", "world_vokens_prefix"),
        ),
        Recipe(
            name="world_gill",
            summary="GILL (2305.17216): a frozen LLM whose tokens paint, or search an album",
            hours="0.5, not run",
            config=_system("WorldGill"),
            run=_run_system("gill", "world_gill"),
        ),
        Recipe(
            name="world_retrieval",
            summary="the same without a painter: every photo comes from the album",
            hours="0.5, not run",
            config=_system("RETRIEVAL"),
            run=_run_system("gill", "world_retrieval"),
        ),
        Recipe(
            name="world_text",
            summary="words only: the same dialogues, a photo is what the agent says of it",
            hours="0.5, not run",
            config=_system("TEXT"),
            run=_run_system("text", "world_text"),
        ),
        Recipe(
            name="world_codes",
            summary="Divter's image side: VQ codes of photos, a translator to them, a ranker",
            hours="0.7, not run",
            config=_codes,
            run=_run_codes,
        ),
        Recipe(
            name="world_divter",
            summary="the baseline Divter (2110.08515): descriptions as strings, photos as codes",
            hours="1, not run",
            config=_divter,
            run=_run_divter,
        ),
        *(
            Recipe(
                name=name,
                summary=summary,
                hours="not run",
                config=_experiment(name),
                run=_run_experiment(name),
            )
            for name, summary in _EXPERIMENTS.items()
        ),
        Recipe(
            name="photochat_small",
            summary="dialogue, share moment and photo description on PhotoChat's real dialogues",
            hours="0.5",
            config=_photochat,
            run=_run_photochat,
        ),
        Recipe(
            name="parts",
            summary="a base put together from folders of transformers and diffusers",
            hours="0.1",
            config=_parts,
            run=_run_parts,
        ),
        *(
            Recipe(
                name=name,
                summary=summary,
                hours="not run",
                config=_dialogues(name),
                run=_run_dialogues(name),
            )
            for name, summary in _ANY_DATA.items()
        ),
        Recipe(
            name="photochat_retrieval",
            summary="the dialogue so far finds the photo's description: BM25 + a dual encoder",
            hours="0.1",
            config=_photochat_retrieval,
            run=_run_photochat_retrieval,
        ),
        Recipe(
            name="photos_contrastive",
            summary="a small CLIP of real photos in a folder, from scratch; not shipped",
            hours="0.3",
            config=_photos("PhotosContrastive"),
            run=_run_photos,
        ),
        Recipe(
            name="photos_captioner",
            summary="ViT, Q-Former and LM that caption real photos, from scratch; not shipped",
            hours="1, not run",
            config=_photos("PhotosCaptioner"),
            run=_run_photos,
        ),
        Recipe(
            name="photos_painter",
            summary="a 64-px text-to-photo painter of real photos, from scratch; not shipped",
            hours="6, not run",
            config=_photos("PhotosPainter"),
            run=_run_photos,
        ),
    )
}


def run_recipe(
    name: str, *, overrides: list[str], out: Path | None, resume: bool, seed: int = 0
) -> Path:
    """Train a recipe into ``out`` (``runs/NAME``); the folder of the finished model.

    ``seed`` starts every die of the run.

    Raises ConfigError for a recipe, key or value that does not exist, or when ``out`` already
    holds a run and ``resume`` was not asked for.
    """
    if name not in RECIPES:
        raise ConfigError(f'there is no recipe "{name}"{did_you_mean(name, RECIPES)}')
    recipe = RECIPES[name]
    config = override(replace(recipe.config(), seed=seed), overrides)
    out = out or Path("runs") / name
    if not resume and out.is_dir() and any(out.iterdir()):
        raise ConfigError(
            f'"{out}" already holds files; wanted an empty folder, so that no run is overwritten; '
            "go on with --resume, or choose another --out"
        )
    return recipe.run(config, out=out, resume=resume)


def model_folder(name_or_path: str) -> Path:
    """The folder of a shipped model or of a path. Raises CheckpointError."""
    shipped = SHIPPED / name_or_path
    if name_or_path in ("mini", "photochat_small") and shipped.is_dir():
        return shipped
    path = Path(name_or_path)
    for candidate in (path, path / "model"):
        if (candidate / "showtell.json").is_file():
            return candidate
    if path.is_dir():
        raise CheckpointError(
            f'"{path}" is not a model: it has no showtell.json; wanted a folder that '
            '"showtell train" has written'
        )
    known = sorted(p.parent.name for p in SHIPPED.glob("*/showtell.json"))
    raise CheckpointError(
        f'there is no model "{name_or_path}"{did_you_mean(name_or_path, known) if known else ""}; '
        'wanted a shipped model or a folder that "showtell train" wrote; see "showtell recipes"'
    )


def load_model(name_or_path: str) -> PhotoDialogueModel:
    """A shipped model by name, or a model folder. Raises CheckpointError."""
    folder = model_folder(name_or_path)
    from showtell.recipes.world_dialogue import load_folder

    return load_folder(folder)
