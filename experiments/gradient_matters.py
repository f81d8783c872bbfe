"""Does the gradient through the bridge of 2408.08650 matter? The paper does not ask.

    python experiments/gradient_matters.py --base runs/world_base/model [--steps N] [--seeds 0,1]

Rows: how finely the vocabulary transformation speaks (none, static, sentence, word, aligned, soft),
the caption fed to the denoiser (gold, predicted), Gumbel noise (on, off). All else is alike; in
"none" the painter learns from the captions and the LLM hears nothing of it. Four things are held
against it:

    numbers     how many independent numbers a caption sends back to the LLM: the rank of all
                gradients at its logits that any gradient at the painter's conditioning can give
    d L_v       of the gradient of one photo loss at a caption's logits, (K, V): its rank, and how
                many rows and columns are not zero
    norm        of that gradient at logits and states, while it is trained, beside that of the whole
    text, photo words and photos of the trained model

Without "none", 2408.08650's gain could come of the joint training of LLM and photo_encoder alone.
Writes gradient_matters.md, .json and .png (norms over training). A day and more on two cores;
stopped, the same command goes on. --only and fewer --seeds make it shorter.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import runner
import torch
from gradient_watch import WatchedTask, watched_run
from jobs import slug, tell
from runner import PHOTO_NOTE, SEED_NOTE, Bench, Row, Rows, Sheet, kept
from torch import Tensor

from showtell.batch import collate
from showtell.cli.exits import exit_code_of
from showtell.config import override
from showtell.dialogue import Dialogue
from showtell.evaluation.compare import Column, columns_of
from showtell.metrics.paired import Scores
from showtell.metrics.pictures import save_picture
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.parts import PhotoSpans
from showtell.papers import load_model
from showtell.papers.e2e import Dvtm
from showtell.recipes.registry import RECIPES
from showtell.runtime import the_device
from showtell.training.examples import square_pixels

NAME = "gradient_matters"
NONE = "none, gold"


def _rows() -> tuple[Row, ...]:
    """Granularity x caption x noise, less what is the same: gold captions without a matrix draw no
    noise, and "soft" reads no caption."""
    granularities = ("none", "static", "sentence", "word", "aligned", "soft")
    rows = []
    for vocabulary, fed, noise in product(granularities, ("gold", "predicted"), (True, False)):
        same = (vocabulary, fed) == ("soft", "predicted")
        if same or (vocabulary, fed, noise) == ("none", "gold", False):
            continue
        name = vocabulary if vocabulary == "soft" else f"{vocabulary}, {fed}"
        bridge = {"vocabulary": vocabulary, "caption_for_denoiser": fed, "gumbel": noise}
        settings = tuple(f"bridge.{key}={value}".lower() for key, value in bridge.items())
        rows.append(Row(name=name if noise else f"{name}, no noise", settings=settings))
    return tuple(rows)


ROWS = _rows()
HEADS = {
    "what a caption sends back": {
        "numbers": "numbers, tau 1",
        "numbers_cold": "numbers, final tau",
        "rank": "rank",
        "rows": "rows",
        "columns": "columns",
    },
    "the gradient while it is trained": {
        "logits": "at logits",
        "states": "at states",
        "share": "of the whole",
    },
}
GRADIENT = tuple(
    Column(name=f"gradient.{name}", head=head, group=group, higher_is_better=None, unit="")
    for group, heads in HEADS.items()
    for name, head in heads.items()
)
COLUMNS = (
    *GRADIENT,
    *columns_of(
        "text.psdg.bleu1",
        "text.psdg.bleu2",
        "text.word_perplexity",
        "moment.f1",
        "photo.attribute_accuracy_in_dialogue",
        "photo.kid_encoder",
    ),
)
NOTES = (
    PHOTO_NOTE,
    SEED_NOTE,
    "Numbers: singular values above 1e-8 of the largest, of gradients at the logits for random "
    "gradients at the conditioning, on the base, in float64; no more can be seen than were drawn. "
    "Captions are those of the test dialogues' photos. The softmax smears a gradient over all of "
    "the vocabulary, so rank, rows and columns (above 1e-6 of the largest) of one gradient at the "
    "logits tell less than the numbers.",
    "Norms: of alpha dL_v at the logits of a batch's captions and the states that these are made "
    "of, the mean over the steps recorded; of the whole: the latter by the norm of all losses' "
    "gradient at all states.",
    "Intervals of numbers, ranks, rows and columns are over captions; those of norms are absent.",
)


# ------------------------------------------------------------------------- what a caption sends


@torch.no_grad()
def spans_of(
    model: PhotoDialogueModel, dialogues: Sequence[Dialogue]
) -> list[tuple[PhotoSpans, Tensor]]:
    """Each of the agent's photos as the LLM announces it, alone and without padding, its logits in
    float64; and its pixels (1, 3, H, W)."""
    found = []
    for dialogue in dialogues:
        row = model.renderer.render(dialogue)
        if not row.spans:
            continue
        pad_id = model.language.tokenizer.pad_token_id
        batch = collate([row], pad_id=pad_id, pixels_of=partial(square_pixels, side=64), paint=True)
        spans = model.gather_spans(model.states(batch), batch)
        assert batch.span_pixels_N3HW is not None
        for n, pixels_3HW in enumerate(batch.span_pixels_N3HW):
            keep = slice(0, int(spans.mask_NK[n].sum()))
            one = {
                name: getattr(spans, name)[n : n + 1, keep]
                for name in ("ids_NK", "mask_NK", "embeds_NKD", "before_NKD", "after_NKD")
            }
            logits_1KV = spans.logits_NKV[n : n + 1, keep].double()
            said = PhotoSpans(**one, logits_NKV=logits_1KV, captions=[spans.captions[n]])
            found.append((said, pixels_3HW[None]))
    return found


def sent_back(
    model: PhotoDialogueModel,
    spans: PhotoSpans,
    pixels_13HW: Tensor,
    bridge: Dvtm,
    *,
    draws: int,
    seed: int,
) -> dict[str, int]:
    """``numbers``: the rank of what ``draws`` random gradients at one photo's conditioning make of
    its logits; ``rank``, ``rows`` and ``columns`` of the gradient of one photo loss there.

    The model is in float64, as the logits are.
    """
    logits_1KV = spans.logits_NKV.detach().clone().requires_grad_()
    spans = replace(spans, logits_NKV=logits_1KV)
    painter, dice = model.painter, torch.Generator().manual_seed(seed)
    cond_1SC = bridge(spans, painter, generator=dice).cond_NSC  # type: ignore[arg-type]
    if not cond_1SC.requires_grad:
        return dict.fromkeys(("numbers", "rank", "rows", "columns"), 0)

    def gradient(value: Tensor, outside: Tensor | None = None) -> Tensor:
        (found,) = torch.autograd.grad(value, logits_1KV, outside, retain_graph=True)
        return found[0]

    drawn = [
        gradient(
            cond_1SC, torch.randn(cond_1SC.shape, generator=dice, dtype=cond_1SC.dtype).to(cond_1SC)
        )
        for _ in range(draws)
    ]
    loss = painter.loss(cond_1SC, pixels_13HW.double(), generator=dice)  # type: ignore[union-attr]
    loss_KV = gradient(loss)
    seen_KV = loss_KV.abs() > 1e-6 * loss_KV.abs().max()
    return {
        "numbers": rank(
            torch.stack([one / one.norm().clamp_min(1e-300) for one in drawn]).flatten(1)
        ),
        "rank": rank(loss_KV),
        "rows": int(seen_KV.any(1).sum()),
        "columns": int(seen_KV.any(0).sum()),
    }


def rank(matrix: Tensor) -> int:
    """How many singular values are above 1e-8 of the largest; 0 of a matrix of zeros."""
    return int(torch.linalg.matrix_rank(matrix, rtol=1e-8))


def numbers_of(bench: Bench, row: Row) -> dict[str, list[int]]:
    """What the captions of the test dialogues send back through a row's bridge, on the base."""
    model, options = load_model(bench.base), bench.options
    spans = spans_of(model, bench.data())[: options.captions]
    model.double().requires_grad_(False)
    config = override(RECIPES["world_mini"].config, [*options.settings, *row.settings]).bridge
    found: dict[str, list[int]] = {}
    for suffix, temperature in (("", 1.0), ("_cold", config.temperature_final)):
        bridge = Dvtm(config, tokenizer=model.language.tokenizer)
        bridge.temperature = torch.tensor(temperature)
        bridge.to(the_device())
        for number, (said, pixels_13HW) in enumerate(spans):
            sent = sent_back(model, said, pixels_13HW, bridge, draws=options.draws, seed=number)
            for name, value in sent.items():
                found.setdefault(name + suffix, []).append(value)
    return found


# ----------------------------------------------------------------------------------------- table


def sent_scores(bench: Bench, row: Row) -> dict[str, Scores]:
    """``numbers_of`` a row as scores; kept in --runs."""
    options = bench.options
    settings = {"base": bench.base, "captions": options.captions, "draws": options.draws}
    tell(f"counting {row.name}")
    path = bench.runs / "numbers" / f"{slug(row.name)}.json"
    values = kept(path, settings, partial(numbers_of, bench, row))
    pairs = {f"gradient.{name}": list(enumerate(found)) for name, found in values.items()}
    return {key: v for name, found in pairs.items() for key, v in runner.means(name, found).items()}


def norm_values(run: Path) -> dict[str, float]:
    """The mean norms over a run."""
    records = WatchedTask.records_in(run)
    means = {
        name: sum(record[name] for record in records) / len(records)
        for name in ("logits", "states", "whole")
    }
    share = means["states"] / max(means["whole"], 1e-30)
    return {f"gradient.{name}": mean for name, mean in (means | {"share": share}).items()}


def rows_of(bench: Bench) -> Rows:
    if bench.tiny:
        bench.options.captions, bench.options.draws = 2, 40
    rows = bench.chosen(ROWS)
    sent = {row.name: sent_scores(bench, row) for row in rows}
    found = bench.compared(rows, train=watched_run)
    for row in rows:
        for number, seed in enumerate(bench.seeds):
            run = found[row.name][number]
            norms = norm_values(bench.trained(row, seed, train=watched_run))
            found[row.name][number] = replace(
                run, scores={**run.scores, **sent[row.name]}, values={**run.values, **norms}
            )
    return found


def curves(bench: Bench, path: Path) -> None:
    """The norm at the logits over training: a panel for each caption and noise, a line for each
    granularity, the first seed's."""
    from matplotlib.figure import Figure

    panels: dict[str, list[Row]] = {}
    for row in bench.chosen(ROWS):
        panels.setdefault(", ".join(row.settings[1:]), []).append(row)
    figure = Figure(figsize=(4.2 * len(panels), 3.6))
    for axes, (title, members) in zip(
        figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels.items(), strict=True
    ):
        for row in members:
            run = bench.trained(row, bench.seeds[0], train=watched_run)
            records = [r for r in WatchedTask.records_in(run) if r["logits"] > 0]
            if records:
                steps = [record["step"] for record in records]
                axes.plot(steps, [r["logits"] for r in records], ".-", label=row.name, markersize=3)
                axes.legend(fontsize=7)
                axes.set_yscale("log")
        axes.set_title(title.replace("bridge.", ""), fontsize=8)
        axes.set_xlabel(f"step of training seed {bench.seeds[0]}")
    figure.axes[0].set_ylabel("norm of dL_v at the logits")
    figure.tight_layout()
    save_picture(figure, path)


SHEET = Sheet(
    name=NAME,
    title="Does the gradient through the bridge matter? (2408.08650, in the photo world)",
    columns=COLUMNS,
    against=NONE,
    rows=rows_of,
    notes=NOTES,
    about=lambda bench: {
        "numbers": f"{bench.options.captions} captions, {bench.options.draws} gradients drawn"
    },
    picture=curves,
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = runner.parser(__doc__, runs=NAME)
    options.add_argument("--captions", type=int, default=40, help="whose numbers are counted")
    options.add_argument("--draws", type=int, default=128, help="the most numbers to be seen")
    return runner.main([SHEET], options, arguments)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
