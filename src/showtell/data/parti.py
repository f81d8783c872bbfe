"""PartiPrompts and the votes of GILL (2305.17216): retrieve a photo for this prompt, or generate?

Reads the tab-separated files that GILL released, by the names in their first line; quotation marks
mean nothing. ``Decisions`` holds five people's votes (four for two prompts), ``Decision`` what is
left of them where people agreed:

    Prompt  Category  Challenge  Note  Decisions              Prompt ... Note  Decision
    bond    Abstract  Basic      ...   ret,gen,gen,same,gen   bond   ... ...   gen

``PartiPromptsAllDecisions_Alignment.tsv`` and ``PartiPromptsDecisionsConfident.tsv`` are one set:
the second is ``confident`` of the first. The file on realism has other votes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast, get_args

from showtell.data.jsonl import opened, parse_lines
from showtell.errors import DataError

Vote = Literal["gen", "ret", "same"]
GEN: Final = "gen"
RET: Final = "ret"
SAME: Final = "same"

NUM_TRAIN = 600  # GILL's split: the first 600 on which people agree, in the order of the file
_COLUMNS = ("Prompt", "Category")
_FORMAT = (
    "Wanted: a tab-separated file whose first line has Prompt, Category, and Decisions or "
    "Decision, as GILL released them (PartiPromptsAllDecisions_Alignment.tsv)."
)


@dataclass(frozen=True, kw_only=True)
class PartiPrompt:
    """A prompt and people's votes on it; ``votes`` is empty where a file gives only the label."""

    prompt: str
    category: str
    votes: tuple[Vote, ...]
    label: Vote

    def count(self, vote: Vote) -> int:
        return self.votes.count(vote)


def confident(votes: Iterable[Vote]) -> Vote:
    """GILL's label: gen or ret by four votes, or by three against one at most; else same."""
    votes = tuple(votes)
    gen, ret = votes.count(GEN), votes.count(RET)
    if gen >= 4 or (gen == 3 and ret <= 1):
        return GEN
    if ret >= 4 or (ret == 3 and gen <= 1):
        return RET
    return SAME


def read_parti(path: str | Path) -> Iterator[PartiPrompt]:
    """The prompts of a file, in order, one by one.

    Raises DataError, which names file and line, for a file that is missing, empty or another, a
    line with more or fewer fields, an empty prompt or an unknown vote.
    """
    path = Path(path)
    columns: list[str] = []
    found = 0
    with opened(path, wanted=_FORMAT) as file:
        for line in parse_lines(file, path.name):
            if isinstance(line, DataError):
                raise line
            text, where = line
            fields = text.rstrip("\r\n").split("\t")
            if columns:
                found += 1
                yield _prompt(fields, columns, where)
                continue
            columns = fields
            if not set(_COLUMNS) <= set(columns) or not {"Decisions", "Decision"} & set(columns):
                raise DataError(f"{path.name} begins with {text[:80]!r}. {_FORMAT}")
    if not found:
        raise DataError(f"{path.name} holds no prompt. {_FORMAT}")


def _prompt(fields: list[str], columns: list[str], where: str) -> PartiPrompt:
    if len(fields) != len(columns):
        raise DataError(
            f"{where}: {len(fields)} fields, wanted {len(columns)} ({', '.join(columns)}). "
            "Correct the line."
        )
    row = dict(zip(columns, fields, strict=True))
    if not row["Prompt"].strip():
        raise DataError(f"{where}: the prompt is empty. Correct the line, or remove it.")
    several = "Decisions" in row
    words = row["Decisions"].split(",") if several else [row["Decision"]]
    votes = tuple(cast(Vote, word.strip()) for word in words)
    for vote in votes:
        if vote not in get_args(Vote):
            raise DataError(
                f'{where}: "{vote[:40]}" is no vote, wanted {", ".join(get_args(Vote))}. '
                "Correct the line."
            )
    return PartiPrompt(
        prompt=row["Prompt"],
        category=row["Category"],
        votes=votes if several else (),
        label=confident(votes) if several else votes[0],
    )


# -------------------------------------------------------------------------------- which of them


def gill_split(
    prompts: Iterable[PartiPrompt], *, num_train: int = NUM_TRAIN
) -> tuple[list[PartiPrompt], list[PartiPrompt]]:
    """(train, test): those with a label, in order; the first 600 train, the rest test.

    On the released file 600 and 311. Raises DataError where one side would be empty.
    """
    labelled = [prompt for prompt in prompts if prompt.label != SAME]
    if not 0 < num_train < len(labelled):
        raise DataError(
            f"{len(labelled)} prompts have a label and {num_train} are to train on; wanted some "
            "on either side. Read the whole file, or train on fewer."
        )
    return labelled[:num_train], labelled[num_train:]


def near_ties(prompts: Iterable[PartiPrompt]) -> list[PartiPrompt]:
    """Those that people split three to two on (277 of the released file): label ``same``."""
    return [p for p in prompts if {p.count(GEN), p.count(RET)} == {2, 3}]


def majority(prompt: PartiPrompt) -> Vote:
    """gen or ret, by more votes; same where there are as many of each (or none)."""
    gen, ret = prompt.count(GEN), prompt.count(RET)
    return GEN if gen > ret else RET if ret > gen else SAME
