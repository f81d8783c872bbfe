"""serve: the page and the HTTP service."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from showtell.cli import options as opt
from showtell.errors import UsageError, import_extra

FILE, SHARED = "showtell.db", "shared.jsonl"


def serve(
    model: list[str] = opt.option(
        [],
        "model",
        "NAME|PATH",
        "Who answers; may be repeated. Without it: home over the sample album, and mini.",
    ),
    album: str | None = opt.option(None, "album", "DIR|sample", "Share photos of this album."),
    painter: str | None = opt.option(
        None, "painter", "ID|DIR|URL", "What paints for a model without a painter."
    ),
    host: str = opt.option("127.0.0.1", "host", "ADDRESS", "Where it listens; here alone."),
    port: int = opt.option(8765, "port", "PORT", "Where it listens.", min=0, max=65535),
    name: list[str] = opt.option([], "name", "HOST", "A name that clients call it by; repeatable."),
    data: Path = opt.out("showtell-data", "DIR", "What is kept: talks and photos.", flag="data"),
    store: str | None = opt.option(
        None, "store", "URL", "A PostgreSQL database in its place; several servers may share it."
    ),
    api_keys: Path | None = opt.option(
        None, "api-keys", "FILE", "One key a line; each sees its own talks alone."
    ),
    pace: str | None = opt.option(
        None, "pace", "N/TIME", 'How many answers one key gets, as "30/minute".'
    ),
    sign: Path | None = opt.option(
        None, "sign", "PEM", "Sign painted photos (C2PA): a key and its chain, in one file."
    ),
    safety: list[str] = opt.option(
        [], "safety", "NAME|off", "A check of texts, by its dotted path; may be repeated."
    ),
    dial: str | None = opt.DIAL,
    budget: str | None = opt.BUDGET,
    cost: str | None = opt.COST,
    fetch: bool = opt.switch("fetch", "Fetch photos that clients send as https addresses."),
    open_page: bool = opt.switch("open", "Open the page in a browser."),
    device: str | None = opt.DEVICE,
    dtype: str | None = opt.DTYPE,
) -> None:
    """Serve the page and the API of chat completions until Ctrl-C.

    It listens on this machine alone unless --host says otherwise, and then --api-keys is wanted.
    docs/serve.md shows how clients speak with it.
    """
    import_extra("fastapi", what="showtell serve", extra="serve")
    uvicorn = import_extra("uvicorn", what="showtell serve", extra="serve")
    from showtell.agent.audit import Audit
    from showtell.agent.provenance import Signing
    from showtell.agent.safety import Safety
    from showtell.agent.when import dial_of
    from showtell.models.reply import Dial
    from showtell.serve.app import build_app
    from showtell.serve.keys import Keys, Pace
    from showtell.serve.outside import Outside
    from showtell.serve.service import Service
    from showtell.serve.store import Store

    local = host in ("127.0.0.1", "localhost", "::1")
    if not local and api_keys is None:
        raise UsageError(
            f"--host {host} lets others in, and nobody is asked for a key; wanted --api-keys FILE "
            "beside it; give both"
        )
    how = dial_of(dial, budget, cost, usual=Dial())
    checks = Safety(safety) if safety else Safety()
    signing = None if sign is None else Signing(sign)
    keys = Keys() if api_keys is None else Keys.read(api_keys)
    kept = Store(store if store is not None else data / FILE)
    workers = _workers(model, album, painter)
    outside = Outside(schemes=("https",)) if fetch else Outside()
    service = Service(
        workers,
        kept,
        outside=outside,
        signing=signing,
        safety=checks,
        audit=Audit(data / SHARED),
        dial=how,
    )
    app = build_app(
        service,
        keys=keys,
        pace=None if pace is None else Pace(pace),
        hosts=tuple(name) if local else (*name, host),
    )
    settings = uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, server_header=False
    )
    server = uvicorn.Server(settings)
    address = f"http://{'localhost' if local else host}:{port}"
    opt.say(f"showtell answers at {address} ({', '.join(workers)}); Ctrl-C ends it")
    if open_page:
        import threading
        import webbrowser

        threading.Timer(1.0, webbrowser.open, [address]).start()
    server.run()


def mcp(
    model: str | None = opt.option(
        None, "model", "NAME|PATH", "Who decides, and paints if it can; home, mini or a directory."
    ),
    album: Path | None = opt.option(None, "album", "DIR|sample", "The album that is searched."),
    painter: str | None = opt.option(
        None, "painter", "ID|DIR|URL", "What paints for a model without a painter."
    ),
    photos_dir: Path = opt.out(
        "showtell-photos", "DIR", "Where photos are written.", flag="photos-dir"
    ),
    safety: list[str] = opt.option(
        [], "safety", "NAME|off", "A check of texts, by its dotted path; may be repeated."
    ),
    device: str | None = opt.DEVICE,
    dtype: str | None = opt.DTYPE,
) -> None:
    """Serve tools to an agent that speaks MCP, on stdin and stdout.

    search_album (with --album), paint (with a model that paints, or --painter) and should_i_share.
    docs/serve.md shows how a host is told of it.
    """
    import_extra("mcp", what="showtell mcp", extra="mcp")
    from showtell.agent.audit import Audit
    from showtell.agent.home import agent_of
    from showtell.agent.safety import Safety
    from showtell.serve.tools import build_tools

    found = None
    if album is not None:
        from showtell.agent.album_words import open_photos
        from showtell.progress import terminal_progress

        found = open_photos(album, told=terminal_progress)
    agent = agent_of(model, say=partial(opt.say, file=sys.stderr), painter=_painter(painter))
    build_tools(
        agent,
        album=found,
        folder=photos_dir,
        safety=Safety(safety) if safety else Safety(),
        audit=Audit(photos_dir / SHARED),
    ).run()


def _painter(name: str | None) -> Any:
    from showtell.agent.engines import open_painter

    return None if name is None else open_painter(name)


def _workers(models: list[str], album: str | None, painter: str | None) -> dict:
    """Who answers, by name."""
    from showtell.agent.home import HOME, MINI, agent_of, home_is_here
    from showtell.serve.worker import Worker

    say = partial(opt.say, file=sys.stderr)
    paints = _painter(painter)
    chosen = models
    if not chosen:
        chosen = [HOME, MINI] if home_is_here(say=say) else [MINI]
        album = album if album is not None or chosen[0] != HOME else "sample"
    workers = {}
    if (album or painter) is not None and set(chosen) == {MINI}:
        flag = f"--album {album}" if album is not None else f"--painter {painter}"
        raise UsageError(
            f"{flag} is for a model whose photos come from elsewhere, and {MINI} paints its own; "
            "name another --model beside it, or leave it out"
        )
    for each in chosen:
        words = each != MINI
        agent = agent_of(
            each, say=say, album=album if words else None, painter=paints if words else None
        )
        workers[agent.name] = Worker(agent)
    return workers
