"""Photos that are nearly the same: one shot at another size, saved again, a little cut.

Two looks at each: which of its neighbours is lighter on a grid of 8 x 8 (dHash: 64 bits, quick to
compare with all), and its colours on that grid. Photos are alike where both agree: the bits alone
see no colour, and call all plain pictures equal.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

GRID = 8
# chosen on the sample album's photos, saved again, halved and cut, and on drawn near misses
MOST_BITS, MOST_MEAN, MOST_ONE = 8, 3.5, 18


def look_of(image: Image.Image) -> bytes:
    """8 bytes of what is lighter, and 192 of colours."""
    small = image.convert("RGB").resize((GRID, GRID), Image.Resampling.BOX)
    grey = image.convert("L").resize((GRID + 1, GRID), Image.Resampling.BOX)
    grey_88 = np.asarray(grey, dtype=np.int16)
    return np.packbits(grey_88[:, 1:] > grey_88[:, :-1]).tobytes() + small.tobytes()


class Looks:
    """The looks of photos, by number, in the order of their coming."""

    def __init__(self, looks: list[bytes]) -> None:
        self._rows_MB = np.zeros((max(64, 2 * len(looks)), 8 + 3 * GRID * GRID), dtype=np.uint8)
        self._count = 0
        for look in looks:
            self.append(look)

    def append(self, look: bytes) -> None:
        if self._count == len(self._rows_MB):
            self._rows_MB = np.concatenate([self._rows_MB, np.zeros_like(self._rows_MB)])
        self._rows_MB[self._count] = np.frombuffer(look, dtype=np.uint8)
        self._count += 1

    def first_alike(self, look: bytes) -> int | None:
        """The first photo that is nearly the same."""
        row_B = np.frombuffer(look, dtype=np.uint8)
        rows_MB = self._rows_MB[: self._count]
        differ_M = np.bitwise_count(rows_MB[:, :8] ^ row_B[:8]).sum(1)
        near_M = np.flatnonzero(differ_M <= MOST_BITS)
        colours_NC = np.abs(rows_MB[near_M, 8:].astype(np.int16) - row_B[8:])
        alike = (colours_NC.mean(1) <= MOST_MEAN) & (colours_NC.max(1, initial=0) <= MOST_ONE)
        return int(near_M[alike][0]) if alike.any() else None
