"""The PhotoChat share moment by several judges at once: models of photochat_small, and TF-IDF.

    showtell train photochat_small --set photochat=FOLDER/train.jsonl --seed 1 --out runs/seed1
    python experiments/photochat_ensemble.py FOLDER photochat_small [runs/seed1/model ...]

where FOLDER holds train.jsonl and dev.jsonl. Each judge's chances are calibrated on the 1,000
training dialogues that none was trained on (Platt); the ensemble is the mean of their log-odds,
with its threshold from the same dialogues. Nothing is weighed or chosen, and dev is read once. An
ensemble is no model that is shipped: its row stands apart.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from photochat_moments import Chances, PhotoChat, labels_of, parser

from showtell.cli.exits import exit_code_of
from showtell.dialogue import Dialogue
from showtell.errors import ConfigError
from showtell.evaluation.measures_photochat import calibrated, platt, rendered_moments
from showtell.metrics.moment import TFIDF_SETTINGS, tagged_text
from showtell.metrics.report import model_digest
from showtell.models.checkpoint import model_folder
from showtell.models.gold import share_chances
from showtell.papers import load_model

TFIDF, ENSEMBLE = "tfidf_tagged", "ensemble"


def chances_of_model(name: str, held: Sequence[Dialogue], dev: Sequence[Dialogue]) -> Chances:
    """Raises ConfigError where the model does not judge every position."""
    model = load_model(name)
    found = []
    for some in (held, dev):
        judged = share_chances(model, rendered_moments(model.renderer, some))
        if not np.array_equal(judged.shared_M, labels_of(some)):
            raise ConfigError(
                f'"{name}" judges {len(judged.shared_M):,} of {len(labels_of(some)):,} positions: '
                "its context is too short for the longest dialogues; wanted a model of "
                "photochat_small, which reads 1,024 tokens"
            )
        found.append(judged.marginal_M)
    return found[0], found[1]


def ensemble(judges: Sequence[Chances], labels_N: np.ndarray) -> Chances:
    """The mean log-odds of judges, each calibrated on the first of its two parts."""
    parts: list[list[torch.Tensor]] = [[], []]
    for held_N, dev_M in judges:
        scale, bias = platt(labels_N, held_N)
        for part, some in zip(parts, (held_N, dev_M), strict=True):
            chance = torch.from_numpy(calibrated(some, scale=scale, bias=bias))
            part.append(torch.logit(chance, eps=1e-9))
    held, dev = (torch.stack(part).mean(0).sigmoid().numpy() for part in parts)
    return held, dev


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("models", nargs="+", help="of the recipe photochat_small")
    chat = PhotoChat(options.parse_args(arguments))
    names, held = chat.options.models, chat.split[1]
    judges = {TFIDF: chat.tfidf(tagged_text)}
    for number, name in enumerate(names):
        judges[f"model_{number}"] = chances_of_model(name, held, chat.dev)
    judges[ENSEMBLE] = ensemble(list(judges.values()), labels_of(held))
    values = chat.table(judges)
    for m in ("f1", "auprc"):
        value = values[f"moment.{ENSEMBLE}.{m}"]
        print(f"{ENSEMBLE} {m}: {value.printed} [{value.interval}], {len(judges) - 1} judges")
    chat.report(
        "photochat_ensemble",
        values,
        ("train.jsonl", "dev.jsonl"),
        checkpoint=", ".join(names),
        model_digest=", ".join(model_digest(model_folder(name)) for name in names),
        notes=(
            TFIDF_SETTINGS,
            f"{ENSEMBLE}: the mean of all judges' log-odds, each calibrated on held-out "
            "training dialogues; no member was left out or weighed",
        ),
    )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
