"""What a stage on dialogues trains: any examples, read whole or in excerpts, through the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from showtell.batch import Batch, collate
from showtell.dialogue import AGENT, USER, Dialogue, Photo
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.prompt import IGNORED, Rendered, Renderer
from showtell.training.task import Losses, Task

BEFORE = 6  # turns that an excerpt may show before what is told


@dataclass
class DialogueTask(Task):
    """Dialogues through the whole model, or only its words where ``pixels_of`` is None.

    ``module.renderer`` decides what is trained. Every second visit reads ``exchanged`` of the
    dialogue, where it is given. ``excerpts`` is the share of visits that read an excerpt (see
    ``excerpt``): more photos a second, for what is told of them. Examples of which ``excerpt_only``
    holds are always read so: a captioning example would teach to share after every photo.
    """

    module: PhotoDialogueModel
    dialogue: Callable[[int], Dialogue]
    length: int
    pixels_of: Callable[[Photo], Tensor] | None = None
    made_pixels_of: Callable[[Photo], Tensor] | None = None  # of photos to make; None: pixels_of
    exchanged: Callable[[Dialogue], Dialogue] | None = None
    excerpts: float = 0.0
    excerpt_only: Callable[[int], bool] = lambda index: False
    drop_words: float = 0.0  # of the words that are read and not learnt: against learning by heart
    validate_with: Callable[[PhotoDialogueModel], dict[str, float]] | None = None
    blocks: Sequence[range] | None = None
    prefetch_with: Callable[[Sequence[int]], None] | None = None
    data: str = "the data"

    def __len__(self) -> int:
        return self.length

    def parts(
        self, indices: Sequence[int], *, count: int | None, generator: torch.Generator
    ) -> Iterator[tuple[Losses, Mapping[str, float]]]:
        """The batch in parts of like length: the same losses, less padding. A GPU, which waits for
        the calls of so small models, gets one part unless ``count`` says another number."""
        rows = [self.row(index, generator=generator) for index in indices]
        count = count or (4 if self.module.device.type == "cpu" else 1)
        batches = [self.batch(part, generator=generator) for part in by_length(rows, count)]
        counts = [self.module.loss_counts(batch) for batch in batches]
        for batch, own in zip(batches, counts, strict=True):
            losses = self.module(batch, generator=generator)
            yield losses, {n: own[n] / sum(other[n] for other in counts) for n in losses}

    def row(self, index: int, *, generator: torch.Generator) -> Rendered:
        """What a visit to an example reads."""
        dialogue = self.dialogue(index)
        if self.exchanged and _drawn(0.5, generator):
            dialogue = self.exchanged(dialogue)
        row = None
        if self.excerpt_only(index) or (self.excerpts and _drawn(self.excerpts, generator)):
            row = excerpt(self.module.renderer, dialogue, before=BEFORE, generator=generator)
        return row or self.module.renderer.render(dialogue)

    def batch(self, rows: Sequence[Rendered], *, generator: torch.Generator) -> Batch:
        """Rows as one batch, some of their words dropped."""
        batch = collate(
            rows,
            pad_id=self.module.language.tokenizer.pad_token_id,
            pixels_of=self.pixels_of,
            made_pixels_of=self.made_pixels_of,
            paint=self.module.painter is not None,
        )
        if not self.drop_words:
            return batch
        dropped_BT = words_dropped(
            batch.ids_BT, model=self.module, rate=self.drop_words, generator=generator
        )
        ids_BT = torch.where(batch.labels_BT == IGNORED, dropped_BT, batch.ids_BT)
        return dataclasses.replace(batch, ids_BT=ids_BT)

    def prefetch(self, indices: Sequence[int]) -> None:
        if self.prefetch_with:
            self.prefetch_with(indices)

    def advance(self, epoch: float, *, of: float) -> None:
        self.module.bridge.advance(epoch, of=of)

    def validate(self) -> dict[str, float]:
        return self.validate_with(self.module) if self.validate_with else {}


def _drawn(share: float, generator: torch.Generator) -> bool:
    return bool(torch.rand(1, generator=generator) < share)


def by_length(rows: Sequence[Rendered], parts: int) -> list[list[Rendered]]:
    """The rows in up to ``parts`` groups of like length."""
    ordered = sorted(rows, key=lambda row: len(row.ids))
    size = -(-len(ordered) // parts)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def excerpt(
    renderer: Renderer, dialogue: Dialogue, *, before: int, generator: torch.Generator
) -> Rendered | None:
    """One of the agent's turns that shares a photo or speaks of one, and 1 to ``before`` turns.

    How many is drawn, and the last photo by the user is among them: what is told of it cannot be
    learnt without it. Copying is learnt from near first, and short rows are more rows a second.
    Only what that turn says is trained, and not whether it is a photo: excerpts are chosen for
    their photos, so they would teach to share too often. None where there is no such turn.
    """
    about = [
        k
        for k, turn in enumerate(dialogue.turns)
        if turn.speaker == AGENT and (turn.photos or turn.labels.get("named"))
    ]
    if not about:
        return None
    last = about[int(torch.randint(len(about), (1,), generator=generator))]
    first = last - 1 - int(torch.randint(before, (1,), generator=generator))
    shown = [k for k in range(max(0, last - before), last) if dialogue.turns[k].speaker == USER]
    shown = [k for k in shown if dialogue.turns[k].photos]
    first = max(0, min([first, *shown[-1:]]))
    row = renderer.render_turns(dialogue.turns[first : last + 1])
    opening = max(place.index for place in row.moments)  # the next token is [IMG], or a word
    return dataclasses.replace(
        row,
        labels=[IGNORED] * (opening + 2) + row.labels[opening + 2 :],
        spans=[place for place in row.spans if place.start > opening],
        moments=[],
    )


def words_dropped(
    ids_BT: Tensor, *, model: PhotoDialogueModel, rate: float, generator: torch.Generator
) -> Tensor:
    """The ids with some of the words unreadable, as padding; the marks of turns and photos stay."""
    marks = ids_BT.new_tensor(sorted(model.renderer.special))
    chosen_BT = (torch.rand(ids_BT.shape, generator=generator) < rate).to(ids_BT.device)
    chosen_BT &= ~torch.isin(ids_BT, marks)
    return ids_BT.masked_fill(chosen_BT, model.language.tokenizer.pad_token_id)
