"""What an answer asks for next: the answers of many rows are brought on together, a step at a time.

The steps of one row are a generator. It yields Needs (tokens to be read, a photo to be seen, a text
to be written) and is sent what came of each; ``Decoder.step`` meets those of all rows that it can
meet at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from PIL import Image
from torch import Tensor

Made = TypeVar("Made")


class Need:
    """What a row waits for."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was read: K tokens' embeddings, the states before and after each, and the logits now."""

    embeds_KD: Tensor
    before_KD: Tensor
    after_KD: Tensor
    logits_BV: Tensor  # of this row alone: B is 1


@dataclass(frozen=True)
class Read(Need):
    """These tokens; Seen comes of them."""

    ids: Sequence[int]


@dataclass(frozen=True)
class See(Need):
    """A photo that the row has shared, as it sees it from now on."""

    image: Image.Image


@dataclass(kw_only=True)
class Write(Need):
    """Words, one at least, until ``stop``, which is not read: their tokens come of it. ``on_text``
    hears each piece."""

    stop: int
    temperature: float
    top_p: float
    die: torch.Generator
    on_text: Callable[[str], None] | None = None
    ids: list[int] = field(default_factory=list)
    said: str = ""


Steps = Generator[Need, Any, Made]


class Under(Generic[Made]):
    """A row's steps under way: its ``need``, until it is ``done``, with ``made``, or ``error``."""

    def __init__(self, steps: Steps[Made]) -> None:
        self.steps = steps
        self.need: Need | None = None
        self.pending: list[int] = []  # tokens that are to be read
        self.read: list[tuple[Tensor, Tensor, Tensor]] = []
        self.done = False
        self.made: Made | None = None
        self.error: BaseException | None = None
        self.go_on(None)

    def go_on(self, came: Any) -> None:
        """What was needed is here."""
        try:
            self.need = self.steps.send(came)
        except StopIteration as ended:
            self.done, self.made = True, ended.value
        except BaseException as error:  # whoever waits for this row is told it
            self.fail(error)
        else:
            if isinstance(self.need, Read):
                self.pending = list(self.need.ids)

    def fail(self, error: BaseException) -> None:
        """No more of it."""
        self.steps.close()
        self.done, self.error, self.pending = True, error, []

    def writes(self, token: int) -> None:
        """The next token of its text."""
        assert isinstance(self.need, Write)
        self.need.ids.append(token)
        self.pending = [token]

    def has_read(
        self, embeds_KD: Tensor, before_KD: Tensor, after_KD: Tensor, logits: Tensor
    ) -> None:
        """The next K of its tokens."""
        self.pending = self.pending[len(after_KD) :]
        if isinstance(self.need, Read):
            self.read.append((embeds_KD, before_KD, after_KD))
            if not self.pending:
                embeds, before, after = (torch.cat(each) for each in zip(*self.read, strict=True))
                self.read = []
                self.go_on(
                    Seen(embeds_KD=embeds, before_KD=before, after_KD=after, logits_BV=logits)
                )
