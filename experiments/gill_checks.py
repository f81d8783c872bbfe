"""GILL's open checks in the photo world: its mapper, tokens, losses, eyes and language model.

    python experiments/gill_checks.py --base runs/world_base/model [--clip ...] [--steps 2000]
        [--language NAME=BASE ...]

In the first table every row is GILL on captioned photos, as published, with one thing changed
(``ABLATIONS`` of the paper): linear or transformer mapper, its width, r tokens, no input
embeddings, the released losses, a painter that trains too; and other language models, each a base
of its own (--language small=BASE, of "showtell train world_base --set start=mini --set
language_layers=2 --set language_width=128", and no steps in its other stages, so that all have one
painter). The second asks what photos in the context give to retrieval, on dialogues: k visual
tokens by a linear map, beside a dual encoder that is made for retrieval (--clip, the model of
"showtell train world_contrastive", asked with the dialogue's words, newest first, or with the gold
caption). Stopped, the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import runner
import torch.nn.functional as F
from runner import AS_BUILT, PHOTO_NOTE, SEED_NOTE, Bench, Row, Rows, Sheet

from showtell.batch import to_image
from showtell.cli.exits import exit_code_of
from showtell.dialogue import AGENT, Dialogue
from showtell.errors import UsageError
from showtell.evaluation.compare import columns_of
from showtell.evaluation.score_runs import Run, rank_scores
from showtell.evaluation.world_gold import Gold
from showtell.metrics.encoders import ClipEncoder
from showtell.metrics.paired import Scores
from showtell.metrics.retrieval import ranks
from showtell.models.checkpoint import model_folder
from showtell.papers.gill import ABLATIONS

NAME, TOKENS = "gill_checks", "gill_tokens"
GILL, ON_DIALOGUES = "GILL", "GILL, on dialogues"
CHECKS = {
    "linear": "linear mapper",
    "width_256": "mapper's width 256",
    "width_512": "mapper's width 512",
    "r_1": "r = 1",
    "r_2": "r = 2",
    "r_4": "r = 4",
    "without_input_embeddings": "without input embeddings",
    "painter_trained": "the painter trains too",
    "release": "as released",
}
DUAL, DUAL_GOLD = "dual encoder, the words so far", "dual encoder, the gold caption"
CAPTIONS, DIALOGUES = "world_gill_captions", "world_gill"
PLAIN = ("album_photos=0",)
ROWS = (
    Row(name=GILL, recipe=CAPTIONS),
    *(Row(name=name, recipe=CAPTIONS, settings=ABLATIONS[key]) for key, name in CHECKS.items()),
    Row(name=AS_BUILT, recipe=CAPTIONS, settings=("start_captions=0",)),
    Row(name=ON_DIALOGUES, recipe=DIALOGUES, settings=PLAIN),
    *(
        Row(
            name=f"k = {k}, a linear map",
            recipe=DIALOGUES,
            settings=(*PLAIN, "photo_encoder=linear", f"photo_tokens={k}"),
        )
        for k in (1, 4, 8)
    ),
)
RETRIEVAL = columns_of("retrieval.r1", "retrieval.r5", "retrieval.r10", "retrieval.mrr")


def words_before_photos(dialogues: Sequence[Dialogue]) -> list[str]:
    """What was said before each of the agent's photos, the newest first: a text encoder drops
    what is too long at the end."""
    return [
        " ".join(e for turn in dialogue.turns[k - 1 :: -1] for e in turn.elements[::-1]
                 if isinstance(e, str))
        for dialogue in dialogues
        for k, turn in enumerate(dialogue.turns)
        if k and turn.speaker == AGENT and turn.photos
    ]  # fmt: skip


def retrieval_scores(clip: ClipEncoder, texts: Sequence[str], gold: Gold) -> dict[str, Scores]:
    """``retrieval.*`` of texts that each look for their own gold photo."""
    photos_NE = clip.photos([to_image(photo) for photo in gold.pixels_N3HW])
    similar_NN = F.normalize(clip.texts(texts), dim=-1) @ F.normalize(photos_NE, dim=-1).mT
    return rank_scores(ranks(similar_NN, range(len(photos_NE))), gold)


def language_rows(named: Sequence[str]) -> list[Row]:
    """A row for each NAME=BASE. Raises UsageError for what is not that."""
    rows = []
    for text in named:
        name, separator, base = text.partition("=")
        if not (name and separator and base):
            raise UsageError(f'--language "{text}": wanted NAME=BASE, a name and a world_base')
        settings = (f"base={model_folder(base).resolve()}",)
        rows.append(Row(name=f"language model: {name}", recipe=CAPTIONS, settings=settings))
    return rows


def of_recipe(bench: Bench, recipe: str) -> list[Row]:
    rows = bench.chosen((*ROWS, *language_rows(bench.options.language)))
    return [row for row in rows if row.recipe == recipe]


def on_captions(bench: Bench) -> Rows:
    rows = of_recipe(bench, CAPTIONS)
    return bench.compared(rows, bench.captions()) if rows else {}


def on_dialogues(bench: Bench) -> Rows:
    """GILL on dialogues, and the dual encoder's two rows where there is one."""
    if not (rows := of_recipe(bench, DIALOGUES)):
        return {}
    found = bench.compared(rows)
    if (clip := bench.readers.clip) is not None:
        gold = Gold(bench.data(), bench.readers)
        captions = [photo.caption for photo in gold.photos]
        for name, texts in ((DUAL, words_before_photos(gold.dialogues)), (DUAL_GOLD, captions)):
            found[name] = [Run(scores=retrieval_scores(clip, texts, gold))]
    return found


def without_clip(bench: Bench) -> Mapping[str, str]:
    return {} if bench.options.clip else dict.fromkeys((DUAL, DUAL_GOLD), "no --clip was named")


SHEETS = (
    Sheet(
        name=NAME,
        title="GILL's open checks, in the photo world",
        columns=(*columns_of("photo.attribute_accuracy_in_dialogue", "photo.kid"), *RETRIEVAL),
        against=GILL,
        rows=on_captions,
        notes=(
            "All rows read the captions of test photos; attributes are those that a caption "
            "states, read by the oracle. Retrieval: the photo of a caption is looked for among "
            "those of all.",
            SEED_NOTE,
            "The first row's mapper has width 128 and r is 8.",
        ),
    ),
    Sheet(
        name=TOKENS,
        title="GILL's visual tokens beside a dual encoder, in the photo world",
        columns=(
            *RETRIEVAL,
            *columns_of("photo.attribute_accuracy_in_dialogue", "text.word_perplexity"),
            *columns_of("moment.f1", "seeing.accuracy"),
        ),
        against=ON_DIALOGUES,
        rows=on_dialogues,
        absent=without_clip,
        notes=(
            PHOTO_NOTE,
            SEED_NOTE,
            "The first row's photos are read by the base's Q-Former, of which the last map moves. "
            "A linear map is new; both stand on the base's vision encoder.",
            "Retrieval: each of the agent's gold photos is looked for among those of all test "
            "dialogues. The gold caption states what a system has to find out.",
        ),
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = runner.parser(__doc__, runs=NAME)
    options.add_argument("--language", action="append", default=[], metavar="NAME=BASE")
    return runner.main(SHEETS, options, arguments)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
