"""The records of a stage while it runs, for who watches: JSON lines, or files of TensorBoard.

A run that is resumed has each step once.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from showtell.errors import import_extra

Write = Callable[[Mapping[str, float]], None]
FILE = "log.jsonl"


@contextlib.contextmanager
def records_kept(kind: str, folder: Path, *, step: int) -> Iterator[Write]:
    """What writes a record; those after ``step``, from which the stage goes on, are dropped.

    Raises MissingDependency for TensorBoard where it is not installed.
    """
    if kind == "tensorboard":
        import_extra("tensorboard", what="TensorBoard's records", extra="logs")
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(folder), purge_step=step + 1) as events:

            def note(record: Mapping[str, float]) -> None:
                for name, value in record.items():
                    if name != "step":
                        events.add_scalar(name, value, int(record["step"]))
                events.flush()

            yield note
        return
    if kind != "jsonl":
        yield lambda record: None
        return
    path = folder / FILE
    kept = []
    if path.exists() and step:
        with contextlib.suppress(ValueError):  # a line that a kill cut
            for line in path.read_text().splitlines():
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
    with path.open("w") as file:
        file.writelines(kept)

        def add(record: Mapping[str, float]) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()

        yield add
