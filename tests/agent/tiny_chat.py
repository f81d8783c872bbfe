"""A tiny LLM that chats, in the layout of the hub, and a server that speaks for it."""

from __future__ import annotations

import json
import math

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = (
    "photo",
    "Photo",
    "words",
    "dog",
    "beach",
    "ME",
    "YOU",
    "hi",
    "look",
    "nice",
    ":",
    ".",
    "a",
)
TEMPLATE = (
    "{% for m in messages %}<s> {{ m['role'] }} {{ m['content'] }} </s>{% endfor %}"
    "{% if add_generation_prompt %}<s> ME {% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"


def write_chatty(folder, *, template: str | None = TEMPLATE, seed: int = 0, spread: float = 0.2):
    """The folder; its vocabulary is small enough for a server to tell all of it."""
    special = ["<unk>", "<s>", "</s>"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = template
    torch.manual_seed(seed)
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=2048,
            initializer_range=spread,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# ------------------------------------------------------------------------------ what servers say


def as_json(value, *, code=200):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()

    def answer(request):
        request.send_response(code)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def whole_text(text):
    return as_json({"choices": [{"message": {"role": "assistant", "content": text}}]})


def stream_of(*pieces, ends=True, garbage=None):
    """A stream of events; without its end, or with garbage before it."""
    events = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
    lines = [": still here", *(f"data: {json.dumps(event)}" for event in events)]
    lines += [f"data: {garbage}"] if garbage is not None else []
    last = json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    lines += [f"data: {last}", 'data: {"choices": [], "usage": {}}', "data: [DONE]"] if ends else []

    def answer(request):
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.end_headers()
        for line in lines:
            request.wfile.write(f"{line}\r\n\r\n".encode())
            request.wfile.flush()

    return answer


def top_of(**chances):
    """The answer to a question for logprobs; a blank before a token is written as _."""
    top = [
        {"token": token.replace("_", " "), "logprob": math.log(chance)}
        for token, chance in chances.items()
    ]
    choice = {"message": {"content": "x"}, "logprobs": {"content": [{"top_logprobs": top}]}}
    return as_json({"choices": [choice]})


def served(folder, web):
    """What a server says that has this very model: the 20 likeliest first tokens."""
    words = PreTrainedTokenizerFast.from_pretrained(folder)
    llama = LlamaForCausalLM.from_pretrained(folder).eval()

    def answer(request):
        asked = json.loads(web.bodies[-1])
        assert asked["max_tokens"] == 1 and asked["logprobs"] and asked["top_logprobs"] == 20
        ids = words.apply_chat_template(
            asked["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.no_grad():
            logprobs_V = llama(**ids).logits[0, -1].log_softmax(-1)
        top = logprobs_V.topk(min(20, len(logprobs_V)))
        pairs = zip(top.values.tolist(), top.indices.tolist(), strict=True)
        told = [{"token": words.decode([number]), "logprob": value} for value, number in pairs]
        choice = {"message": {"content": "x"}, "logprobs": {"content": [{"top_logprobs": told}]}}
        as_json({"choices": [choice]})(request)

    return answer
