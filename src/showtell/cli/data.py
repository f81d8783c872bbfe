"""data: fetch, look at, check, write and pack data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from showtell.cli.options import (
    READERS,
    DataArgument,
    JsonOption,
    MissingOption,
    RenderOption,
    SkipOption,
    print_json,
    progress,
    render_of,
)

data_app = typer.Typer(
    name="data",
    help="Fetch data and look at it, or write the photo world to files.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@data_app.command("show", epilog="Example: showtell data show world:test 3")
def data_show(
    data: DataArgument,
    index: Annotated[
        int, typer.Argument(metavar="[INDEX]", min=0, help="Which dialogue, from 0.")
    ] = 0,
    model: RenderOption = None,
    json: JsonOption = False,
    skip_bad: SkipOption = False,
) -> None:
    """Print a dialogue, its trained tokens coloured."""
    from showtell.agent.show import dialogue_at, shown_as_dict, shown_dialogue
    from showtell.agent.terminal import screen_of
    from showtell.data.sources import open_data

    source = open_data(data, skip_bad=skip_bad)
    dialogue = dialogue_at(source, index)
    render = render_of(model or READERS.get(source.kind, "mini"))
    if json:
        print_json(shown_as_dict(dialogue, render=render))
    else:
        print(shown_dialogue(dialogue, screen_of(sys.stdout), render=render))


@data_app.command("stats", epilog="Example: showtell data stats world:dev --json")
def data_stats(
    data: DataArgument,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Only the first N dialogues.")
    ] = None,
    model: RenderOption = None,
    json: JsonOption = False,
    skip_bad: SkipOption = False,
) -> None:
    """Count dialogues, turns, photos and tokens."""
    from itertools import islice

    from showtell.agent.show import statistics
    from showtell.data.sources import open_data

    source = open_data(data, skip_bad=skip_bad)
    render = render_of(model or READERS.get(source.kind, "mini"))
    counts = statistics(source, islice(source, limit), render=render)
    if json:
        print_json(counts)
        return
    for name, value in counts.items():
        print(f"{name.replace('_', ' '):<16} {value if isinstance(value, str) else f'{value:>9,}'}")
    for error in source.skipped[:3]:
        print(f"skipped: {error}", file=sys.stderr)


@data_app.command("world", epilog="Example: showtell data world --seeds 0-99 --out out/world")
def data_world(
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="A-B", help="First and last seed, both included.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder.")],
    json: JsonOption = False,
) -> None:
    """Write the photo world as JSONL and PNG."""
    from showtell.data.export import export_world
    from showtell.data.sources import open_data

    source = open_data(f"world:{seeds}")
    told = progress()
    export = export_world(
        source, out, on_dialogue=lambda done: told("dialogues", done, len(source))
    )
    if json:
        print_json(
            {"path": str(export.path), "dialogues": export.dialogues, "photos": export.photos}
        )
    else:
        print(f"Wrote {export.dialogues:,} dialogues and {export.photos:,} photos to {export.path}")


@data_app.command("doctor", epilog="Example: showtell data doctor photochat:data/photochat")
def data_doctor(
    data: DataArgument,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Only N dialogues a split.")
    ] = None,
    no_photos: Annotated[
        bool, typer.Option("--no-photos", help="Leave the pixels alone: names and words only.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where doctor.txt, .json and .html are written."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say what is missing, broken, doubled or leaking in data. It changes nothing.

    Of a folder all splits are read together, and what they share is named. Broken records are
    counted and passed over.
    """
    from showtell.data.audit.examine import examine

    report = examine(data, photos=not no_photos, limit=limit, told=progress())
    print(report.to_json() if json else report.to_text(), end="")
    if out is not None:
        report.write(out)
        if not json:
            print(f"Wrote {out}")


@data_app.command("pack", epilog="Example: showtell data pack mmdialog:data/train --out shards")
def data_pack(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder.")],
    shard_size: Annotated[
        int, typer.Option("--shard-size", min=1, metavar="MB", help="The most a shard may take.")
    ] = 256,
    missing_photos: MissingOption = None,
    json: JsonOption = False,
    skip_bad: SkipOption = False,
) -> None:
    """Write dialogues and photos as WebDataset shards, for training at scale."""
    import dataclasses

    from showtell.data.shards import pack
    from showtell.data.sources import open_data
    from showtell.evaluation.substitutes import missing_photos as policy_of

    policy, paint = policy_of(
        missing_photos, folder=out.with_name(f"{out.name}-painted"), decode=True
    )
    source = open_data(data, skip_bad=skip_bad, missing=policy, paint=paint)
    told = progress()
    packed = pack(
        source,
        out,
        source=data,
        shard_bytes=shard_size * 1_000_000,
        on_dialogue=lambda done: told("dialogues", done, done + 1),
    )
    told("dialogues", packed.dialogues, packed.dialogues)
    if json:
        print_json(
            {
                **dataclasses.asdict(packed),
                "path": str(packed.path),
                "skipped": len(source.skipped),
                "missing": source.missing_counts.as_dict(),
            }
        )
        return
    for error in source.skipped[:3]:
        print(f"skipped: {error}", file=sys.stderr)
    if source.skipped:
        print(f"{len(source.skipped):,} broken records were skipped")
    for note in source.notes:
        print(note)
    if packed.missing_photos:
        print(f"{packed.missing_photos:,} photos are missing and were packed as such")
    print(
        f"Wrote {packed.dialogues:,} dialogues and {packed.photos - packed.missing_photos:,} "
        f"photos in {packed.shards:,} shards to {packed.path}"
    )


@data_app.command("fetch", epilog="Example: showtell data fetch photochat --photos --limit 100")
def data_fetch(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="photochat|dialogcc|mmdialog|vist|visdial|cc3m|parti"),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder (NAME in $SHOWTELL_DATA or data)."),
    ] = None,
    photos: Annotated[
        bool, typer.Option("--photos", help="The photos as well; dead links are counted.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Only the first N photos.")
    ] = None,
    parallel: Annotated[
        int,
        typer.Option(
            "--parallel", min=1, max=16, metavar="N", help="Downloads at a time; 4 a host at most."
        ),
    ] = 4,
    json: JsonOption = False,
) -> None:
    """Download a data set from its owners' addresses; run it again to go on where it stopped."""
    from showtell.agent.bar import download_bar
    from showtell.data.fetch import fetch
    from showtell.data.fetch_sources import default_folder, source_of

    source = source_of(name)
    print(f"{source.notice} Its owners' page: {source.page}", file=sys.stderr, flush=True)
    with download_bar() as told:
        fetched = fetch(
            source,
            out or default_folder(name),
            photos=photos,
            limit=limit,
            parallel=parallel,
            told=told,
        )
    if json:
        print_json(fetched.as_dict())
        return
    for line in fetched.lines():
        print(line)
    print(f"Wrote {fetched.path}")
