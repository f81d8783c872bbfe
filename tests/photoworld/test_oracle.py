"""The reader of attributes, untrained and as it is shipped; what degrades photos; its trainer."""

import json
import random

import pytest
import torch

from photoworld import train_oracle as training
from photoworld.drawing import draw
from photoworld.oracle import NUM_FEATURES, READERS, AttributeReader, as_pixels, labelled_photos
from photoworld.scenes import ATTRIBUTES, DEV_SEEDS, is_novel, sample_scene
from showtell.data.world import load_oracle
from showtell.errors import CheckpointError

PHOTOS, LABELS = labelled_photos(DEV_SEEDS[:24])
PIXELS = as_pixels(PHOTOS)


@pytest.fixture(scope="module", params=READERS)
def reader(request):
    return training.build_reader(request.param, seed=1).eval()


def test_a_reader_is_small_and_reads_photos_of_any_size(reader):
    assert sum(p.numel() for p in reader.parameters()) < 450_000
    assert reader.features(PIXELS).shape == (24, NUM_FEATURES)
    assert {n: x.shape[1] for n, x in reader(PIXELS).items()} == {
        name: len(options) for name, options in ATTRIBUTES.items()
    }
    for size in (64, 48, 256):
        for row in reader.read(torch.nn.functional.interpolate(PIXELS[:3], (size, size))):
            assert all(row[name] in options for name, options in ATTRIBUTES.items())


def test_probabilities_do_not_depend_on_the_batch_nor_on_the_mode(reader):
    whole = reader.probabilities(PIXELS)
    parts = reader.train().probabilities(PIXELS, batch_size=5)
    assert reader.training
    reader.eval()
    for name in ATTRIBUTES:
        torch.testing.assert_close(whole[name].sum(-1), torch.ones(24))
        torch.testing.assert_close(whole[name], parts[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 0), (torch.bfloat16, 0.02)])
def test_a_saved_reader_comes_back_in_float32(reader, tmp_path, dtype, error):
    reader.save_pretrained(tmp_path, dtype=dtype)
    again = AttributeReader.from_pretrained(tmp_path)
    assert not again.training and {p.dtype for p in again.parameters()} == {torch.float32}
    for name, p_NO in reader.probabilities(PIXELS).items():
        torch.testing.assert_close(p_NO, again.probabilities(PIXELS)[name], atol=error, rtol=0)


@pytest.mark.parametrize("harm", ["empty", "config", "attributes", "no_weights", "cut_weights"])
def test_a_broken_directory_is_named_with_a_remedy(harm, tmp_path):
    if harm != "empty":
        training.build_reader("oracle", seed=0).save_pretrained(tmp_path)
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    if harm == "config":
        config.write_text("{")
    elif harm == "attributes":
        config.write_text(config.read_text().replace('"farm"', '"moon"'))
    elif harm == "no_weights":
        weights.unlink()
    elif harm == "cut_weights":
        weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ValueError, match="python -m photoworld.train_oracle") as caught:
        AttributeReader.from_pretrained(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(CheckpointError, match="orakel"):
        load_oracle("orakel")


def test_labels_are_the_scenes_own_and_some_scenes_are_novel():
    novel = []
    for seed, photo_3HW, row in zip(DEV_SEEDS, PHOTOS, LABELS.tolist(), strict=False):
        scene = sample_scene(random.Random(seed), novel=seed % 6 == 0)
        assert {
            n: ATTRIBUTES[n][k] for n, k in zip(ATTRIBUTES, row, strict=True)
        } == scene.attributes
        assert photo_3HW.permute(1, 2, 0).numpy().tobytes() == draw(scene).tobytes()
        novel.append(is_novel(scene.subject, scene.colour, scene.place))
    assert 0 < sum(novel) < len(novel) / 3


def test_a_shift_moves_whole_pixels_and_blur_keeps_constants():
    x = PIXELS[:2]
    moved = training.shift(x, dx_N=torch.tensor([2, 0]), dy_N=torch.tensor([0, -1]))
    assert torch.equal(moved[0, :, :, 2:], x[0, :, :, :-2])
    assert torch.equal(moved[0, :, :, 0], x[0, :, :, 0])  # the edge is repeated
    assert torch.equal(moved[1, :, :-1], x[1, :, 1:])
    flat = torch.full((1, 3, 16, 16), 0.3)
    torch.testing.assert_close(training.blur(flat, radius=0.8), flat)
    assert training.blur(PIXELS, radius=1.0).std() < PIXELS.std()


@pytest.mark.parametrize("damage", [training.degrade, training.draw_noise])
def test_degraded_photos_and_noise_stay_pixels_and_repeat_with_their_seed(damage):
    first, again = (damage(PIXELS, generator=torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == PIXELS.shape
    assert first.min() >= 0 and first.max() <= 1


def test_the_command_trains_a_kind_on_photos_of_its_own_and_reports_every_attribute(
    tmp_path, capsys, monkeypatch
):
    losses, loss_of = [], training._loss

    def watched(*args, **given):
        losses.append(loss_of(*args, **given))
        return losses[-1]

    monkeypatch.setattr(training, "_loss", watched)
    size = ["--num-photos", "100", "--num-steps", "50", "--num-dev", "6"]
    training.main(["--kind", "encoder", "--out", str(tmp_path / "new"), *size])
    report = json.loads(capsys.readouterr().out)
    assert report["seed"] == 1 and sum(losses[-10:]) < sum(losses[:10])
    assert report == json.loads((tmp_path / "new" / "report.json").read_text())
    assert all(set(measured) == set(ATTRIBUTES) for measured in report["measures"].values())
    assert AttributeReader.from_pretrained(tmp_path / "new").config.depths == [2, 1, 1, 1]
    (tmp_path / "file").write_text("")
    for wrong in (["--kind", "oracel"], ["--out", str(tmp_path / "file" / "x")]):
        with pytest.raises(SystemExit):
            training.main(["--out", str(tmp_path), *wrong])


@pytest.mark.parametrize("kind", READERS)
def test_the_shipped_reader_measures_as_it_must(kind):
    reader = load_oracle(kind)
    photos_N3HW, labels_NA = labelled_photos(DEV_SEEDS[-400:])
    pixels_N3HW = as_pixels(photos_N3HW)
    blurred_N3HW = training.blur(pixels_N3HW, radius=0.8)
    assert min(training.accuracy(reader, pixels_N3HW, labels_NA).values()) >= 0.98
    assert min(training.accuracy(reader, blurred_N3HW, labels_NA).values()) >= 0.95
    noise_N3HW = torch.rand((64, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    assert max(training.excess_confidence(reader, noise_N3HW).values()) < 0.15
