"""Engines from folders: any causal LM of transformers that has a chat template, and our painter."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jinja2 import TemplateError
from transformers import GenerationConfig, TextStreamer

from showtell.agent.engines import (
    TOP_P,
    Chances,
    Messages,
    Said,
    Spoken,
    ToldStep,
    ToldText,
    chances,
    chances_in_words,
    label_of,
)
from showtell.batch import to_image, to_pixels
from showtell.errors import CheckpointError, EngineError
from showtell.models.folders import reading
from showtell.models.language import read_causal
from showtell.models.painters import read_painter
from showtell.models.painting import Start
from showtell.models.parts import Conditioning
from showtell.progress import terminal_line
from showtell.runtime import DTYPES, fitting, the_device, the_dtype
from showtell.turns import control_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image
    from torch import Tensor

REPETITION = 1.1  # small LLMs go round in circles
PLACES = 2_048  # of an LLM that does not say how many it has
MAX_PLACES = 8_192  # more of a talk is not read
RESERVED = 512  # places for what we ask and what it answers
PER_TOKEN = 3  # bytes of a conversation, on average at least


class LocalLanguage:
    """An LLM in a folder, on ``the_device()``, in ``the_dtype()``; where nobody chose, in its own
    where the device multiplies it."""

    def __init__(self, folder: Path, *, name: str = "") -> None:
        """Raises CheckpointError for what cannot be read, or has no chat template."""
        self.name = name or folder.name
        self._spellings: dict[str, list[int]] = {}
        wanted = "a causal LM of transformers with its tokenizer, as safetensors"
        with reading("the language model", folder, wanted=wanted):
            model, self.tokenizer = read_causal(folder, dtype=the_dtype() or DTYPES[fitting()])
        self.model = model.eval().to(the_device())
        self._control = list(control_tokens(self.tokenizer).values())
        if not self.tokenizer.chat_template:
            raise CheckpointError(
                f'the language model in "{folder}" has no chat template; wanted one that was '
                "trained to chat (its name often ends in Instruct or Chat); name such a one"
            )
        wanted = "one that takes the words of a system and of a user"
        with reading("the chat template", folder, wanted=wanted):
            self._read([{"role": role, "content": "Hi"} for role in ("system", "user")])
        config = model.config.get_text_config()
        self.places = int(getattr(config, "max_position_embeddings", PLACES))
        self.max_bytes = max(PER_TOKEN * (min(self.places, MAX_PLACES) - RESERVED), 200)

    def say(
        self,
        messages: Messages,
        *,
        max_tokens: int,
        temperature: float,
        seed: int,
        on_text: ToldText | None = None,
    ) -> Said:
        """Its answer; ``on_text`` hears each piece. Temperature 0: always the likeliest token."""
        spoken = Spoken(on_text)
        drawn: dict[str, Any] = {"do_sample": False}
        if temperature > 0:
            drawn = {"do_sample": True, "temperature": temperature, "top_p": TOP_P, "top_k": 0}
            drawn["repetition_penalty"] = REPETITION
        cuda = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(cuda):  # the library draws from the global dice
            torch.manual_seed(seed)
            self._generated(messages, max_tokens, streamer=_Pieces(self.tokenizer, spoken), **drawn)
        spoken.end()
        broken = "it is longer than a turn may be" if spoken.full else ""
        return Said(text=spoken.text.strip(), broken=broken)

    def probability(self, messages: Messages, labels: Sequence[str]) -> Chances:
        """From its logits after the messages: the mass of all tokens that spell a label."""
        out = self._generated(
            messages, 1, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        why = f"no token of {self.name} spells an answer"
        found = self.chances_of(out.logits[0][0], labels)
        return found or chances_in_words(self, messages, labels, why=why)

    def chances_of(self, logits_V: Tensor, labels: Sequence[str]) -> Chances | None:
        """P of each label by the logits of an answer's first token; None if no token spells one."""
        chance_V = logits_V.float().softmax(-1)
        return chances({each: float(chance_V[self._spelt(each)].sum()) for each in labels}, labels)

    def _spelt(self, label: str) -> list[int]:
        if label not in self._spellings:
            pieces = self._pieces
            self._spellings[label] = [n for n, piece in pieces if label_of(piece, (label,))]
        return self._spellings[label]

    def ids(self, messages: Messages) -> list[int]:
        """What it reads of the messages, to the place of its answer."""
        found: list[int] = self._read(messages)["input_ids"][0].tolist()
        return found

    @cached_property
    def _pieces(self) -> list[tuple[int, str]]:
        """The vocabulary's tokens with their numbers; the marks of a blank as blanks."""
        named = self.tokenizer.get_vocab().items()
        marks = str.maketrans("Ġ▁", "  ")
        return [(number, token.translate(marks)) for token, number in named]

    @torch.no_grad()
    def _generated(self, messages: Messages, max_tokens: int, **settings: Any) -> Any:
        streamer = settings.pop("streamer", None)
        config = self.generation(max_tokens, **settings)
        read = self._read(messages)
        if (length := read["input_ids"].shape[1] + max_tokens) > self.places:
            raise EngineError(
                f"{self.name} has {self.places:,} places, and what it is to read and say takes "
                f"{length:,}; say it in fewer words, or begin anew"
            )
        return self.model.generate(**read, generation_config=config, streamer=streamer)

    def generation(self, max_tokens: int, **settings: Any) -> GenerationConfig:
        """The library's settings of an answer, with this LLM's own ends."""
        pad = self.tokenizer.pad_token_id
        ends = self.model.generation_config.eos_token_id
        return GenerationConfig(
            max_new_tokens=max_tokens,
            eos_token_id=self.tokenizer.eos_token_id if ends is None else ends,
            pad_token_id=self.tokenizer.eos_token_id if pad is None else pad,
            **settings,
        )

    def _read(self, messages: Messages) -> Any:
        """The messages in the LLM's own form. What people wrote spells no token of control."""
        clean = [{**message, "content": self._plain(message["content"])} for message in messages]
        try:
            return self._templated(clean)
        except TemplateError:  # of a family without a system's role: it goes with the first words
            system, first, *rest = clean
            first = {**first, "content": f"{system['content']}\n\n{first['content']}"}
            return self._templated([first, *rest])

    def _templated(self, messages: list[dict[str, str]]) -> Any:
        return self.tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            enable_thinking=False,  # a variable of some templates
        ).to(self.model.device)

    def _plain(self, text: str) -> str:
        for token in self._control:
            text = text.replace(token, " ")
        return text


class _Pieces(TextStreamer):  # type: ignore[misc]
    """The library's streamer, into a Spoken."""

    def __init__(self, tokenizer: Any, spoken: Spoken) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.spoken = spoken

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.spoken.add(text)


class LocalPainter:
    """A folder of diffusers, by the painter that models have, on ``the_device()``, in its own dtype
    where the device multiplies it; steps and guidance are those of its kind unless given."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "",
        num_steps: int | None = None,
        guidance: float | None = None,
    ) -> None:
        """Raises CheckpointError, ConfigError for steps that its scheduler does not take."""
        self.name = name or folder.name
        dtype = the_dtype() or DTYPES[fitting()]
        self.painter = read_painter(folder, dtype=dtype, told=terminal_line)
        steps, strength = self.painter.usual
        self.num_steps = steps if num_steps is None else num_steps
        self.guidance = strength if guidance is None else guidance
        self.painter.noise.solver(self.num_steps, **self.painter.times(max(self.num_steps, 1)))

    edits = True

    @torch.no_grad()
    def paint(
        self,
        caption: str,
        *,
        seed: int,
        on_step: ToldStep | None = None,
        start: Image | None = None,
        strength: float = 1.0,
    ) -> Image:
        """The photo of a caption; one seed, one photo."""
        begun = None
        if start is not None:
            begun = Start(pixels_3HW=to_pixels(start.convert("RGB")), strength=strength)
        pixels_13HW = self.painter.paint(
            Conditioning(cond_NSC=self.painter.text.encode([caption])),
            num_steps=self.num_steps,
            guidance=self.guidance,
            seeds=[seed],
            callback=(lambda step, latents: on_step(step, self.num_steps)) if on_step else None,
            start=begun,
        )
        return to_image(pixels_13HW[0])
