"""When a photo comes, asked of a server that speaks the wire of decision models.

    POST ADDRESS/decisions     the talk and one predicate; its probability comes back
    GET  ADDRESS/models        which model, unless the address ends in #MODEL

It is asked where it is named (``--decide``) alone: the words of the talk go to it, and no photo.
What the user says of photos still comes first: nothing is asked then. A server that fails
costs the photo, not the answer: a note says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from showtell.agent.endpoint import MAX_BYTES, Endpoint, short
from showtell.agent.when import When, threshold_of
from showtell.agent.zero_shot import as_chat
from showtell.dialogue import Turn
from showtell.errors import EngineError, UsageError
from showtell.models.reply import Decision, Dial, Wish

QUESTION = (
    "The next message of the assistant is a photo, as the user has asked to see something or the "
    "assistant has something to show; it is not words alone."
)
LAST_TURNS = 40  # of the talk that are sent
PATIENCE_S = 10.0


class Decisions:
    """A server of decisions."""

    def __init__(self, address: str, *, timeout_s: float = PATIENCE_S) -> None:
        """Asks the server for its model. Raises UsageError, EngineError."""
        address, mark, model = address.strip().partition("#")
        address = address.rstrip("/").removesuffix("/decisions")
        self.endpoint = Endpoint(
            f"{address}{mark}{model}",
            what="the decision server",
            timeout_s=timeout_s,
            longest_s=timeout_s,
        )
        self.name = self.endpoint.model()

    def chance(self, turns: Sequence[Turn]) -> float:
        """P(photo next) after these turns. Raises EngineError."""
        asked = {
            "model": self.name,
            "input": as_chat(turns[-LAST_TURNS:]),
            "questions": [{"type": "predicate", "name": "photo", "instructions": QUESTION}],
        }
        said = self.endpoint.whole("POST", "/decisions", asked, max_bytes=MAX_BYTES)
        answers = said.get("answers")
        answer: Any = answers[0] if isinstance(answers, list) and len(answers) == 1 else None
        chance: Any = answer.get("probability") if isinstance(answer, dict) else None
        if isinstance(answer, dict) and answer.get("type") == "refusal":
            raise self.endpoint.wrong("would not say whether a photo comes next")
        sound = isinstance(chance, int | float) and not isinstance(chance, bool)
        if not sound or not 0 <= chance <= 1:
            raise self.endpoint.wrong(f"answered no probability ({short(str(said))})")
        return float(chance)


@dataclass(frozen=True, kw_only=True)
class WhenAsked(When):
    """Decides as ``When`` does, by what the ``server`` says in the model's place."""

    server: Decisions
    threshold: float = threshold_of(1)

    def decide(
        self, p_share: float | None, *, turns: Sequence[Turn], wish: Wish, dial: Dial
    ) -> Decision:
        chance, note = None, ""
        if wish.share is None and dial.kind != "asked":
            try:
                chance = self.server.chance(turns)
            except EngineError as error:
                note = f"{error}; until then photos come only when you ask for them"
        found = super().decide(chance, turns=turns, wish=wish, dial=dial)
        return replace(found, note=note)


def decide_by(agent: Any, server: Decisions) -> None:
    """From now on the server says when the agent shares. Raises UsageError."""
    if not hasattr(agent, "when"):
        raise UsageError(
            f"{agent.name} decides for itself when a photo comes; leave --decide out, or name "
            "another model"
        )
    agent.when = WhenAsked(server=server)
