"""serve: the page and the HTTP service."""

from __future__ import annotations

import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

from showtell.cli import options as opt
from showtell.errors import UsageError, import_extra


def serve(
    model: list[str] = opt.option(
        [],
        "model",
        "NAME|PATH",
        "Who answers; may be repeated. Without it: home over the sample album, and mini.",
    ),
    lm: list[str] = opt.option(
        [], "lm", "ID|DIR|URL", "Any LLM that chats answers, too; URL#NAME; may be repeated."
    ),
    calibration: Path | None = opt.option(
        None, "calibration", "FILE", "What experiments/photochat.py found out about --lm."
    ),
    album: str | None = opt.option(None, "album", "DIR|sample", "Share photos of this album."),
    share_album: bool = opt.switch("share-album", "Let every key see the photos of --album."),
    painter: str | None = opt.option(
        None, "painter", "ID|DIR|URL", "What paints for a model without a painter."
    ),
    host: str = opt.option("127.0.0.1", "host", "ADDRESS", "Where it listens; here alone."),
    port: int = opt.option(8765, "port", "PORT", "Where it listens.", min=0, max=65535),
    name: list[str] = opt.option([], "name", "HOST", "A name that clients call it by; repeatable."),
    data: Path = opt.out(
        "showtell-data", "DIR", "What is kept: talks, photos, albums.", flag="data"
    ),
    store: str | None = opt.option(
        None, "store", "URL", "A PostgreSQL database in its place; several servers may share it."
    ),
    api_keys: Path | None = opt.option(
        None, "api-keys", "FILE", "One key a line; each sees its own talks and album alone."
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
    decide: str | None = opt.DECIDE,
    dial: str | None = opt.DIAL,
    budget: str | None = opt.BUDGET,
    cost: str | None = opt.COST,
    replicas: int = opt.option(
        1, "replicas", "N", "Processes that answer, on Ray (extra ray); wants --store.", min=1
    ),
    fetch: bool = opt.switch("fetch", "Fetch photos that clients send as https addresses."),
    open_page: bool = opt.switch("open", "Open the page in a browser."),
    device: str | None = opt.DEVICE,
    dtype: str | None = opt.DTYPE,
) -> None:
    """Serve the page and the API of chat (until Ctrl-C).

    It listens on this machine alone unless --host says otherwise, and then --api-keys is wanted.
    docs/serve.md shows how clients speak with it.
    """
    import_extra("fastapi", what="showtell serve", extra="serve")
    uvicorn = import_extra("uvicorn", what="showtell serve", extra="serve")
    from showtell.agent.when import dial_of
    from showtell.models.reply import Dial
    from showtell.serve.setting_up import Setup, run_replicas

    local = host in ("127.0.0.1", "localhost", "::1")
    if not local and api_keys is None:
        raise UsageError(
            f"--host {host} lets others in, and nobody is asked for a key; wanted --api-keys FILE "
            "beside it; give both"
        )
    setup = Setup(
        models=tuple(model),
        lms=tuple(lm),
        calibration=calibration,
        album=album,
        share_album=share_album,
        painter=painter,
        data=data,
        store=store,
        api_keys=api_keys,
        pace=pace,
        sign=sign,
        safety=tuple(safety),
        fetch=fetch,
        decide=decide,
        dial=dial_of(dial, budget, cost, usual=Dial()),
        hosts=tuple(name) if local else (*name, host),
        device=device,
        dtype=dtype,
    )
    address = f"http://{'localhost' if local else host}:{port}"

    def ready(who: str) -> None:
        opt.say(f"showtell answers at {address} ({who}); Ctrl-C ends it")
        if open_page:
            import threading
            import webbrowser

            threading.Timer(1.0, webbrowser.open, [address]).start()

    line = _bound(host, port)  # before anything is read
    if replicas > 1:
        line.close()

        def until() -> None:
            ready(f"{replicas} replicas")
            signal.pause()

        run_replicas(setup, replicas=replicas, host=host, port=port, until=until)
        return
    app = setup.app(partial(opt.say, file=sys.stderr))
    settings = uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, server_header=False
    )
    ready(", ".join(app.state.service.workers))
    uvicorn.Server(settings).run(sockets=[line])


def _bound(host: str, port: int) -> socket.socket:
    """A line to listen at. Raises UsageError for an address that is not to be had."""
    try:
        return socket.create_server((host, port), family=_family(host))
    except OSError as error:
        raise UsageError(
            f"{host} port {port} cannot be listened at ({error.strerror or error}); wanted an "
            "address of this machine and a free port; name others with --host and --port"
        ) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def mcp(
    model: str | None = opt.option(
        None, "model", "NAME|PATH", "Who decides, and paints if it can; home, mini or a directory."
    ),
    album: str | None = opt.option(None, "album", "DIR|sample", "The album that is searched."),
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
    """Serve tools to an agent that speaks MCP, on stdin.

    search_album (with --album), paint (with a model that paints, or --painter) and should_i_share.
    docs/serve.md shows how a host is told of it.
    """
    import_extra("mcp", what="showtell mcp", extra="mcp")
    from showtell.agent.audit import Audit
    from showtell.agent.home import agent_of
    from showtell.agent.safety import Safety
    from showtell.serve.setting_up import SHARED
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
