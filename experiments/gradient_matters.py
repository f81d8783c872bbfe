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

Without "none", 2408.08650's gain could come of the joint training of LLM and photo encoder alone.
A day and more on two cores; stopped, the same command goes on. --only and fewer --seeds make it
shorter. The norms of every step recorded stay in each run's gradients.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import torch
from gradient_watch import NORMS, records_in, watched_run
from runner import PHOTO_NOTE, SEED_NOTE, Bench, Row, Rows, Sheet, table
from torch import Tensor
from workers import slug, tell

from showtell.batch import collate
from showtell.cli.exits import exit_code_of
from showtell.config import override
from showtell.dialogue import Dialogue
from showtell.evaluation.compare import Column, columns_of
from showtell.evaluation.score_runs import Run
from showtell.metrics.paired import scores
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.parts import PhotoSpans
from showtell.papers import load_model
from showtell.papers.e2e import Dvtm
from showtell.recipes.registry import RECIPES
from showtell.runtime import the_device
from showtell.training.examples import square_pixels

NAME = "gradient_matters"
GRAIN = ("none", "static", "sentence", "word", "aligned", "soft")


def _row(vocabulary: str, fed: str, noise: bool) -> Row:
    settings = {"vocabulary": vocabulary, "caption_for_denoiser": fed, "gumbel": str(noise).lower()}
    name = vocabulary if vocabulary == "soft" else f"{vocabulary}, {fed}"
    return Row(
        name=name if noise else f"{name}, no noise",
        settings=tuple(f"bridge.{key}={value}" for key, value in settings.items()),
        train=watched_run,
    )


ROWS = tuple(
    _row(*choices)
    for choices in product(GRAIN, ("gold", "predicted"), (True, False))
    # "soft" reads no caption, and gold captions without a matrix draw no noise
    if choices[:2] != ("soft", "predicted") and choices != ("none", "gold", False)
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
    rows_RL = torch.stack([one / one.norm().clamp_min(1e-300) for one in drawn]).flatten(1)
    loss = painter.loss(cond_1SC, pixels_13HW.double(), generator=dice)  # type: ignore[union-attr]
    loss_KV = gradient(loss)
    seen_KV = loss_KV.abs() > 1e-6 * loss_KV.abs().max()
    return {
        "numbers": int(torch.linalg.matrix_rank(rows_RL, rtol=1e-8)),
        "rank": int(torch.linalg.matrix_rank(loss_KV, rtol=1e-8)),
        "rows": int(seen_KV.any(1).sum()),
        "columns": int(seen_KV.any(0).sum()),
    }


def numbers_of(bench: Bench, row: Row) -> dict[str, list[int]]:
    """What the captions of the test dialogues send back through a row's bridge, on the base."""
    tell(f"counting {row.name}")
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


def watched(bench: Bench, rows: Sequence[Row]) -> Rows:
    """The rows compared, with what their captions send back and their norms over training."""
    found = bench.compared(rows)
    for row in rows:
        path = bench.runs / "numbers" / f"{slug(row.name)}-{bench.options.draws}.json"
        sent = bench.kept(path, partial(numbers_of, bench, row), bench.options.captions)
        counted = {
            f"gradient.{name}": scores("mean", range(len(each)), list(map(float, each)))
            for name, each in sent.items()
        }
        for number, seed in enumerate(bench.seeds):
            records, run = records_in(bench.trained(row, seed)), found[row.name][number]
            norms = {name: sum(r[name] for r in records) / len(records) for name in NORMS}
            norms["share"] = norms["states"] / max(norms["whole"], 1e-30)
            values = run.values | {f"gradient.{name}": norm for name, norm in norms.items()}
            found[row.name][number] = Run(scores=run.scores | counted, values=values)
    return found


SENT, TRAINED = "what a caption sends back", "the gradient while it is trained"
HEADS = (
    *(("numbers", "numbers, tau 1", SENT), ("numbers_cold", "numbers, final tau", SENT)),
    *((name, name, SENT) for name in ("rank", "rows", "columns")),
    *(("logits", "at logits", TRAINED), ("states", "at states", TRAINED)),
    ("share", "of the whole", TRAINED),
)
SHEET = Sheet(
    name=NAME,
    title="Does the gradient through the bridge matter? (2408.08650, in the photo world)",
    rows=ROWS,
    columns=(
        *(
            Column(name=f"gradient.{name}", head=head, group=group, higher_is_better=None, unit="")
            for name, head, group in HEADS
        ),
        *columns_of("text.psdg.bleu1", "text.psdg.bleu2", "text.word_perplexity", "moment.f1"),
        *columns_of("photo.attribute_accuracy_in_dialogue", "photo.kid_encoder"),
    ),
    against="none, gold",
    measure=watched,
    notes=(
        PHOTO_NOTE,
        SEED_NOTE,
        "Numbers: singular values above 1e-8 of the largest, of gradients at the logits for random "
        "gradients at the conditioning, on the base, in float64; no more can be seen than were "
        "drawn (--draws). Captions are those of the test dialogues' photos. The softmax smears a "
        "gradient over all of the vocabulary, so rank, rows and columns (above 1e-6 of the "
        "largest) of one gradient at the logits tell less than the numbers.",
        "Norms: of alpha dL_v at the logits of a batch's captions and the states that these are "
        "made of, the mean over the steps recorded; of the whole: the latter by the norm of all "
        "losses' gradient at all states.",
        "Intervals of numbers, ranks, rows and columns are over captions; those of norms are "
        "absent.",
    ),
)
main = table(__file__, __doc__, SHEET, captions=40, draws=128)

if __name__ == "__main__":
    sys.exit(exit_code_of(main))
