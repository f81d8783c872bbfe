"""Predictions and references with photos, and encoders for them without any weights."""

from __future__ import annotations

import json
import random

import numpy as np
import torch
from PIL import Image

from showtell.metrics.photo_rows import SetFeatures
from showtell.metrics.rows import Encoders

WORDS = ["the", "a", "cat", "dog", "sat", "runs", "here", "now", ".", "look"]
MEAN_COLOUR = SetFeatures(encode=lambda x: x.mean((2, 3)), id="mean colour")


class Clip:
    """Embeds a text by its letters and a photo by its mean colour; counts all texts as cut."""

    id = "letters and colours"

    def __init__(self):
        self.truncated = 0

    def texts(self, texts):
        self.truncated += len(texts)
        return torch.tensor([[len(t), t.count("a") + 1.0, t.count(" ")] for t in texts])

    def photos(self, photos):
        return torch.tensor(np.array([np.asarray(Image.open(p)).mean((0, 1)) for p in photos]))


def all_encoders():
    clip = Clip()
    return Encoders(
        clip=clip, relevance_clip=clip, sentence_encoder=Clip().texts, features=MEAN_COLOUR
    )


def write_files(folder, num):
    """said.jsonl and wanted.jsonl: photos of two shapes, three answers a dialogue; of seven answers
    one lacks its text, one its photo, one has a photo too many, and in one a second text and photo
    follow on both sides."""
    rng, dice = np.random.default_rng(0), random.Random(0)
    sides = {"said": [], "wanted": []}
    for k in range(num):
        for side, rows in sides.items():
            pixels = rng.integers(0, 255, (70 + k % 2, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{side}{k}.png")
            text = " ".join(dice.choices(WORDS, k=8))
            elements = [text, {"photo": f"{side}{k}.png"}]
            if k % 7 == 3:
                elements += [" ".join(dice.choices(WORDS, k=4)), {"photo": f"{side}{k - 1}.png"}]
            if side == "said" and k % 7 in (1, 2):
                elements.pop(k % 7 - 1)
            if side == "said" and k % 7 == 5:
                elements.append({"photo": f"said{k - 1}.png"})
            rows.append({"id": k, "dialogue": f"d{k // 3}", "elements": elements})
        sides["said"][-1] |= {"p_share": k / num, "rank": 1 + k % 7, "nll": 9.0 + k, "tokens": 5}
        sides["said"][-1]["decision"] = "gen"
        sides["wanted"][-1] |= {"decision": "gen" if k % 3 else "ret", "share": k % 4 == 0}
    for name, rows in sides.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder
