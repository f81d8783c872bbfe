"""The pipeline baseline: words, and nothing of the LLM."""

from __future__ import annotations

import torch

from showtell.models.parts import PhotoTargets
from showtell.papers import BRIDGE_CONFIGS, BRIDGES
from showtell.papers.pipeline import Pipeline, PipelineConfig

from .fakes import FakePainter, FakeTower, llm_tokenizer, make_spans


def test_conditioning_is_the_captions_and_no_gradient_reaches_the_llm():
    tokenizer, tower = llm_tokenizer(), FakeTower(num_rows=8, width=5)
    tower.token_table_UC.requires_grad_()
    spans, painter = make_spans(tokenizer), FakePainter(tower)
    rng = torch.Generator().manual_seed(0)
    bridge = Pipeline(PipelineConfig(), tokenizer=tokenizer)
    conditioning = bridge(spans, painter, generator=rng)
    assert torch.equal(conditioning.cond_NSC, tower(tower.tokenize(spans.captions).ids_NS))
    targets = PhotoTargets(pixels_N3HW=torch.zeros(3, 3, 2, 2), captions=spans.captions)
    losses = bridge.losses(spans, conditioning, targets, painter, generator=rng)
    assert list(losses) == ["v"]
    losses["v"].backward()
    assert spans.logits_NKV.grad is None
    assert tower.token_table_UC.grad is not None  # the painter itself may be trained


def test_every_bridge_is_built_alike():
    assert BRIDGES.keys() == BRIDGE_CONFIGS.keys()
    for name, build in BRIDGES.items():
        tokenizer = llm_tokenizer()
        tokenizer.add_tokens(list(BRIDGE_CONFIGS[name]().tokens))
        bridge = build(BRIDGE_CONFIGS[name](), tokenizer=tokenizer)
        assert bridge.span_tokens == (bridge.config.tokens or None)
        bridge.advance(2.0)
