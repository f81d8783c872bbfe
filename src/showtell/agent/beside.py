"""What an agent is asked beside a talk: a photo of words, and whether a photo comes next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from showtell.dialogue import PAINTED_BY, Photo, Turn
from showtell.errors import UsageError
from showtell.models.reply import Decision, Dial, Shared, Wish

if TYPE_CHECKING:
    from PIL.Image import Image


def photo_of(
    agent: Any,
    words: str,
    *,
    seed: int,
    album: str = "",
    on_step: Callable[..., None] | None = None,
) -> Shared:
    """A photo of words by an agent's own painter, or else from where its photos come (``album``:
    whose is asked); ``on_step`` is called behind each step of painting. Raises UsageError for one
    that has neither, and for words of which its card says that it cannot show them."""
    painter = getattr(getattr(agent, "model", None), "painter", None)
    if painter is not None:
        from showtell.agent.honest import cannot_show
        from showtell.batch import to_image

        if said := cannot_show(words, agent.card):
            raise UsageError(said)
        photo = Photo(
            id=f"painted-{seed}",
            caption=words,
            origin="painted",
            seed=seed,
            labels={PAINTED_BY: agent.name},
        )
        pixels_3HW = agent.paint_captions([words], seeds=[seed], callback=on_step)[0]
        return Shared(photo=photo, image=to_image(pixels_3HW))
    if (photos := getattr(agent, "photos", None)) is None:
        raise UsageError(f"{agent.name} makes no photos of words; name a model that does")
    notes: list[str] = []
    wish = Wish(share=True, words=words, album=album)
    shared: Shared = photos.share(
        words,
        wish=wish,
        photo_id=f"painted-{seed}",
        seed=seed,
        shown=(),
        notes=notes,
        on_step=on_step,
    )
    return shared


def decision_of(
    agent: Any, turns: tuple[Turn, ...], images: Mapping[str, Image], *, dial: Dial
) -> Decision:
    """What the agent would decide at the start of its next turn. Raises UsageError for one that
    does not say."""
    if (decoder := getattr(agent, "decoder", None)) is None:
        raise UsageError(f"{agent.name} tells no chance of a photo; name a model that does")
    import torch

    with torch.no_grad():
        writing, _ = decoder.read_all(agent.describe_all([turns], [images]), [images])
        decoder.open_turn(writing)
        p_share = float(decoder.p_share(writing)[0])
    found: Decision = agent.when.decide(
        p_share, turns=turns, wish=agent.when.wish(turns), dial=dial
    )
    return found
