"""How long a user waits: first word and photo, warm, median of 20 turns.

    python benchmarks/bench_respond.py [--model mini] [--turns 20] [--threads 2] [--json FILE]

Baseline in the same run: the same answers with the LLM's key-value cache thrown away at each token
(the whole dialogue read again), which is how the released code of GILL decodes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import time

import torch

from photoworld.talk import OPENINGS
from showtell.dialogue import AGENT, USER, Turn
from showtell.metrics.report import current_commit
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.respond import Responder
from showtell.papers import load_model


def spread(values: list[float]) -> dict[str, float]:
    """Median and the middle half."""
    ordered = sorted(values)
    count = len(ordered)
    return {
        "median": statistics.median(ordered),
        "low": ordered[count // 4],
        "high": ordered[(3 * count) // 4],
        "n": count,
    }


def uncached_seconds_to_first_word(model: PhotoDialogueModel, turns: tuple[Turn, ...]) -> float:
    """Read the dialogue from the start for the role token and for the first word's token."""
    began = time.perf_counter()
    rendered = model.renderer.render_turns(turns)
    ids = [*rendered.ids, model.renderer.roles[AGENT]]
    with torch.no_grad():
        for length in (len(ids) - 1, len(ids)):
            embeds = model.language.embed(torch.tensor([ids[:length]]))
            model.language.head(model.language.hidden(embeds, None)[0, -1])
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_model(options.model)
    word_model = dataclasses.replace(model.decoding, share_threshold=1.1)
    photo_model = dataclasses.replace(model.decoding, share_threshold=0.0, max_turns=1)
    words, photos, uncached = [], [], []
    for number in range(-3, options.turns):  # three to warm up
        opening = OPENINGS[number % len(OPENINGS)]
        turns = (
            Turn(speaker=USER, elements=("hey, how is it going?",)),
            Turn(speaker=AGENT, elements=("pretty good, thanks for asking",)),
            Turn(speaker=USER, elements=(opening,)),
        )
        slow = uncached_seconds_to_first_word(model, turns)
        word = (
            Responder(Decoder(model, decoding=word_model))
            .respond(turns, images={}, seed=number)
            .seconds_to_first_word
        )
        photo = None
        if model.painter is not None:
            painting = Responder(Decoder(model, decoding=photo_model))
            photo = painting.respond(turns, images={}, seed=number).seconds_to_photo
        if number >= 0:
            uncached.append(slow)
            words += [word] if word is not None else []
            photos += [photo] if photo is not None else []
    result = {
        "model": options.model,
        "commit": current_commit(),
        "threads": options.threads,
        "machine": platform.processor() or platform.machine(),
        "steps": model.decoding.num_steps,
        "seconds_to_first_word": spread(words),
        "seconds_to_first_word_without_cache": spread(uncached),
    }
    if photos:
        result["seconds_to_photo"] = spread(photos)
    print("| measure | median | middle half | n |\n|---|--:|:-:|--:|")
    for key, value in result.items():
        if isinstance(value, dict):
            print(
                f"| {key} | {value['median']:.3f} s | {value['low']:.3f} to {value['high']:.3f} "
                f"| {value['n']} |"
            )
    if options.json:
        with open(options.json, "w") as handle:
            json.dump(result, handle, indent=2)
        print(f"wrote {options.json}")


if __name__ == "__main__":
    main()
