"""How hard to guide a painter: python experiments/guidance.py mini [--scales 1,2,4] [--photos 200]

Paints dev captions at each guidance scale and reads the photos with the second encoder (the oracle
chooses nothing), beside the real drawings of the same scenes. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import random
import sys

import torch

from photoworld.drawing import draw
from photoworld.scenes import DEV_SEEDS, write_caption
from showtell.batch import to_pixels
from showtell.data.world import load_oracle
from showtell.evaluation.world_photos import Order, attribute_values
from showtell.models.parts import Conditioning
from showtell.papers import load_model
from showtell.training.features import photo_scene


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
    reader = load_oracle("encoder")
    rng = random.Random(options.seed)
    scenes = [photo_scene(seed) for seed in DEV_SEEDS[: options.photos]]
    orders = []
    for number, scene in enumerate(scenes):
        caption, stated = write_caption(scene, rng)
        orders.append(
            Order(caption=caption, scene=scene.as_dict(), counts=tuple(stated), seed=number)
        )
    rows = {"drawings": torch.stack([to_pixels(draw(scene)) for scene in scenes])}
    for scale in map(float, options.scales.split(",")):
        parts = []
        for start in range(0, len(orders), 32):
            part = orders[start : start + 32]
            with torch.no_grad():
                conditioning = Conditioning(
                    cond_NSC=model.painter.encode_text([o.caption for o in part])  # type: ignore[attr-defined]
                )
                parts.append(
                    model.painter.paint(
                        conditioning,
                        num_steps=model.decoding.num_steps,
                        guidance=scale,
                        seeds=[o.seed for o in part],
                    )
                )
        rows[f"guidance {scale:g}"] = torch.cat(parts)
        print(f"painted at guidance {scale:g}", file=sys.stderr)
    print(f"{options.model}, {len(orders)} dev captions, read by the second encoder\n")
    print("| | attributes right | 95% | all of a photo's right |\n|---|---|---|---|")
    for name, pixels in rows.items():
        values = attribute_values(reader, pixels, orders, name="a", seed=options.seed, each=False)
        mean, whole = values["photo.a"], values["photo.a.all_right"]
        print(
            f"| {name} | {mean.value:.3f} | {mean.low:.3f} to {mean.high:.3f} | {whole.value:.3f} |"
        )


if __name__ == "__main__":
    main()
