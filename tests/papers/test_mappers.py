"""The linear path beside a mapper: its fit, where it starts, what it learns."""

from dataclasses import replace

import pytest
import torch

from conftest import bridged_model, collated, dialogues_with_photos
from showtell.errors import ConfigError
from showtell.models.checkpoint import save_model
from showtell.models.mappers import RidgePath, ridge
from showtell.papers import load_model
from showtell.papers.gill import GillConfig


@pytest.fixture(scope="module")
def talks():
    return dialogues_with_photos(3)


def test_a_linear_map_is_found_and_one_of_a_lower_rank_is_the_best_of_that_rank(rng):
    """Exact data of rank 3: found whole with rank 3; with rank 1 the error is that of the best
    approximation of what is told (Eckart and Young)."""
    x_NX = torch.randn(200, 6, generator=rng).double() + 4.0
    map_XY = (torch.randn(6, 3, generator=rng) @ torch.randn(3, 5, generator=rng)).double()
    y_NY = x_NX @ map_XY + 7.0
    wide_NX = x_NX @ torch.randn(6, 300, generator=rng).double()
    for x in (x_NX, wide_NX):  # more examples than numbers in, and fewer
        read, write, mean_X, mean_Y = ridge(x, y_NY, rank=3)
        told = (x - mean_X) @ read @ write + mean_Y
        torch.testing.assert_close(told, y_NY, rtol=0, atol=1e-3)
    read, write, mean_X, mean_Y = ridge(x_NX, y_NY, rank=1)
    error = (((x_NX - mean_X) @ read @ write + mean_Y) - y_NY).square().sum()
    best = torch.linalg.svdvals(y_NY - y_NY.mean(0))[1:].square().sum()
    torch.testing.assert_close(error, best, rtol=1e-3, atol=0)


def test_the_penalty_is_that_of_generalised_cross_validation(rng):
    """Of one number in, worked out by hand: noise is shrunk, a clear line hardly."""
    x_N1 = torch.linspace(-1, 1, 21).double()[:, None]
    noise_N1 = torch.randn(21, 1, generator=rng).double()
    power = float(x_N1.square().sum())
    for y_N1 in (3 * x_N1 + 0.01 * noise_N1, noise_N1):
        y_N1 = y_N1 - y_N1.mean()
        scores = {}
        for step in range(-12, 3):
            penalty = power * 10 ** (step / 2)
            slope = float(x_N1.mT @ y_N1) / (power + penalty)
            freedom = 21 - 1 - power / (power + penalty)
            scores[slope] = float((y_N1 - slope * x_N1).square().sum()) / freedom**2
        read, write, _, _ = ridge(x_N1, y_N1, rank=4)
        assert read.shape == (1, 1)  # no more than there is
        assert float(read @ write) == pytest.approx(min(scores, key=scores.get), rel=1e-6)
        read, write, _, _ = ridge(x_N1, y_N1, rank=1, least=30.0)  # above all of the grid
        assert float(read @ write) == pytest.approx(float(x_N1.mT @ y_N1) / (31 * power), rel=1e-6)


def test_a_started_path_gives_numbers_of_spread_one_and_the_fit(rng):
    states_NKD, cond_NSC = (
        torch.randn(50, 2, 3, generator=rng),
        torch.randn(50, 4, 2, generator=rng),
    )
    path = RidgePath((2, 3), (4, 2), rank=9)  # 6 numbers in: three of the nine have nothing to say
    path.start(states_NKD, cond_NSC)
    between_NR = path.read(states_NKD.flatten(1) - path.mean_X)
    torch.testing.assert_close(path.mean_X, states_NKD.flatten(1).mean(0))
    torch.testing.assert_close(between_NR[:, :6].std(0), torch.ones(6), rtol=0, atol=1e-3)
    assert (path.write.weight[:, 6:] == 0).all() and (path.read.weight[6:] != 0).any()
    read, write, mean_X, mean_Y = ridge(states_NKD.flatten(1), cond_NSC.flatten(1), rank=9)
    wanted = (states_NKD.flatten(1).double() - mean_X) @ read @ write + mean_Y
    torch.testing.assert_close(path(states_NKD).flatten(1).double(), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["vokens", "gill"])
def test_a_mapper_with_a_path_starts_at_the_fit_and_then_learns(
    tokenizers, talks, rng, tmp_path, name
):
    """At the start only the path speaks; zeros mean no words; then all of it has a gradient, and a
    step later the transformer too."""
    model = bridged_model(tokenizers, name, ridge_rank=5).train()
    mapper, spans = model.bridge.mapper, model.spoken_spans(["a dog"])
    states_NKD = torch.randn(64, 3, 32, generator=rng)
    spans = replace(spans, after_NKD=states_NKD, embeds_NKD=0 * states_NKD, captions=[""] * 64)
    cond_NSC = torch.randn(64, 40, 16, generator=rng)
    empty_SC = torch.full((40, 16), 5.0)
    model.bridge.start(spans, cond_NSC, empty_SC=empty_SC)
    assert torch.equal(mapper(states_NKD), mapper.path(states_NKD))
    if name == "vokens":
        nothing = mapper(torch.zeros(1, 3, 32))[0].detach()
        assert float((nothing - empty_SC).abs().mean()) < 0.5 * float(empty_SC.mean())

    batch = collated(model, talks)
    loss = "cap" if name == "vokens" else "g"
    learning = torch.optim.Adam(model.bridge.parameters(), lr=1e-2)
    for _ in range(2):
        learning.zero_grad()
        model(batch, generator=rng)[loss].backward()
        learning.step()
    still = [name for name, p in mapper.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still
    save_model(model, tmp_path / "m", recipe={})
    again = load_model(str(tmp_path / "m")).bridge.mapper
    assert torch.equal(again.eval()(states_NKD), mapper.eval()(states_NKD))


@pytest.mark.parametrize("name", ["vokens", "gill"])
def test_without_a_path_there_is_none(tokenizers, name):
    model = bridged_model(tokenizers, name)
    assert model.bridge.mapper.path is None
    assert not [key for key in model.state_dict() if "path" in key]


def test_two_linear_maps_are_one():
    with pytest.raises(ConfigError, match="ridge_rank is 4 beside a linear mapper.*transformer"):
        GillConfig(mapper="linear", ridge_rank=4)


def test_a_loss_without_weight_is_not_computed(tokenizers, talks, rng, monkeypatch):
    model = bridged_model(tokenizers, "vokens").train()
    batch = collated(model, talks)
    assert "ldm" in model(batch, generator=rng)
    model.bridge.unweighted = {"ldm"}
    monkeypatch.setattr(model.painter, "loss", None)
    assert {"t", "cap"} <= set(model(batch, generator=rng))
