"""How a turn stands in the text that an LLM reads: by our marks, or by its own chat template.

    form = chat_turns(tokenizer)                         # or marks(tokenizer)
    [*form.start, *form.headers["user"], *form.content("hi", "user"), *form.ends["user"], ...]

The words of a template are found by asking the tokenizer for conversations of marked contents;
what stands between the marks is cut into a start, a header for each speaker, and an end. Where the
agent's header is the end of the user's turn (Llama 2, Mistral: ``[/INST]``), it is the header. A
conversation that waits for an answer reads as the template has it; Qwen 3 puts an empty thought
before the last answer of one that does not, which is left out here as it is of all others. A
tokenizer without a template gets Vicuna's form (``vicuna_v1.1`` of its release, FastChat). What
cannot be cut so is refused by name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from showtell.errors import ConfigError

VICUNA = (
    "{{ bos_token }}A chat between a curious user and an artificial intelligence assistant. The "
    "assistant gives helpful, detailed, and polite answers to the user's questions. "
    "{% for m in messages %}{% if m['role'] == 'user' %}USER: {{ m['content'] }} "
    "{% else %}ASSISTANT: {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
DATE = "26 Jul 2024"  # Llama 3's own where it is told none: no text changes from day to day
ROLES = {"user": "user", "agent": "assistant"}
CONTENTS = (
    "ok",
    "so, what is it?",
    "I like the 2 dogs!",
    "fine.",
    "x",
)  # short, long, digits, signs


@dataclass(frozen=True, kw_only=True)
class TurnForm:
    """Ids around the words of a turn.

    ``between`` begins both headers, and the token after it says whose turn it is (``roles``).
    ``stop`` is the token of the agent's end that an LLM says. ``before``: the text that a content
    is read behind, a special token first. ``first``: the header of a user's first turn, where that
    is another (Vicuna's stands behind a word, not behind an end).
    """

    start: Sequence[int]
    headers: Mapping[str, Sequence[int]]
    ends: Mapping[str, Sequence[int]]
    stop: int
    tokenizer: Any
    before: Mapping[str, tuple[str, str]] | None = None
    first: Sequence[int] | None = None

    def header(self, role: str, *, first: bool) -> list[int]:
        """What stands before the words of a turn; ``first``: of a dialogue."""
        if first and role == "user" and self.first is not None:
            return list(self.first)
        return list(self.headers[role])

    @property
    def between(self) -> list[int]:
        user, agent = self.headers["user"], self.headers["agent"]
        same = takewhile(lambda pair: pair[0] == pair[1], zip(user, agent, strict=False))
        return [token for token, _ in same]

    @property
    def roles(self) -> dict[str, int]:
        return {role: ids[len(self.between)] for role, ids in self.headers.items()}

    def words(self, text: str) -> list[int]:
        """The ids of a text, as after a space; words that look like marks stay words."""
        space = "" if _opens_words(self.tokenizer) else " "
        return _plain(self.tokenizer, space + text.strip())

    def content(self, text: str, role: str) -> list[int]:
        """The ids of the words that begin a turn of this speaker."""
        if self.before is None or not (text := text.strip()):
            return self.words(text)
        behind, space = self.before[role]
        ids = _behind(self.tokenizer, behind, space + text)
        if set(ids) & set(control_tokens(self.tokenizer)):  # a user's words are no marks
            return _plain(self.tokenizer, space + text)
        return ids


def marks(tokenizer: Any) -> TurnForm:
    """Turns of a small model's own tokens: <|user|> hi there <|end|>."""
    token = tokenizer.convert_tokens_to_ids
    begin, end = token("<|begin|>"), token("<|end|>")
    bos = getattr(tokenizer, "bos_token_id", None)
    return TurnForm(
        # an LLM that has always seen its own first token stands on it
        start=[begin] if bos in (None, begin) else [bos, begin],
        headers={"user": [token("<|user|>")], "agent": [token("<|agent|>")]},
        ends={"user": [end], "agent": [end]},
        stop=end,
        tokenizer=tokenizer,
    )


def chat_turns(tokenizer: Any) -> TurnForm:
    """Turns as the LLM's own chat template has them. Raises ConfigError where it cannot be cut."""
    try:
        form = _cut(tokenizer)
        # where an answer is asked for: Qwen 3 alters an answer while it is the last
        for count in range(1, len(CONTENTS) + 1, 2):
            told = [(("user", "agent")[n % 2], text) for n, text in enumerate(CONTENTS[:count])]
            ours = [*form.start]
            for n, (role, text) in enumerate(told):
                ours += form.header(role, first=n == 0)
                ours += [*form.content(text, role), *form.ends[role]]
            ours += form.headers["agent"]
            if ours != _ids(tokenizer, template_text(tokenizer, told, asks=True)):
                raise ValueError("its turns put together are not the whole")
    except Exception as error:  # a template is a program, and may do anything
        raise ConfigError(
            f"the chat template of this {type(tokenizer).__name__} cannot be split into turns "
            f"({type(error).__name__}: {error}); wanted one in which each turn is its words "
            "between a beginning and an end; use template=marks, or another tokenizer"
        ) from error
    return form


def template_text(tokenizer: Any, told: Sequence[tuple[str, str]], *, asks: bool) -> str:
    """A conversation of (speaker, words) as the template has it; ``asks``: it is the agent's turn
    next."""
    own = getattr(tokenizer, "chat_template", None)
    text = tokenizer.apply_chat_template(
        [{"role": ROLES[role], "content": words} for role, words in told],
        tokenize=False,
        add_generation_prompt=asks,
        **({} if own else {"chat_template": VICUNA}),
        date_string=DATE,
    )
    return str(text)


def _cut(tokenizer: Any) -> TurnForm:
    said = [("user", "aXone"), ("agent", "aXtwo"), ("user", "aXthree"), ("agent", "aXfour")]
    shown = partial(template_text, tokenizer)
    first = _around(shown(said[:3], asks=False), said[:3])
    (_, user_end), (_, asked) = (_around(shown(said[:1], asks=a), said[:1]) for a in (False, True))
    agent_end = _around(shown(said[:2], asks=False), said[:2])[-1]
    if not asked.startswith(user_end) or not first[2].startswith(agent_end):
        raise ValueError("a turn ends in another way where it is the last")
    if asked == user_end:  # the end of the user's turn is where the agent's begins
        user_end = ""
    header, opened = asked[len(user_end) :], first[1]
    if not opened.startswith(asked) or opened[len(asked) :].strip(" "):
        raise ValueError("an answer stands otherwise than where it is asked for")
    user_header = first[2][len(agent_end) :]
    if not header or not user_header:
        raise ValueError("nothing says whose turn it is")
    if not first[0].endswith(user_header.strip(" ")) and not first[0].endswith(user_header):
        raise ValueError("the user's first turn begins otherwise than the next")

    # an end that is but space is read with what follows it
    lone = len(user_end) - len(user_end.rstrip(" "))
    user_end, header = user_end[: len(user_end) - lone], " " * lone + header
    lead = header[len(header.rstrip(" ")) :] + opened[len(asked) :]
    behind = {"agent": header.rstrip(" "), "user": user_header.rstrip(" ")}
    space = {"agent": lead, "user": user_header[len(behind["user"]) :]}
    begun = {role: _last_special(tokenizer, text) for role, text in behind.items()}
    ends = {"user": user_end, "agent": agent_end}
    full = {role: begun[role] + space[role] + "ok" for role in behind}
    end_ids = {role: _behind(tokenizer, full[role], ends[role]) for role in ends}
    headers = {
        "agent": _behind(tokenizer, full["user"] + user_end, behind["agent"]),
        "user": _behind(tokenizer, full["agent"] + agent_end, behind["user"]),
    }
    begins, start = first[0][: len(first[0]) - len(user_header)], []
    if begins:
        start = _ids(tokenizer, begins.rstrip(" "))
    opens = _ids(tokenizer, first[0].rstrip(" "))
    if opens[: len(start)] != start:
        raise ValueError("the user's first turn begins otherwise than the next")
    special = _special(tokenizer)
    stops = [token for token in end_ids["agent"] if token in special]
    if not stops:
        raise ValueError("no token of the LLM's own ends its turn")
    form = TurnForm(
        start=start,
        headers=headers,
        ends=end_ids,
        stop=stops[0],
        tokenizer=tokenizer,
        before={role: (begun[role], space[role]) for role in begun},
        first=opens[len(start) :],
    )
    if len(form.between) >= min(map(len, headers.values())):
        raise ValueError("nothing says whose turn it is")
    return form


def _around(text: str, told: Sequence[tuple[str, str]]) -> list[str]:
    """What stands around the contents, which are each found once."""
    parts = []
    for _, content in told:
        if text.count(content) != 1:
            raise ValueError("it says what is told otherwise than once")
        before, text = text.split(content)
        parts.append(before)
    return [*parts, text]


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def control_tokens(tokenizer: Any) -> dict[int, str]:
    """Tokens that are no words: special ones, and <think>, <tool_call> and their like, which are
    added as if they were words."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {
        n: token.content
        for n, token in added.items()
        if token.special or re.fullmatch(r"[<\[]\S+[>\]]", token.content)
    }


def _plain(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text as letters: none is a token of control."""
    ids = list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
    if not set(unicodedata.normalize("NFKC", text)) & set("<["):
        return ids
    found = control_tokens(tokenizer)
    spelled = {n: [found[n][:1], found[n][1:]] for n in set(ids) & set(found)}
    parts = [
        [token for half in spelled[n] for token in _plain(tokenizer, half)] if n in spelled else [n]
        for n in ids
    ]
    return [token for part in parts for token in part]


def _behind(tokenizer: Any, before: str, text: str) -> list[int]:
    """The ids of a text that is read behind another."""
    head, whole = _ids(tokenizer, before), _ids(tokenizer, before + text)
    return whole[len(head) :] if whole[: len(head)] == head else _plain(tokenizer, text)


def _special(tokenizer: Any) -> set[int]:
    return {n for n, token in tokenizer.added_tokens_decoder.items() if token.special}


def _last_special(tokenizer: Any, text: str) -> str:
    """The text from its last special token on, behind which it is read in any dialogue."""
    names = [tokenizer.added_tokens_decoder[n].content for n in _special(tokenizer)]
    return text[max((text.rfind(name) for name in names if name in text), default=0) :]


def _opens_words(tokenizer: Any) -> bool:
    """Whether this tokenizer itself reads a space before a text (SentencePiece's)."""
    ids = _plain(tokenizer, "a")
    pieces = getattr(tokenizer, "convert_ids_to_tokens", lambda _: [""])(ids)
    return bool(pieces) and str(pieces[0]).startswith("\u2581")
