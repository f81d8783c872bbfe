"""The comparison of all systems on the photo world, and MiniGPT-5's Table 5 out of it.

    showtell train world_codes --set start=mini --out runs/world_codes        (for Divter's rows)
    python experiments/world_table.py --clip CLIP [--aligned ALIGNED] [--workers 2] [--seeds 0]

Trains every row from one base, with the same data in the same order, steps and decoding, lets each
speak and paint on the same dialogues; examples.png shows the first photos. One seed and 500
dialogues took 82 minutes on 2 cores where a step of the end-to-end model takes 1.2 s; three seeds
and --limit 5500 (over 2,000 photos, for FID and IS) 14 minutes of an H200 and 7 to score.
"sh experiments/papers.sh quick world_table" makes what it needs first. A row that failed is "not
run" in the table, with the reason. Stopped, the same command goes on.

Table 5 of MiniGPT-5 is multi-turn dialogue on MMDialog, beside Divter: IS of the photos, BLEU and
ROUGE-L of the words, MM-Relevance of whole answers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runner import Bench, Row, Rows, Sheet, table

from showtell.batch import to_image
from showtell.cli.exits import exit_code_of
from showtell.data.photos import load_photo
from showtell.evaluation.compare import COLUMNS, columns_of
from showtell.metrics.pictures import contact_sheet, save_picture
from showtell.papers.minigpt5 import ABLATIONS

COMMON = (
    *("stage.batch_size=32", "stage.warmup=40", "stage.ema=0.95", "stage.save_minutes=1"),
    "calibration_dialogues=300",
)
SEEING = ("seeing.steps=500", "seeing.batch_size=32", "seeing.warmup=40")
PIPELINE = "pipeline"
VOKENS = tuple(
    Row(name=name, recipe=recipe, settings=(*COMMON, *settings))
    for name, recipe, settings in (
        ("vokens, LoRA", "world_vokens", ()),
        ("vokens, prefix", "world_vokens_prefix", ()),
        ("vokens, LoRA, described", "world_vokens", ABLATIONS["described"]),
    )
)
DIVTER = tuple(
    Row(name=name, recipe="world_divter", settings=(*COMMON, f"pretrained={pretrained}"))
    for name, pretrained in (("Divter", "true"), ("Divter, translator untrained", "false"))
)
ROWS = (
    Row(name="end-to-end v1", settings=COMMON),
    Row(name="end-to-end v2", recipe="world_v2", settings=(*COMMON, *SEEING)),
    *VOKENS,
    Row(name="GILL", recipe="world_gill", settings=(*COMMON, "album_photos=0")),
    Row(name=PIPELINE, recipe="world_pipeline", settings=COMMON),
    *DIVTER,
    Row(name="text only", recipe="world_text", settings=COMMON),
    Row(name="retrieval only", recipe="world_retrieval", settings=COMMON),
)
EXAMPLES = 8


def most(bench: Bench) -> dict[str, int]:
    return {"most_texts": bench.options.replies, "most_answers": bench.options.answers}


def spoken(bench: Bench, rows: Sequence[Row]) -> Rows:
    return bench.compared(rows, **most(bench))


def examples(bench: Bench, rows: Sequence[Row]) -> Rows:
    """The comparison, and the first of the agent's photos as each system shows them: none is
    picked."""
    found, gold, first = spoken(bench, rows), bench.gold, bench.seeds[0]
    said = {row.name: bench.answers(row, first, **most(bench)) for row in rows}
    shown = {name: a.of("photo") for name, a in said.items() if a.pixels("photo") is not None}
    images, captions = [], []
    for number, photo in enumerate(gold.photos[:EXAMPLES]):
        images.append(to_image(gold.pixels_N3HW[number]))
        captions.append(f"true photo\n{photo.caption}")
        for name, answers in shown.items():
            images.append(load_photo(said[name].folder / answers[number].photos[0]))
            captions.append(f"{name}\n{answers[number].said['caption'] or '(no words)'}")
    if images and not bench.options.worker:
        title = f"the first {min(EXAMPLES, len(gold.photos))} photos of the data, unpicked"
        sheet = contact_sheet(images, captions, columns=1 + len(shown), title=title)
        save_picture(sheet, bench.out / "examples.png")
    return found


SHEETS = (
    Sheet(
        name="world",
        title="The photo world: all systems from one base",
        rows=ROWS,
        columns=COLUMNS,
        against=PIPELINE,
        measure=examples,
        floors=True,
        notes=(
            "Latency was measured while other rows ran beside it, as many as --workers says.",
            "Perplexity is that of the words of the agent's text turns, so that systems with "
            "tokens of their own for photos can stand beside the others; all share one tokenizer.",
            "Similarity, CLIP-I, CLIP-T and MM-Relevance are cosines of a small CLIP trained on "
            "the world's photos and captions, with a seed that no row has; they are not to be "
            "compared with figures of OpenAI's CLIP or of S-BERT.",
            "Photos are each system's own, at the agent's gold photo turns: painted from its own "
            "description, or found by it.",
            "Trained parameters and seconds are those of all stages of the row, alignment too; "
            "what the base's and Divter's codes took before is not counted.",
            "Where the base is the shipped model's parts, which have been trained end to end "
            "before, the end-to-end rows go on with their own training and the others begin "
            "another. Name a true world_base by --base where this is not so.",
        ),
    ),
    Sheet(
        name="minigpt5_table5",
        title="MiniGPT-5, Table 5, in the photo world: multi-turn dialogue",
        rows=(*VOKENS, *DIVTER, *(row for row in ROWS if row.name == PIPELINE)),
        columns=columns_of(
            *("text.psdg.bleu1", "text.psdg.bleu2", "text.psdg.rouge_l", "relevance.f1"),
            *("photo.clip_i", "photo.attribute_accuracy_in_dialogue", "photo.inception_score"),
            *("photo.fid", "photo.kid"),
        ),
        against=PIPELINE,
        measure=spoken,
        notes=(
            "Photos are each row's own, at the agent's gold photo turns; answers are whole ones, "
            "from the first answer with a photo on.",
            'The paper has the first two rows and Divter. "described" keeps the captions of '
            "photos for L_cap in multimodal learning, against the paper.",
        ),
    ),
)
main = table(__file__, __doc__, *SHEETS, steps=450, replies=300, answers=100)

if __name__ == "__main__":
    sys.exit(exit_code_of(main))
