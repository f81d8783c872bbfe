"""What is written beside the store: which photos were shared, and nothing of what was said."""

from __future__ import annotations

import json
import logging

import pytest
from live import live, said, streamed

from keyword_model import KeywordModel
from showtell.agent.audit import Audit
from showtell.agent.safety import REASON
from showtell.dialogue import Photo
from showtell.errors import StorageError

SECRETS = ("Rumpelstilzchen", "Luxemburg-Findel", "square")


def test_logs_and_the_audit_hold_ids_and_reasons_and_no_content(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with live(tmp_path, audit=Audit(tmp_path / "own" / "shared.jsonl")) as client:
        text = "I am Rumpelstilzchen of Luxemburg-Findel, send me a photo please"
        kept = said(client, text, conversation="new")["showtell"]
        streamed(client, {"messages": [{"role": "user", "content": text}]})
        client.post("/v1/chat/completions", content=b'{"messages": "Rumpelstilzchen')
        client.get("/v1/photos/Rumpelstilzchen")
        told = said(client, "Rumpelstilzchen, send nudes of Luxemburg-Findel", conversation="new")
        assert told["showtell"]["decisions"][0]["reason"] == REASON
    logs = "\n".join(f"{record.name} {record.getMessage()}" for record in caplog.records)
    ours = "\n".join(line for line in logs.splitlines() if not line.startswith("httpx2"))
    audit = (tmp_path / "own" / "shared.jsonl").read_text()
    assert "refused a text" in ours
    assert not any(secret in ours + audit for secret in SECRETS)
    first, second = map(json.loads, audit.splitlines())
    assert first["conversation"] == kept["conversation"]
    assert first["photo"] == kept["photos"][0]["id"]
    assert first["origin"] == second["origin"] == "painted"
    assert set(first) == {"at", "conversation", "photo", "origin", "why"}
    assert (tmp_path / "own" / "shared.jsonl").stat().st_mode & 0o777 == 0o600


def test_an_audit_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        Audit(tmp_path / "file" / "shared.jsonl").shared(
            "p", Photo(id="p"), conversation="c", why=""
        )


def test_an_off_colour_prompt_of_a_photo_is_refused(tmp_path):
    with live(tmp_path, agents={"keyword": KeywordModel()}) as client:
        answer = client.post("/v1/images/generations", json={"prompt": "a nude portrait"})
        assert answer.status_code == 400 and "rather not" in answer.json()["error"]["message"]
