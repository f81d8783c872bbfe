"""What of a text is told: no thinking aloud, and nothing that what was done belies.

    without_thoughts("Hi <think>a secret</think> there")     "Hi there"

``Agreeing`` stands between an answer and its listener: a sentence that says a photo is here, or
that none can be sent, waits until it is known whether one came; what is not true is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from showtell.dialogue import AGENT, Element, Turn
from showtell.models.reply import Event, PhotoHere, Reply, Tell, Wish, Words

_OPENS, _CLOSES = "<think>", "</think>"
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_ENDS = re.compile(r"[.!?…]+[\"')\]]*\s+|(?<=[\])*])\s+|\n")
_FILLS = ("hm", "hmm", "oh", "sure", "well", "haha", "no", "yes", "ok", "okay", "but", "and", "so")
_FILLING = re.compile(rf"^(?:(?:{'|'.join(_FILLS)})\b\W*)+")
_PHOTO = r"(?:photo|picture|pic|image|selfie|snap|foto|imagen)(?:e?s)?\b"
_CANNOT = re.compile(
    r"\b(?:can'?t|cannot|can not|couldn'?t|unable to|not able to|am not allowed to|"
    r"won'?t be able to|don'?t have (?:the ability|a way|any way))\b[^.!?]*\b(?:send|share|show|"
    r"attach|post|display|generate|create)"
    r"|\bno puedo (?:enviar|mandar|mostrar|compartir|ensenar|enseñar)",
    re.IGNORECASE,
)
_LACKS = re.compile(
    rf"\b(?:do not|don'?t) have (?:a|any) (?:\w+ )?{_PHOTO}|\bhave no {_PHOTO}"
    rf"|\bno tengo (?:ninguna )?{_PHOTO}",
    re.IGNORECASE,
)
_HERE_IS = re.compile(
    rf"\b(?:here(?:'s|s| is| are| you have)|attached (?:is|are)) (?:[\w']+ ){{0,4}}?{_PHOTO}"
    rf"|\bi(?:'m| am) (?:sending|attaching|sharing) (?:[\w']+ ){{0,4}}?{_PHOTO}"
    rf"|[\[*(](?:[\w']+ ){{0,3}}{_PHOTO}[^\]*)\n]*[\]*)]"
    rf"|\b(?:aqui|aquí) (?:tienes|esta|está|va) (?:\w+ )?{_PHOTO}"
    rf"|\bte (?:mando|envio|envío) (?:\w+ )?{_PHOTO}",
    re.IGNORECASE,
)
_SENT = re.compile(
    rf"\bi(?:'ve| have)?(?: just)? (?:sent|attached|shared) (?:[\w']+ ){{0,4}}?{_PHOTO}"
    rf"|\bte he (?:mandado|enviado) (?:\w+ )?{_PHOTO}",
    re.IGNORECASE,
)
_GIVES = re.compile(
    r"\bhere (?:it is|you go|he is|she is|they are|you are)\b|\b(?:aqui|aquí) (?:tienes|está|va)\b",
    re.IGNORECASE,
)
# how a sentence begins that may turn out to be one of these
_STARTS = (
    *(
        "here",
        "attached",
        "[",
        "*",
        "(",
        "aqui",
        "aquí",
        "te ",
        "no puedo",
        "no tengo",
        "lo siento",
    ),
    *("i sent", "i've ", "i have ", "i'm ", "i am ", "i just sen", "i attached", "i shared"),
    *("i can't", "i cannot", "i can not", "i couldn't", "i don't have", "i do not have", "i won't"),
    *("sorry", "unfortunately", "as a"),
)
HERE, NONE = "Here it is.", "I have no photo of that to show you."


def without_thoughts(text: str) -> str:
    """The text, less what stands between <think> and </think>, or behind a <think> that is never
    closed, or before a lone </think>."""
    if not re.search("</?think>", text, re.IGNORECASE):
        return text
    left = re.split(_CLOSES, _THOUGHT.sub(" ", text), flags=re.IGNORECASE)[-1]
    return re.sub(r"[ \t]{2,}", " ", left).strip()


class Thoughtless:
    """The same of a text as it comes, in pieces. ``alone``: whether the last piece closed a thought
    that nothing had opened, so that all before it was one."""

    def __init__(self) -> None:
        self._held, self._thinks, self._last, self.alone = "", False, " ", False

    def add(self, piece: str) -> str:
        """What is said by now, and was not before."""
        said, self._held, self.alone = "", self._held + piece, False
        while found := re.search("<think>|</think>", self._held, re.IGNORECASE):
            if not self._thinks:
                said += self._said(self._held[: found.start()])
                self.alone = self.alone or found[0].lower() == _CLOSES
            self._thinks = found[0].lower() == _OPENS
            self._held = self._held[found.end() :]
        low = self._held.lower()
        marks = (_OPENS, _CLOSES)
        keep = max(
            (n for n in range(len(_CLOSES)) if n and low.endswith(tuple(m[:n] for m in marks))),
            default=0,
        )
        rest = self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return said if self._thinks else said + self._said(rest)

    def end(self) -> str:
        """What was held back for it looked like a mark."""
        held, self._held = self._held, ""
        return "" if self._thinks else held

    def _said(self, text: str) -> str:
        text = text.lstrip() if self._last.isspace() else text
        self._last = text[-1:] or self._last
        return text


class Agreeing:
    """``tell`` whose words are true: no sentence says that a photo is here where none came, nor
    that none can be sent where one came, or may (``able``, and nobody asked). ``turns``: of the
    talk so far."""

    def __init__(self, tell: Tell, *, wish: Wish, able: bool, turns: Sequence[Turn]) -> None:
        self.tell, self.wish, self.able = tell, wish, able
        self.sent = any(turn.photos for turn in turns if turn.speaker == AGENT)
        self.came = False
        self.dropped: list[str] = []
        self._sentence = ""  # that is under way, and how much of it is told
        self._told = 0
        self._waiting: list[str] = []  # sentences; the first may be untrue
        self._spoke = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, Words):
            self._words(event.text)
            return
        if isinstance(event, PhotoHere):
            self.came = True
            self._settle()
        self.tell(event)

    def _words(self, text: str) -> None:
        self._sentence += text
        while found := _ENDS.search(self._sentence, self._told):
            whole, self._sentence = self._sentence[: found.end()], self._sentence[found.end() :]
            told, self._told = self._told, 0
            if told:
                self._pass(whole[told:])
            else:
                self._waiting.append(whole)
                if not self._open(whole):
                    self._settle_true()
        if self._sentence and not self._waiting and (self._told or not self._may_wait()):
            self._pass(self._sentence[self._told :])
            self._told = len(self._sentence)

    def _may_wait(self) -> bool:
        """Whether the sentence under way may turn out to be untrue."""
        if self.came or self.wish.share:
            return True
        begun = self._sentence.strip().casefold().replace("’", "'")
        begun = _FILLING.sub("", begun, count=1)
        starts = any(begun.startswith(start) for start in _STARTS)
        return starts or any(start.startswith(begun) for start in (*_STARTS, *_FILLS))

    def _open(self, sentence: str) -> bool:
        """Whether it depends on a photo that has not come yet whether it is true."""
        said = sentence.replace("’", "'")
        kinds = (_CANNOT, _LACKS, _HERE_IS, _SENT, _GIVES)
        return not self.came and any(kind.search(said) for kind in kinds)

    def _untrue(self, sentence: str) -> bool:
        said = sentence.replace("’", "'")
        if self.came:
            return bool(_CANNOT.search(said) or _LACKS.search(said))
        if self.able and self.wish.share is None and _CANNOT.search(said):
            return True
        gives = self.wish.share and _GIVES.search(said)
        return bool(_HERE_IS.search(said) or gives or (not self.sent and _SENT.search(said)))

    def _settle_true(self) -> None:
        """Sentences before the first that is open."""
        if not any(map(self._open, self._waiting)):
            self._settle()

    def _settle(self) -> None:
        """It is known whether a photo came."""
        for sentence in self._waiting:
            if self._untrue(sentence):
                self.dropped.append(sentence.strip())
                sentence = "\n" if sentence.endswith("\n") else ""
            self._pass(sentence)
        self._waiting = []

    def _pass(self, text: str) -> None:
        if text:
            self._spoke = self._spoke or bool(text.strip())
            self.tell(Words(text=text))

    def end(self, reply: Reply) -> None:
        """The answer is over: its turns say what was told."""
        if self._sentence[self._told :]:
            self._waiting.append(self._sentence[self._told :])
        self._sentence, self._told = "", 0
        self._settle()
        if not self.dropped:
            return
        if not self._spoke:
            self.tell(Words(text=(HERE if self.came else NONE) + "\n"))
        kept = [turn if not turn.text else self._kept(turn) for turn in reply.turns]
        left = [n for n, turn in enumerate(kept) if turn.elements]
        said = [n for n in left if kept[n].text]
        if not said:
            spoken = Turn(speaker=AGENT, elements=(HERE if self.came else NONE,))
            last = max(n for n, turn in enumerate(reply.turns) if turn.text)
            kept[last] = replace(spoken, elements=(*spoken.elements, *kept[last].photos))
            left = sorted({*left, last})
        reply.turns = [kept[n] for n in left]
        reply.decisions = [reply.decisions[n] for n in left]

    def _kept(self, turn: Turn) -> Turn:
        elements: list[Element] = []
        for element in turn.elements:
            if isinstance(element, str):
                for sentence in self.dropped:
                    element = element.replace(sentence, " ", 1)
                element = re.sub(r"[ \t]{2,}", " ", element).strip()
            if element:
                elements.append(element)
        return replace(turn, elements=tuple(elements))
