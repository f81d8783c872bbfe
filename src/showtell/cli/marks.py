"""origin: what photos say of where they are from."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from showtell.cli import options as opt
from showtell.errors import PhotoError


def origin(
    files: list[Path] = opt.argument("FILE...", "Photos."),
    json: bool = opt.JSON,
) -> None:
    """Tell what photos say of where they are from.

    That is by which model they were painted, with what seed, and signed by whom.
    A photo that says nothing may have been painted all the same: marks can be taken off. With the
    extra c2pa, signatures are read: Valid means that nothing was altered since, and not that one
    may trust who signed.
    """
    from showtell.agent.provenance import mark_of, signature_of
    from showtell.data.photos import photo_bytes

    signatures = importlib.util.find_spec("c2pa") is not None
    found: dict[str, dict[str, Any]] = {}
    lines, wrong = [], []
    for file in files:
        try:
            data = photo_bytes(str(file))
            mark = mark_of(data, name=f'"{file}"')
        except PhotoError as error:  # of the others one wants to know all the same
            wrong.append(error)
            found[str(file)] = {"error": str(error)}
            continue
        signature = signature_of(data) if signatures else None
        found[str(file)] = {**vars(mark), "signature": signature}
        told = ["painted"] if mark.generated else ["says nothing"]
        told += [f"by {mark.model}"] if mark.model else []
        told += [f"seed {mark.seed}"] if mark.seed is not None else []
        if signature is not None:
            told.append(f"signature {signature['state']}, by {signature['by'] or 'nobody named'}")
        lines.append(f"{file}: {', '.join(told)}")
    opt.emit(json, found, *lines)
    if wrong:
        raise PhotoError("\n".join(map(str, wrong)))
