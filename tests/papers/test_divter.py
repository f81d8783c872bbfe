"""Divter: what its translator F is trained on."""

from __future__ import annotations

import dataclasses

import torch

from showtell.models.parts import PhotoTargets
from showtell.papers.divter import Divter, DivterConfig

from .fakes import FakePainter, FakeTower, llm_tokenizer, make_spans


def dice() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_stock_descriptions_train_nothing_of_f_as_published():
    tokenizer, painter = llm_tokenizer(), FakePainter(FakeTower(num_rows=8, width=5))
    bridge, spans = Divter(DivterConfig(), tokenizer=tokenizer), make_spans(tokenizer)
    stock = "The photo has your * #Dog, Cat#"
    captions = [stock, *spans.captions[1:]]
    pixels = torch.rand(3, 3, 2, 2, generator=dice())
    spans = dataclasses.replace(spans, captions=captions)
    conditioning = bridge(spans, painter, generator=dice())
    targets = PhotoTargets(pixels_N3HW=pixels, captions=captions)
    found = bridge.losses(conditioning, targets, painter, generator=dice())["v"]
    wanted = painter.loss(conditioning.cond_NSC[1:], pixels[1:], generator=dice())
    assert torch.equal(found, wanted)
    all_stock = PhotoTargets(pixels_N3HW=pixels, captions=[stock] * 3)
    assert bridge.losses(conditioning, all_stock, painter, generator=dice()) == {}
    keep = Divter(DivterConfig(drop_stock_captions=False), tokenizer=tokenizer)
    assert list(keep.losses(conditioning, all_stock, painter, generator=dice())) == ["v"]
