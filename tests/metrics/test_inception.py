"""FID's Inception and LPIPS' AlexNet: what can be known of them without their real weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from showtell.errors import CheckpointError, DataError
from showtell.metrics.inception import (
    FILE,
    LPIPS_FILE,
    Inception,
    Lpips,
    _max_pool,
    _mean_pool,
    load_inception,
    load_lpips,
    resize_tensorflow1,
)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Inception(resize_tensorflow1).eval()


def test_it_has_the_weights_of_inception_v3_and_the_pools_of_fids(network):
    counted = sum(p.numel() for name, p in network.named_parameters() if name[:2] != "fc")
    # torchvision's inception_v3 has 27,161,264: less its auxiliary head (3,326,696) and its last
    # layer of 1,000 classes (2,049,000)
    assert counted == 27_161_264 - 3_326_696 - 2_049_000
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 0, 0] = 4
    assert _mean_pool(x)[0, 0, 0, 0] == 1  # 4 of the 9 places exist: padding is not averaged
    assert _max_pool(x)[0, 0].tolist() == [[4, 4, 0], [4, 4, 0], [0, 0, 0]]
    assert network.Mixed_7b.pool is _mean_pool and network.Mixed_7c.pool is _max_pool


def test_it_gives_2048_features_and_1008_logits_of_any_photo(network):
    pixels = torch.rand(1, 3, 40, 70)
    found = network(pixels)
    assert found.features_NE.shape == (1, 2048) and found.logits_NC.shape == (1, 1008)
    torch.testing.assert_close(found.logits_NC, found.features_NE @ network.fc.weight.T)
    # it sees 8 bits: what is lost in a PNG makes no difference
    levels = (pixels * 255).byte().float() / 255 + 1e-4
    torch.testing.assert_close(network(levels).features_NE, found.features_NE)


def test_a_block_is_its_branches_beside_each_other(network):
    block, x = network.Mixed_7c, torch.rand(1, 2048, 3, 3)
    once = block.branch3x3_1(x)
    twice = block.branch3x3dbl_2(block.branch3x3dbl_1(x))
    parts = [block.branch1x1(x), block.branch3x3_2a(once), block.branch3x3_2b(once)]
    parts += [block.branch3x3dbl_3a(twice), block.branch3x3dbl_3b(twice)]
    parts += [block.branch_pool(_max_pool(x))]
    torch.testing.assert_close(block(x), torch.cat(parts, dim=1))


def slow_tensorflow1(row, size):
    out = []
    for k in range(size):
        place = k * len(row) / size
        low = int(place)
        high = min(low + 1, len(row) - 1)
        out.append(row[low] + (row[high] - row[low]) * (place - low))
    return out


@pytest.mark.parametrize("side", [5, 64, 299, 400])
def test_tensorflow1_reads_at_multiples_of_the_scale(side):
    torch.manual_seed(2)
    row = torch.rand(side) * 255
    found = resize_tensorflow1(row.expand(1, 1, side, side))[0, 0]
    slow = slow_tensorflow1(row.tolist(), 299)
    assert found[0].tolist() == pytest.approx(slow, abs=1e-3)
    columns = resize_tensorflow1(row[:, None].expand(1, 1, side, side))[0, 0, :, 7]
    assert columns.tolist() == pytest.approx(slow, abs=1e-3)


def test_weights_come_from_a_whole_safetensors_file(network, tmp_path):
    state = dict(network.state_dict())
    state.pop("Conv2d_1a_3x3.bn.num_batches_tracked")  # the published file has none of these
    save_file(state, tmp_path / FILE)
    read = load_inception(tmp_path, resize=resize_tensorflow1)
    assert torch.equal(read.fc.weight, network.fc.weight) and not read.training
    save_file({**state, "fc.weight": torch.zeros(1000, 2048)}, tmp_path / "short.safetensors")
    with pytest.raises(CheckpointError, match=r"1 of its tensors.*fc\.weight"):
        load_inception(tmp_path / "short.safetensors", resize=resize_tensorflow1)
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    for name, says in (
        ("pt_inception.pth", "pickles are not read"),
        ("none.safetensors", "not there"),
        ("broken.safetensors", "damaged"),
    ):
        with pytest.raises(CheckpointError, match=f"{says}.*6726825d.*--inception FILE"):
            load_inception(tmp_path / name, resize=resize_tensorflow1)


# ----------------------------------------------------------------------------------------- LPIPS


@pytest.fixture(scope="module")
def lpips():
    torch.manual_seed(0)
    network = Lpips().eval()
    for weight in network.weights:
        torch.nn.init.uniform_(weight)
    return network


def slow_lpips(state, one, other):
    """Layer by layer in numpy, from the tensors' names; one pair of photos 3HW."""
    pooled_before, strides, pads = (3, 6), {0: 4}, {0: 2, 3: 2}
    x = torch.stack([one, other]) * 2 - 1
    x = (x - torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)) / torch.tensor(
        [0.458, 0.448, 0.450]
    ).view(3, 1, 1)
    total = 0.0
    for layer, number in enumerate((0, 3, 6, 8, 10)):
        if number in pooled_before:
            x = torch.nn.functional.max_pool2d(x, 3, 2)
        weight, bias = state[f"features.{number}.weight"], state[f"features.{number}.bias"]
        x = torch.nn.functional.conv2d(
            x, weight, bias, stride=strides.get(number, 1), padding=pads.get(number, 1)
        ).clamp_min(0)
        f, g = x.permute(0, 2, 3, 1).double().numpy()
        f, g = (y / (np.linalg.norm(y, axis=-1, keepdims=True) + 1e-10) for y in (f, g))
        total += (state[f"weights.{layer}"].double().numpy() * (f - g) ** 2).sum(-1).mean()
    return total


def test_lpips_is_its_definition_and_a_distance_of_photos(lpips):
    torch.manual_seed(1)
    one, other = torch.rand(2, 3, 64, 80), torch.rand(2, 3, 64, 80)
    wanted = [slow_lpips(lpips.state_dict(), one[n], other[n]) for n in range(2)]
    assert lpips(one, other).tolist() == pytest.approx(wanted, rel=1e-4)
    assert lpips(one, one).tolist() == [0, 0]
    assert lpips(other, one).tolist() == pytest.approx(wanted, rel=1e-4)
    assert 0 < lpips(one, one * 0.98)[0] < wanted[0]
    with pytest.raises(DataError, match="equal ones of at least 64"):
        lpips(one, other[..., :60])


def test_lpips_is_read_from_the_names_of_the_published_files(lpips, tmp_path):
    state = {}
    for name, tensor in lpips.state_dict().items():
        if name.startswith("weights."):
            state[f"lin{name[-1]}.model.1.weight"] = tensor.view(1, -1, 1, 1).contiguous()
        else:
            state[name] = tensor
    assert state["features.10.weight"].shape == (256, 256, 3, 3)
    assert [state[f"lin{k}.model.1.weight"].numel() for k in range(5)] == [64, 192, 384, 256, 256]
    save_file(state, tmp_path / LPIPS_FILE)
    one, other = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    assert torch.equal(load_lpips(tmp_path)(one, other), lpips(one, other))
    state.pop("lin3.model.1.weight")
    save_file(state, tmp_path / LPIPS_FILE)
    for path, says in (
        (tmp_path, r"1 of its tensors.*lin3\.model\.1\.weight.*--lpips FILE"),
        (tmp_path / "none.safetensors", r"alexnet-owt-7be5be79\.pth"),
    ):
        with pytest.raises(CheckpointError, match=says):
            load_lpips(path)
