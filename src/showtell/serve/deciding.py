"""/v1/decisions: does a photo come next? The wire is that of decision models. What is answered is
the agent's own P(photo next), and a question about anything else is refused."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from showtell.agent.beside import decision_of
from showtell.models.reply import Decision
from showtell.serve.keys import Asking
from showtell.serve.responses import messages_of, usage_of
from showtell.serve.rooms import service_of
from showtell.serve.wire import asked_of, turns_of

deciding = APIRouter()
_PHOTO = re.compile(r"\b(?:photo|picture|image|foto|imagen)", re.IGNORECASE)


class Question(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: str = Field(max_length=40)
    name: str | None = Field(None, max_length=200)


class DecisionsRequest(BaseModel):
    """The fields that count here; others are let pass."""

    model_config = ConfigDict(extra="allow")

    model: str | None = Field(None, max_length=300)
    input: str | list[dict[str, Any]]
    questions: list[Question] = Field(min_length=1, max_length=400)


@deciding.post("/v1/decisions")
async def decisions(request: Request, asked: DecisionsRequest, owner: Asking) -> dict[str, Any]:
    """P(photo next) after this talk, for each predicate about photos; a refusal for what else."""
    service = service_of(request)
    name, worker = service.named(asked.model)
    said = await service.do(asked_of, messages_of(asked.input), outside=service.outside)
    turns, images = turns_of(said.all, {})
    dial = await service.do(service.dial, owner)
    found: Decision = await service.ask(
        worker.alone, lambda _: decision_of(worker.agent, turns, images, dial=dial)
    )
    chance = found.p_share if found.chance is None else found.chance
    answers = []
    for question in asked.questions:
        told = " ".join(each for each in question.model_dump().values() if isinstance(each, str))
        if question.type == "predicate" and chance is not None and _PHOTO.search(told):
            answers.append({"type": "predicate", "name": question.name, "probability": chance})
        else:
            answers.append({"type": "refusal", "name": question.name})
    return {"model": name, "answers": answers, "usage": usage_of(0, 0), "showtell": vars(found)}
