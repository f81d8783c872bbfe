"""How hard to guide a painter: python experiments/guidance.py mini [--scales 1,2,4] [--photos 200]

Paints dev captions at each guidance scale and reads the photos with the second encoder (the oracle
chooses nothing), beside the real drawings of the same scenes. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys

from jobs import tell

from showtell.cli.exits import exit_code_of
from showtell.data.sources import open_data
from showtell.evaluation.answer import paint_captions
from showtell.evaluation.measures import attribute_values
from showtell.evaluation.world_gold import drawn, shipped_reader
from showtell.models.decoder import Decoder
from showtell.models.respond import Responder
from showtell.papers import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--scales", default="1,2,3,4,5,6,8")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = load_model(options.model)
    if model.painter is None:
        sys.exit(f'"{options.model}" has no painter, so there is nothing to guide; name another')
    data = open_data(f"world:photos:200000-{200_000 + options.photos - 1}")
    photos = [dialogue.photos[0] for dialogue in data]
    rows = {"drawings": drawn(photos)}
    for scale in map(float, options.scales.split(",")):
        decoding = dataclasses.replace(model.decoding, guidance=scale)
        responder = Responder(Decoder(model, decoding=decoding))
        captions = [photo.caption for photo in photos]
        rows[f"guidance {scale:g}"] = paint_captions(responder, captions, seed=0)
        tell(f"painted at guidance {scale:g}")
    print(f"{options.model}, {len(photos)} dev captions, read by the second encoder\n")
    print("| | attributes right | 95% | all of a photo's right |\n|---|---|---|---|")
    for name, pixels in rows.items():
        read = shipped_reader("encoder").read(pixels)
        values = attribute_values(
            read, photos, counts="stated", name="a", seed=options.seed, each=False
        )
        mean, whole = values["photo.a"], values["photo.a.all_right"]
        print(
            f"| {name} | {mean.value:.3f} | {mean.low:.3f} to {mean.high:.3f} | {whole.value:.3f} |"
        )


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
