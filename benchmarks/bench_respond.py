"""How long a user waits: first word, photo, and a token, warm, median of 20 turns.

    python benchmarks/bench_respond.py [--model mini] [--dtype bfloat16] [--runs 20] [--threads 2]

Baselines in the same run: the first word with the LLM's key-value cache thrown away at each token
(the whole dialogue read again), which is how the released code of GILL decodes; and as many tokens
by ``generate`` of the library.
"""

from __future__ import annotations

import dataclasses
import math
import time

import bench
import torch

from photoworld.talk import OPENINGS
from showtell.dialogue import AGENT, USER, Turn
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.respond import Responder
from showtell.papers import load_model


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


def seconds_a_token(words: Responder, turns: tuple[Turn, ...], seed: int) -> tuple[float, float]:
    """Between two tokens of an answer, and of ``generate`` after the same dialogue."""
    model, times = words.model, []
    words.respond(turns, images={}, seed=seed, tell=lambda _: times.append(time.perf_counter()))
    count = len(times) - 1  # the last piece is the end of the line
    if count < 3:
        return float("nan"), float("nan")
    new, decoding = model.language.new_tokens, model.decoding
    ids = [t for t in model.renderer.render_turns(turns).ids if new is None or t < new.first_id]
    ids_1T = torch.tensor([ids])

    def generated(length: int) -> float:
        began = time.perf_counter()
        with torch.no_grad():
            model.language.model.generate(
                input_ids=ids_1T,
                attention_mask=torch.ones_like(ids_1T),
                min_new_tokens=length,
                max_new_tokens=length,
                pad_token_id=0,
                do_sample=True,
                temperature=decoding.temperature,
                top_p=decoding.top_p,
            )
        return time.perf_counter() - began

    one, all_ = generated(1), generated(count)
    return (times[count - 1] - times[0]) / (count - 1), (all_ - one) / (count - 1)


def main() -> None:
    parser = bench.parser(__doc__, runs=20, threads=2)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--dtype", help="of its LLM, as showtell chat --dtype has it")
    options = bench.parsed(parser)
    model = load_model(options.model, dtype=options.dtype)
    words, photos = (
        Responder(Decoder(model, decoding=dataclasses.replace(model.decoding, **settings)))
        for settings in ({"share_threshold": 1.1}, {"share_threshold": 0.0, "max_turns": 1})
    )
    found: dict[str, list[float]] = {}
    for number in range(-3, options.runs):  # three to warm up
        opening = OPENINGS[number % len(OPENINGS)]
        turns = (
            Turn(speaker=USER, elements=("hey, how is it going?",)),
            Turn(speaker=AGENT, elements=("pretty good, thanks for asking",)),
            Turn(speaker=USER, elements=(opening,)),
        )
        word = words.respond(turns, images={}, seed=number).seconds_to_first_word
        ours, library = seconds_a_token(words, turns, number)
        took = {
            "seconds_a_token": ours,
            "seconds_a_token_of_generate": library,
            "seconds_to_first_word": word,
            "seconds_to_first_word_without_cache": uncached_seconds_to_first_word(model, turns),
        }
        if model.painter is not None:
            painted = photos.respond(turns, images={}, seed=number)
            took["seconds_to_photo"] = painted.seconds_to_photo
        for name, seconds in took.items():
            if number >= 0 and seconds is not None and not math.isnan(seconds):
                found.setdefault(name, []).append(seconds)
    spreads = {name: bench.spread(times, middle=True) for name, times in found.items()}
    bench.show(spreads, head="middle half")
    bench.written(options, model=options.model, steps=model.decoding.num_steps, **spreads)


if __name__ == "__main__":
    main()
