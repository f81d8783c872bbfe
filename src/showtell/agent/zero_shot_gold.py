"""The zero-shot agent at gold contexts, many at once: what PhotoChat's table measures of it.

It is asked as in a chat (prompts.toml), as whoever spoke there; P(share) as the one who did not
speak last, since nobody says who speaks next. All questions about a dialogue are read in one pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from showtell.agent.engines import Messages, Spoken
from showtell.agent.local_engines import LocalLanguage
from showtell.agent.prompts import prompts
from showtell.agent.zero_shot import MAX_DESCRIPTION_TOKENS, asked, one_line, to_say
from showtell.data.photochat import moment_positions
from showtell.dialogue import AGENT, USER, Dialogue, Speaker, Turn
from showtell.errors import EngineError
from showtell.evaluation.photochat_runs import GoldTalk, photo_places, text_places
from showtell.models.dialogue_model import Decoding
from showtell.models.language import LanguageModel
from showtell.models.prefix_tree import PrefixTree, read_trees
from showtell.progress import Progress, quiet

AT_ONCE = 32  # answers


class ZeroShotTalks:
    """An LLM in a folder, at gold contexts (a ``Talks``)."""

    def __init__(self, local: LocalLanguage) -> None:
        """Raises ConfigError for an LLM whose states are not what its library says."""
        self.local = local
        self.language = LanguageModel(local.model, local.tokenizer)
        self.language.check()

    # ---------------------------------------------------------------------------------- reading

    def read(
        self, dialogues: Sequence[Dialogue], *, words: bool, told: Progress = quiet
    ) -> list[GoldTalk]:
        """Raises EngineError for an LLM that has no token for an answer."""
        found = []
        for number, dialogue in enumerate(dialogues, start=1):
            nll = self.word_nll(dialogue) if words else {}
            found.append(GoldTalk(chances=self.chances(dialogue), word_nll=nll))
            told("share moments", number, len(dialogues))
        return found

    def chances(self, dialogue: Dialogue) -> list[float]:
        """P(share) at each position of the protocol."""
        contexts = [position.context for position in moment_positions(dialogue)]
        others = [USER if turns[-1].speaker == AGENT else AGENT for turns in contexts]
        return self.chances_after(list(map(as_agent, contexts, others)))

    @torch.no_grad()
    def chances_after(self, contexts: Sequence[tuple[Turn, ...]]) -> list[float]:
        """P(share) after each context of one dialogue, as the agent. Raises EngineError."""
        labels = (prompts()["labels"]["share"], prompts()["labels"]["tell"])
        tree = PrefixTree()
        last = [tree.add(self.local.ids(asked("decide", turns)))[-1] for turns in contexts]
        if not last:
            return []
        chances = []
        for logits_V in self.language.head(read_trees(self.language, [tree])[0, last]):
            if (found := self.local.chances_of(logits_V, labels)) is None:
                raise EngineError(
                    f'{self.local.name} has no token for "{labels[0]}" or "{labels[1]}", so '
                    "nothing can be told from its numbers; name another LLM"
                )
            chances.append(found.of[labels[0]])
        return chances

    @torch.no_grad()
    def word_nll(self, dialogue: Dialogue) -> dict[int, float]:
        """-log p of the words of each text turn from the second on, as an answer of the agent's."""
        tree, before, gold = PrefixTree(), [], []
        sizes: dict[int, int] = {}
        for _, k in text_places([dialogue], most=None):
            turn = dialogue.turns[k]
            ids = self.local.ids(to_say(as_agent(dialogue.turns[:k], turn.speaker)))
            said = self._words(turn.text)
            nodes = tree.add([*ids, *said])
            before += nodes[len(ids) - 1 : -1]
            gold += said
            sizes[k] = len(said)
        if not gold:
            return {}
        hidden_GD = read_trees(self.language, [tree])[0, before]
        logits_GV = self.language.head(hidden_GD).float()
        nll_G = F.cross_entropy(logits_GV, self.language.column(gold), reduction="none")
        sums = [float(part.sum()) for part in nll_G.split(list(sizes.values()))]
        return dict(zip(sizes, sums, strict=True))

    def _words(self, text: str) -> list[int]:
        told = self.local.tokenizer(
            text.strip(), add_special_tokens=False, split_special_tokens=True
        )
        return list(told["input_ids"])

    # ---------------------------------------------------------------------------------- writing

    def replies(
        self, cases: Sequence[tuple[tuple[Turn, ...], str]], decoding: Decoding, *, seed: int
    ) -> list[str]:
        """Each on one line."""
        messages = [to_say(as_agent(context, speaker)) for context, speaker in cases]
        drawn: dict[str, Any] = {"do_sample": False}
        if decoding.temperature > 0:
            drawn = {"do_sample": True, "temperature": decoding.temperature}
            drawn |= {"top_p": decoding.top_p, "top_k": 0}
        drawn["min_new_tokens"] = decoding.min_new_tokens
        said = self._said(messages, decoding.max_new_tokens, seed=seed, **drawn)
        return [" ".join(text.split()) for text in said]

    def descriptions(self, dialogues: Sequence[Dialogue]) -> list[str]:
        """Of the photos at ``photo_places``, as the agent's own."""
        messages = []
        for b, k in photo_places(dialogues):
            turns = dialogues[b].turns
            messages.append(asked("describe", as_agent(turns[:k], turns[k].speaker)))
        said = self._said(messages, MAX_DESCRIPTION_TOKENS, seed=0, do_sample=False)
        return [one_line(text) for text in said]

    def _said(
        self, messages: Sequence[Messages], max_tokens: int, *, seed: int, **drawn: Any
    ) -> list[str]:
        """The answers, those of like length at once; a batch's dice start at ``seed``."""
        said = [""] * len(messages)
        settings = self.local.generation(max_tokens, **drawn)
        cuda = [self.language.device] if self.language.device.type == "cuda" else []
        for chosen, ids_BT, mask_BT in self._padded([self.local.ids(each) for each in messages]):
            with torch.random.fork_rng(cuda), torch.no_grad():  # the library's dice are global
                torch.manual_seed(seed)
                out_BT = self.local.model.generate(
                    input_ids=ids_BT, attention_mask=mask_BT, generation_config=settings
                )
            texts = self.local.tokenizer.batch_decode(
                out_BT[:, ids_BT.shape[1] :], skip_special_tokens=True
            )
            for number, text in zip(chosen, texts, strict=True):
                spoken = Spoken(None)
                spoken.add(text)
                spoken.end()
                said[number] = spoken.text.strip()
        return said

    def _padded(self, rows: Sequence[list[int]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """(their numbers, ids, which are real) of rows of like length, padded on the left."""
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        size = AT_ONCE if self.language.hides_padding else 1
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            length = max(len(rows[number]) for number in chosen)
            pads = [length - len(rows[number]) for number in chosen]
            padded = [[0] * pad + rows[n] for pad, n in zip(pads, chosen, strict=True)]
            mask = [[0] * pad + [1] * (length - pad) for pad in pads]
            yield chosen, self.language.column(padded), self.language.column(mask)


def as_agent(turns: Sequence[Turn], speaker: str) -> tuple[Turn, ...]:
    """The turns with names such that this speaker is the agent."""
    if speaker == AGENT:
        return tuple(turns)
    other: dict[Speaker, Speaker] = {USER: AGENT, AGENT: USER}
    return tuple(replace(turn, speaker=other[turn.speaker]) for turn in turns)
