"""A photo out of states that a server computes: the two-call way, for bridges that read states.

The server has the model's LLM (``showtell export``), and writes its words as any other. Where it
says the bridge's first token, a photo belongs, and the same talk is sent once more as token ids,
with all of the bridge's tokens behind it: of these come the LLM's last states, and bridge and
painter are here. Photos of the talk stand as their captions.

vLLM: ``extract_hidden_states`` of the last layer, before its norm, which is applied here; it
writes them to a file of a folder that both can read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from showtell.agent.endpoint import MAX_BYTES, Endpoint
from showtell.dialogue import AGENT, Photo, Turn
from showtell.errors import ConfigError
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.models.language import LanguageModel
from showtell.models.parts import PhotoSpans

WAIT_S = 10.0  # for the file, which is written beside the answer
_NORMS = ("norm", "final_layernorm", "final_layer_norm", "ln_f")


class RemoteStates:
    """The LLM of a model of ours behind ``address`` (http://HOST:PORT/v1#NAME), which writes its
    states below the folder ``shared``."""

    def __init__(self, address: str, *, shared: Path) -> None:
        """Raises UsageError for what is no address."""
        self.endpoint = Endpoint(address, what="the server of hidden states")
        self.shared = shared

    def read(self, ids: Sequence[int]) -> Tensor:
        """The states of the last layer, before its norm, (T, D). Raises EngineError."""
        server = self.endpoint
        body = {"model": server.model(), "prompt": list(ids), "max_tokens": 1}
        said = server.whole("POST", "/completions", body, max_bytes=MAX_BYTES)
        told = said.get("kv_transfer_params")
        named = told.get("hidden_states_path") if isinstance(told, dict) else None
        if not isinstance(named, str):
            raise server.wrong(
                "answered without kv_transfer_params.hidden_states_path; start it with the method "
                "extract_hidden_states (docs/models.md)"
            )
        path = Path(named)
        if not path.resolve().is_relative_to(self.shared.resolve()):
            raise server.wrong(f'wrote its states to "{named:.200}", which is not in {self.shared}')
        tensors = self._file(path)
        states_TLD, told_T = tensors.get("hidden_states"), tensors.get("token_ids")
        if states_TLD is None or states_TLD.dim() != 3 or len(states_TLD) < len(ids):
            raise server.wrong("wrote no hidden_states of [tokens, layers, width] for every token")
        if told_T is not None and told_T.tolist()[: len(ids)] != list(ids):
            raise server.wrong("wrote the states of other tokens than it was asked for")
        return states_TLD[: len(ids), -1]

    def _file(self, path: Path) -> dict[str, Tensor]:
        """Its tensors, once it is whole; then it is removed."""
        until = monotonic() + WAIT_S
        while True:
            try:
                tensors = load_file(path)
                break
            except (OSError, SafetensorError) as error:
                if monotonic() > until:
                    raise self.endpoint.wrong(
                        f'wrote no file that can be read to "{path}" in {WAIT_S:g} s'
                    ) from error
                sleep(0.05)
        for each in (path, path.with_name(path.name + ".lock")):
            with contextlib.suppress(OSError):
                each.unlink()
        return tensors


def remote_spans(
    model: PhotoDialogueModel, server: RemoteStates, turns: Sequence[Turn]
) -> PhotoSpans:
    """What ``model.bridge`` reads of a photo that the agent shares after these turns.

    Raises ConfigError for a bridge that reads words, or an LLM whose last norm is not known,
    EngineError.
    """
    renderer, language = model.renderer, model.language
    if not renderer.span_ids:
        raise ConfigError(
            f'the bridge of "{model.name}" reads words and no states; wanted one with tokens of '
            "its own; any server gives this one what it needs: its words"
        )
    norm = last_norm(language)
    photo = Photo(id="asked", origin="painted")
    rendered = renderer.render_turns(
        (*turns, Turn(speaker=AGENT, elements=(photo,))), has_pixels=lambda photo: False
    )
    span = rendered.spans[-1]
    ids = rendered.ids[: span.stop]
    states_TD = server.read(ids)
    if states_TD.shape[1] != language.width:
        raise server.endpoint.wrong(
            f'wrote states of width {states_TD.shape[1]}, and those of "{model.name}" have '
            f"{language.width}: it serves another LLM"
        )
    with torch.no_grad():
        ids_1K = language.column([ids[span.start :]])
        hidden_1TD = norm(states_TD.to(language.device, language.model.dtype))[None]
        before_1KD = hidden_1TD[:, span.start - 1 : -1]
        return PhotoSpans(
            ids_NK=ids_1K,
            mask_NK=torch.ones_like(ids_1K, dtype=torch.bool),
            embeds_NKD=language.embed(ids_1K),
            before_NKD=before_1KD,
            after_NKD=hidden_1TD[:, span.start :],
            logits_NKV=language.head(before_1KD).float(),
            captions=("",),
        )


def last_norm(language: LanguageModel) -> Any:
    """What the LLM does last to its states. Raises ConfigError where that is not known."""
    base = getattr(language.base, "decoder", language.base)
    found = next((norm for name in _NORMS if (norm := getattr(base, name, None))), None)
    if found is None or getattr(base, "project_out", None) is not None:
        raise ConfigError(
            f"the last norm of a {type(language.model).__name__} like this is not known here, and "
            "a server gives states before it; run the model here"
        )
    return found
