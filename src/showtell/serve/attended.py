"""Whether anybody still waits: an answer that is not streamed stops as well where its client hangs
up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

from fastapi import Request
from starlette.exceptions import HTTPException

T = TypeVar("T")


async def attended(request: Request, happening: AsyncGenerator[T]) -> AsyncIterator[T]:
    """What happens, as long as the client of ``request`` is there; its body has been read. Where it
    goes, ``happening`` is ended and HTTPException raised, which nobody hears."""
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        while True:
            coming = asyncio.ensure_future(anext(happening))
            await asyncio.wait((coming, gone), return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                await asyncio.wait((coming,))
                raise HTTPException(499, "the client has gone")
            try:
                told = coming.result()
            except StopAsyncIteration:
                return
            yield told
    finally:
        gone.cancel()
        await happening.aclose()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
