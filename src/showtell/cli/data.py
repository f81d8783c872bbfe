"""data: fetch, look at, check and pack data."""

from __future__ import annotations

import sys
from pathlib import Path

from showtell.cli import options as opt
from showtell.progress import terminal_progress

data_app = opt.verbs("data", "Fetch data, look at them, check and pack them.")


@data_app.command("show", epilog="Example: showtell data show world:test 3")
def data_show(
    data: str = opt.DATA,
    index: int = opt.argument("INDEX", "Which dialogue, from 0.", min=0, default=0),
    model: str | None = opt.RENDERS,
    json: bool = opt.JSON,
    skip_bad: bool = opt.SKIP_BAD,
) -> None:
    """Print a dialogue, its trained tokens coloured."""
    from showtell.agent.terminal import console_of
    from showtell.cli.show import dialogue_at, render_of, shown_as_dict, shown_dialogue
    from showtell.data.sources import open_data

    source = open_data(data, skip_bad=skip_bad)
    dialogue = dialogue_at(source, index)
    render = render_of(model, source)
    if json:
        opt.emit(True, shown_as_dict(dialogue, render=render))
    else:
        console = console_of(sys.stdout)
        console.print(shown_dialogue(dialogue, console, render=render))


@data_app.command("stats", epilog="Example: showtell data stats world:dev --json")
def data_stats(
    data: str = opt.DATA,
    limit: int | None = opt.LIMIT,
    model: str | None = opt.RENDERS,
    json: bool = opt.JSON,
    skip_bad: bool = opt.SKIP_BAD,
) -> None:
    """Count dialogues, turns, photos and tokens."""
    from itertools import islice

    from showtell.cli.show import render_of, statistics
    from showtell.data.sources import open_data

    source = open_data(data, skip_bad=skip_bad)
    counts = statistics(source, islice(source, limit), render=render_of(model, source))
    lines = (
        f"{name.replace('_', ' '):<16} {value if isinstance(value, str) else f'{value:>9,}'}"
        for name, value in counts.items()
    )
    opt.emit(json, counts, *lines)
    if not json:
        opt.say_skipped(source)


@data_app.command("doctor", epilog="Example: showtell data doctor photochat:data/photochat")
def data_doctor(
    data: str = opt.DATA,
    limit: int | None = opt.option(None, "limit", "N", "Only N dialogues a split.", min=1),
    no_photos: bool = opt.switch("no-photos", "Leave the pixels alone: names and words only."),
    json: bool = opt.JSON,
) -> None:
    """Say what is missing, broken, doubled or leaking in data. It changes nothing.

    Of a folder all splits are read together, and what they share is named. Broken records are
    counted and passed over.
    """
    from showtell.data.audit.examine import examine

    report = examine(data, photos=not no_photos, limit=limit, told=terminal_progress)
    opt.say((report.to_json() if json else report.to_text()).rstrip("\n"))


@data_app.command("pack", epilog="Example: showtell data pack mmdialog:data/train --out shards")
def data_pack(
    data: str = opt.DATA,
    out: Path = opt.NEW_FOLDER,
    missing_photos: str | None = opt.MISSING,
    json: bool = opt.JSON,
    skip_bad: bool = opt.SKIP_BAD,
) -> None:
    """Write dialogues and photos as WebDataset shards."""
    import dataclasses

    from showtell.data.shards import pack
    from showtell.data.sources import open_data
    from showtell.evaluation.substitutes import missing_photos as policy_of

    policy = policy_of(missing_photos, folder=out.with_name(f"{out.name}-painted"), decode=True)
    source = open_data(data, skip_bad=skip_bad, missing=policy)
    packed = pack(source, out, source=data, told=terminal_progress)
    terminal_progress("dialogues", packed.dialogues, packed.dialogues)
    lines = list(source.notes)
    if source.skipped:
        lines.insert(0, f"{len(source.skipped):,} broken records were skipped")
    if packed.missing_photos:
        lines.append(f"{packed.missing_photos:,} photos are missing and were packed as such")
    opt.emit(
        json,
        {
            **dataclasses.asdict(packed),
            "path": str(packed.path),
            "skipped": len(source.skipped),
            "missing": dict(source.missing_counts),
        },
        *lines,
        f"Wrote {packed.dialogues:,} dialogues and {packed.photos - packed.missing_photos:,} "
        f"photos in {packed.shards:,} shards to {packed.path}",
    )
    if not json:
        opt.say_skipped(source)


@data_app.command("fetch", epilog="Example: showtell data fetch photochat --photos --limit 100")
def data_fetch(
    name: str = opt.argument("NAME", "photochat|dialogcc|mmdialog|vist|visdial|cc3m|parti"),
    out: Path | None = opt.out(None, "DIR", "The folder (NAME in $SHOWTELL_DATA or data)."),
    photos: bool = opt.switch("photos", "The photos as well; dead links are counted."),
    limit: int | None = opt.option(None, "limit", "N", "Only the first N photos.", min=1),
    json: bool = opt.JSON,
) -> None:
    """Download a data set from its owners; run again, it goes on."""
    from showtell.data.fetch import fetch
    from showtell.data.fetch_sources import source_of
    from showtell.data.sources import default_folder

    source = source_of(name)
    folder = out or default_folder(name)
    opt.writable(folder)
    opt.say(f"{source.notice} Its owners' page: {source.page}", file=sys.stderr)
    fetched = fetch(
        source,
        folder,
        photos=photos,
        limit=limit,
        told=terminal_progress,
    )
    found = {"path": str(folder), "counts": dict(fetched.counts), "bytes": fetched.num_bytes}
    opt.emit(json, found, *fetched.lines(), f"Wrote {folder}")
