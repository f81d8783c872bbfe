from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from showtell.errors import DataError
from showtell.metrics.pictures import MOST_BYTES, contact_sheet, save_picture


def colours(image):
    return {colour: count for count, colour in image.getcolors(maxcolors=1 << 24)}


def test_a_contact_sheet_shows_every_photo_whole_at_128_px_or_more():
    photos = [Image.new("RGB", (64, 64), (10 * k, 0, 200)) for k in range(7)]
    sheet = contact_sheet(photos, ["a dog"] * 7, columns=3, title="seven")
    assert all(colours(sheet)[10 * k, 0, 200] >= 128 * 128 for k in range(7))
    assert sheet.width < 3 * 190 and sheet.height > 3 * 128
    wide = Image.new("RGB", (200, 50), "blue")
    wide.paste("red", (0, 0, 10, 50))
    wide.paste("lime", (190, 0, 200, 50))
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255)} <= set(colours(contact_sheet([wide], ["wide"])))


def test_captions_stay_inside_their_column_and_a_long_one_ends_in_an_ellipsis():
    photo = Image.new("RGB", (64, 64), "red")
    one = contact_sheet([photo], ["x" * 10_000 + "\nwords " * 10_000], columns=1)
    assert one.width == contact_sheet([photo], ["x"], columns=1).width
    assert one.height < 160 + 150
    margin = one.crop((one.width - 10, 0, one.width, one.height))
    assert set(colours(margin)) == {(255, 255, 255)}
    with pytest.raises(DataError, match="1 photos and 0 captions"):
        contact_sheet([photo], [])


@pytest.mark.parametrize(
    ("values", "side", "mode"), [(2, 900, "RGB"), (256, 500, "P"), (1 << 24, 900, None)]
)
def test_a_picture_too_large_gets_fewer_colours_and_only_then_fewer_pixels(
    tmp_path, values, side, mode
):
    noise = np.random.default_rng(0).integers(values, size=(side, side), dtype=np.uint32)
    image = Image.fromarray(np.stack([noise, noise >> 8, noise >> 16], -1).astype(np.uint8))
    path = save_picture(image, tmp_path / "noise.png")
    assert path.stat().st_size <= MOST_BYTES
    with Image.open(path) as written:
        assert written.width < side if mode is None else written.mode == mode
        if mode is not None:
            assert np.array_equal(np.asarray(written.convert("RGB")), np.asarray(image))
