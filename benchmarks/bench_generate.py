"""Tokens a second: 16 dialogues answered at once against one by one, the same tokens.

    python benchmarks/bench_generate.py [--model mini] [--rows 16] [--json FILE]
    python benchmarks/bench_generate.py --width 1024 --layers 8

With --width the LLM is an untrained one of that size, which reads photos as captions: mini's own is
so small that it stays in the processor's cache, where one row is as cheap a token as in a batch.

Baseline in the same run: the same dialogues one after the other, with the key-value cache. Greedy
texts are compared word for word; then P(share), captions (or the bridge's own tokens) likewise.
"""

from __future__ import annotations

import copy
import dataclasses
import statistics
from collections.abc import Mapping

import bench
import torch
from PIL import Image
from transformers import LlamaForCausalLM

from photoworld.scenes import DEV_SEEDS
from photoworld.talk import world_dialogue
from showtell.data.photos import photo_image
from showtell.dialogue import AGENT, Turn
from showtell.evaluation.answer import write_texts
from showtell.models.decoder import Decoder
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.language import LanguageModel
from showtell.models.respond import Responder
from showtell.papers import load_model
from showtell.papers.pipeline import Pipeline, PipelineConfig
from showtell.prompt import Renderer
from showtell.runtime import the_device
from showtell.training.loop import parameter_count

Context = tuple[tuple[Turn, ...], Mapping[str, Image.Image]]  # turns, and their photos


def world_contexts(count: int) -> list[Context]:
    """What stands before an agent's turn, in dev dialogues of the world, each from another one."""
    found = []
    for number, seed in enumerate(DEV_SEEDS[:count]):
        turns = world_dialogue(seed).turns
        agents = [k for k, turn in enumerate(turns) if k and turn.speaker == AGENT]
        context = turns[: agents[number % len(agents)]]
        found.append((context, {p.id: photo_image(p) for t in context for p in t.photos}))
    return found


def with_size(model: PhotoDialogueModel, *, width: int, layers: int) -> PhotoDialogueModel:
    """The text side of a model with an untrained LLM of another size."""
    config = copy.deepcopy(model.language.model.config)
    config.hidden_size, config.intermediate_size = width, width * 8 // 3
    config.num_hidden_layers, config.head_dim = layers, 64
    config.num_attention_heads = config.num_key_value_heads = width // 64
    torch.manual_seed(0)
    with the_device():  # billions of first values take a CPU minutes
        language = LanguageModel(LlamaForCausalLM(config), model.language.tokenizer)
    settings = dataclasses.replace(model.renderer.config, perceive="caption")
    built = PhotoDialogueModel(
        language=language,
        photo_encoder=None,
        bridge=Pipeline(PipelineConfig(), tokenizer=language.tokenizer),
        painter=None,
        renderer=Renderer(language.tokenizer, settings),
    )
    return built.to(the_device()).eval()


def main() -> None:
    parser = bench.parser(__doc__, runs=5, threads=2)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--width", type=int, help="of an untrained LLM, a multiple of 64")
    parser.add_argument("--layers", type=int, default=8)
    options = bench.parsed(parser)
    model = load_model(options.model)
    if options.width:
        model = with_size(model, width=options.width, layers=options.layers)
    decoder = Decoder(model, decoding=dataclasses.replace(model.decoding, temperature=0.0))
    contexts, images = zip(*world_contexts(options.rows), strict=True)
    contexts = Responder(decoder).describe_all(contexts, images)
    everything = slice(0, options.rows)
    each = [slice(n, n + 1) for n in range(options.rows)]

    def texts(rows: slice) -> list[str]:
        return write_texts(decoder, contexts[rows], seed=0, images=images[rows])

    def announced(rows: slice) -> tuple[list[float], list[str]]:
        """P(share) and what announces a photo."""
        writing, _ = decoder.read_all(contexts[rows], images[rows])
        decoder.open_turn(writing)
        return decoder.p_share(writing).tolist(), list(decoder.announce(writing).captions)

    alone, (chances, photos) = [texts(row)[0] for row in each], announced(everything)
    single = [announced(row) for row in each]
    took = bench.in_turn(
        {
            "one by one": lambda: [texts(row) for row in each],
            "at once": lambda: texts(everything),
            "reading, one by one": lambda: [
                decoder.read_all(contexts[row], images[row]) for row in each
            ],
            "reading, at once": lambda: decoder.read_all(contexts, images),
        },
        runs=options.runs,
    )
    bench.show({name: bench.spread(values) for name, values in took.items()})
    spent = {name: statistics.median(values) for name, values in took.items()}
    ours, theirs = (spent[way] - spent[f"reading, {way}"] for way in ("at once", "one by one"))
    tokens = sum(len(model.renderer.words(text)) + 1 for text in alone)
    result = {
        "model": options.model,
        "parameters": parameter_count(model.language),
        "dialogues": options.rows,
        "tokens": tokens,
        "texts_equal": sum(a == b for a, b in zip(alone, texts(everything), strict=True)),
        "photos_equal": sum(a == b for a, (_, (b,)) in zip(photos, single, strict=True)),
        "p_share_difference": max(abs(a - b) for a, ((b,), _) in zip(chances, single, strict=True)),
        "tokens_per_second_one_by_one": tokens / spent["one by one"],
        "tokens_per_second_at_once": tokens / spent["at once"],
        "times_faster": spent["one by one"] / spent["at once"],  # of medians, as all above
        "times_faster_less_reading": theirs / ours,
    }
    for key, value in result.items():
        print(f"{key:30} {value:.4g}" if isinstance(value, float) else f"{key:30} {value}")
    bench.written(options, **result)


if __name__ == "__main__":
    main()
