"""The retrieve-or-generate head: what it learns, what it repeats, what it refuses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from conftest import build_model
from showtell.errors import CheckpointError, DataError
from showtell.models.checkpoint import save_model
from showtell.papers import load_folder
from showtell.papers.gill import (
    GENERATE,
    RETRIEVE,
    DecisionHead,
    DecisionTraining,
    GillConfig,
    train_decision,
)
from showtell.recipes.assemble import with_bridge

QUICK = DecisionTraining(steps=200, learning_rate=1e-2)


def states(count: int = 60, width: int = 8, seed: int = 0):
    """Two clouds, one to retrieve and one to generate."""
    rng = torch.Generator().manual_seed(seed)
    retrieve_N = torch.arange(count) % 3 == 0
    states_ND = torch.randn(count, width, generator=rng)
    states_ND[:, 0] += torch.where(retrieve_N, 4.0, -4.0)
    return states_ND, retrieve_N


def test_the_head_learns_what_can_be_told():
    head = train_decision(*states(), QUICK)
    fresh_ND, retrieve_N = states(seed=1)
    assert ((head.p_retrieve(fresh_ND) > 0.5) == retrieve_N).float().mean() > 0.95


def test_a_step_is_cross_entropy_by_adamw_on_all_examples():
    """Without dropout one step of the head is one step written out."""
    states_ND, retrieve_N = states(count=9)
    config = DecisionTraining(steps=1, dropout=0.0, seed=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        by_hand = DecisionHead(8, dropout=0.0)
    before = by_hand.linear.weight.detach().clone()
    column_N = torch.where(retrieve_N, RETRIEVE, GENERATE)
    F.cross_entropy(by_hand.linear(states_ND), column_N).backward()
    # the first step of Adam is the rate times the gradient's sign
    want = before - 1e-3 * by_hand.linear.weight.grad.sign()
    head = train_decision(states_ND, retrieve_N, config)
    torch.testing.assert_close(head.linear.weight.detach(), want, rtol=0, atol=1e-6)


def test_the_chance_to_retrieve_is_the_softmax_and_knows_no_dropout():
    head, (states_ND, _) = DecisionHead(8).train(), states()
    want_N = head.linear(states_ND).softmax(-1)[:, 1]
    assert torch.equal(head.p_retrieve(states_ND), want_N)
    assert not torch.equal(head(states_ND), head(states_ND))
    head.eval()
    assert torch.equal(head(states_ND).softmax(-1)[:, RETRIEVE], want_N)


def test_a_checkpoint_gives_the_same_head_back(tokenizers, tmp_path):
    """Also from where it stood before: a file of its own, decision.safetensors."""
    base = build_model(tokenizers, bridge="pipeline")
    config = GillConfig(num_tokens=2, num_layers=1, num_heads=2, width=16, album_width=8)
    model = with_bridge(base, config, seed=0)
    model.bridge.decision = head = train_decision(*states(width=32), QUICK)
    save_model(model, tmp_path / "model", recipe={})
    bridge, decision = (tmp_path / "model" / f"{n}.safetensors" for n in ("bridge", "decision"))
    states_ND, _ = states(width=32, seed=3)
    for apart in (False, True):
        if apart:
            state = load_file(bridge)
            ours = {k: state.pop(k) for k in list(state) if k.startswith("decision.")}
            save_file(state, bridge)
            save_file({k.rpartition(".")[2]: v for k, v in ours.items()}, decision)
        again = load_folder(tmp_path / "model").bridge.decision
        assert torch.equal(again.p_retrieve(states_ND), head.p_retrieve(states_ND))
    decision.write_bytes(b"?")
    with pytest.raises(CheckpointError, match="the bridge in .* cannot be read"):
        load_folder(tmp_path / "model")


def test_examples_that_teach_nothing_are_refused():
    states_ND, retrieve_N = states()
    with pytest.raises(DataError, match="all 60 examples say the same"):
        train_decision(states_ND, torch.ones_like(retrieve_N), QUICK)
    states_ND[3, 2] = float("nan")
    with pytest.raises(DataError, match="NaN or infinity"):
        train_decision(states_ND, retrieve_N, QUICK)
