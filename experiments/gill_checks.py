"""GILL's open checks in the photo world: its mapper, tokens, losses, eyes and language model.

    python experiments/gill_checks.py --base runs/world_base/model [--clip ...] [--steps 2000]
        [--language NAME=BASE ...]

In the first table every row is GILL on captioned photos, as published, with one thing changed
(``ABLATIONS`` in ``papers/gill.py``): linear or transformer mapper, its width, r
tokens, no input embeddings, the released losses, a painter that trains too; and other language
models, each a base of its own (--language small=BASE, of "showtell train world_base --set
start=mini --set language_layers=2 --set language_width=128", and no steps in its other stages, so
that all have one painter). The second asks what photos in the context give to
retrieval, on dialogues: k visual tokens by a linear map, beside a dual encoder that is made for
retrieval (--clip, the model of "showtell train world_contrastive", asked with the dialogue's words,
newest first, or with the gold caption). Stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

import torch.nn.functional as F
from _rows import AS_BUILT, Row, about, chosen, parser, settle, write
from e2e_rows import (
    PHOTO_NOTE,
    SEED_NOTE,
    columns_of,
    compared,
    instruments,
    test_captions,
    test_dialogues,
)

from showtell.batch import to_image
from showtell.cli.exits import exit_code_of
from showtell.dialogue import AGENT, Dialogue
from showtell.errors import UsageError
from showtell.evaluation.scored import Gold
from showtell.evaluation.table import NOT_RUN, Cell, cell_of
from showtell.metrics.encoders import ClipEncoder, load_clip
from showtell.metrics.paired import Scores, scores
from showtell.metrics.report import model_digest
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
_PLAIN = ("album_photos=0",)
ROWS = (
    Row(name=GILL, recipe=CAPTIONS),
    *(Row(name=name, recipe=CAPTIONS, settings=ABLATIONS[key]) for key, name in CHECKS.items()),
    Row(name=AS_BUILT, recipe=CAPTIONS, settings=("start_captions=0",)),
    Row(name=ON_DIALOGUES, recipe=DIALOGUES, settings=_PLAIN),
    *(
        Row(
            name=f"k = {k}, a linear map",
            recipe=DIALOGUES,
            settings=(*_PLAIN, "photo_encoder=linear", f"photo_tokens={k}"),
        )
        for k in (1, 4, 8)
    ),
)
RETRIEVAL = columns_of("retrieval.r1", "retrieval.r5", "retrieval.r10", "retrieval.mrr")
COLUMNS = (*columns_of("photo.attribute_accuracy_in_dialogue", "photo.kid"), *RETRIEVAL)
TOKEN_COLUMNS = (
    *RETRIEVAL,
    *columns_of("photo.attribute_accuracy_in_dialogue"),
    *columns_of("text.word_perplexity", "moment.f1", "seeing.accuracy"),
)
NOTES = (
    "All rows read the captions of test photos; attributes are those that a caption states, read "
    "by the oracle. Retrieval: the photo of a caption is looked for among those of all.",
    SEED_NOTE,
    "The first row's mapper has width 128 and r is 8.",
)
TOKEN_NOTES = (
    PHOTO_NOTE,
    SEED_NOTE,
    "The first row's photos are read by the base's Q-Former, of which the last map moves. A linear "
    "map is new; both stand on the base's vision encoder.",
    "Retrieval: each of the agent's gold photos is looked for among those of all test dialogues. "
    "The gold caption states what a system has to find out.",
)


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
    photos_NE = clip.photos([to_image(photo) for photo in gold.photos_N3HW])
    similar_NN = F.normalize(clip.texts(texts), dim=-1) @ F.normalize(photos_NE, dim=-1).mT
    rank_N = ranks(similar_NN, range(len(photos_NE)))
    found = {f"r{k}": rank_N <= k for k in (1, 5, 10)} | {"mrr": 1 / rank_N}
    return {
        f"retrieval.{name}": scores("mean", gold.photo_dialogues, values)
        for name, values in found.items()
    }


def dual_rows(options: argparse.Namespace) -> dict[str, dict[str, Cell]]:
    """The dual encoder's two rows, or why they are not there."""
    if not options.clip:
        absent = Cell(value=None, reason=f"{NOT_RUN}: no --clip was named")
        return {name: {c.name: absent for c in TOKEN_COLUMNS} for name in (DUAL, DUAL_GOLD)}
    clip = load_clip(options.clip)
    _, dialogues = test_dialogues(options)
    gold = Gold(dialogues, instruments(), seed=0)
    asked = {
        DUAL: words_before_photos(dialogues),
        DUAL_GOLD: [order.caption for order in gold.orders],
    }
    nothing = Cell(value=None, reason="it retrieves and does nothing else")
    table = {}
    for name, texts in asked.items():
        found = retrieval_scores(clip, texts, gold)
        cells = {c.name: cell_of(c, [found[c.name]], [], seed=0) for c in RETRIEVAL}
        table[name] = {c.name: nothing for c in TOKEN_COLUMNS} | cells
    return table


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


def main(arguments: Sequence[str] | None = None) -> int:
    found = parser(__doc__, name=NAME)
    found.add_argument("--clip", help='the model of "showtell train world_contrastive"')
    found.add_argument("--language", action="append", default=[], metavar="NAME=BASE")
    options = settle(found.parse_args(arguments))
    rows = chosen((*ROWS, *language_rows(options.language)), options)
    passport = about(options) | {
        "command": f"`python experiments/{NAME}.py {shlex.join(sys.argv[1:])}`",
        "dual encoder": model_digest(options.clip) if options.clip else "none",
    }
    if on_captions := [row for row in rows if row.recipe == CAPTIONS]:
        write(
            compared(on_captions, options, against=GILL, tests=test_captions),
            COLUMNS,
            name=NAME,
            title="GILL's open checks, in the photo world",
            against=GILL,
            notes=NOTES,
            about=passport,
            out=options.out,
        )
    if on_dialogues := [row for row in rows if row.recipe == DIALOGUES]:
        write(
            {**compared(on_dialogues, options, against=ON_DIALOGUES), **dual_rows(options)},
            TOKEN_COLUMNS,
            name=TOKENS,
            title="GILL's visual tokens beside a dual encoder, in the photo world",
            against=ON_DIALOGUES,
            notes=TOKEN_NOTES,
            about=passport,
            out=options.out,
        )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
