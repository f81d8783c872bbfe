"""What is exported is for the library what the model is for us."""

import pytest
import torch
from hub_llms import LLMS, write_hub_llm
from test_hub_llms import DOG, TALK, turn
from transformers import AutoModelForCausalLM, AutoTokenizer

from showtell.agent.remote_states import last_norm
from showtell.cli import main
from showtell.dialogue import AGENT, USER
from showtell.errors import ConfigError
from showtell.models.adapters import LoraConfig, PrefixConfig, add_lora, add_prefix
from showtell.models.checkpoint import save_model
from showtell.models.language import LanguageModel
from showtell.prompt import RendererConfig
from showtell.recipes.assemble import words_first
from showtell.recipes.hub_parts import with_marks


def agent(tmp_path, family, *, template="chat", lora=True, tokens=()):
    """As training leaves it: LoRA and new rows that say something."""
    language = LanguageModel.from_pretrained(write_hub_llm(tmp_path / "llm", family))
    with_marks(language, seed=0, template=template)
    language.grow_vocabulary(tokens, seed=1)
    if lora:
        add_lora(language, LoraConfig(rank=2))
        torch.manual_seed(1)
        for name, value in language.model.named_parameters():
            if "lora_" in name:
                value.data.normal_(std=0.2)
    settings = RendererConfig(perceive="caption", template=template)
    return words_first(language, settings, name=family).eval()


def exported(model, tmp_path, *options):
    """Its plain folder, through its own one."""
    save_model(model, tmp_path / "m", recipe={})
    arguments = ["export", str(tmp_path / "m"), "--out", str(tmp_path / "plain"), "--merged"]
    assert main([*arguments, *options]) == 0
    return tmp_path / "plain"


@pytest.mark.parametrize("template", ["chat", "marks"])
@pytest.mark.parametrize("family", LLMS)
def test_logits_and_turns_are_ours(family, template, tmp_path):
    model = agent(tmp_path, family, template=template)
    folder = exported(model, tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = model.renderer.render_turns(TALK).ids
    ids_1T, language = torch.tensor([ids]), model.language
    with torch.no_grad():
        ours = language.head(language.hidden(language.embed(ids_1T), None))
        theirs = plain(input_ids=ids_1T).logits
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
    assert theirs.shape[-1] == plain.config.vocab_size == len(tokenizer)

    texts = ("hello there!", "fine.", "I saw the 2 dogs", "so, what is it?", "ok")
    told = [turn((USER, AGENT)[n % 2], text) for n, text in enumerate(texts)]
    for count in (1, 3, 5):
        messages = [
            {"role": {USER: "user", AGENT: "assistant"}[t.speaker], "content": t.elements[0]}
            for t in told[:count]
        ]
        read = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        ours = model.renderer.render_turns(told[:count]).ids
        assert read == [*ours, *model.renderer.form.headers[AGENT]]
    ends = plain.generation_config.eos_token_id
    assert model.renderer.end in ends and set(ends) >= language.end_ids
    assert plain.generation_config.temperature == model.decoding.temperature


def test_a_photo_that_it_announced_reads_as_it_said_it(tmp_path):
    model = agent(tmp_path, "qwen2", template="marks")
    tokenizer = AutoTokenizer.from_pretrained(exported(model, tmp_path))
    ids = model.renderer.render_turns((turn(USER, "ok"), turn(AGENT, DOG))).ids
    said = "[IMG] a red dog at the beach[/IMG]"
    messages = [{"role": "user", "content": "ok"}, {"role": "assistant", "content": said}]
    assert tokenizer.apply_chat_template(messages)["input_ids"] == ids
    with pytest.raises(Exception, match="and no system"):
        tokenizer.apply_chat_template([{"role": "system", "content": "x"}])


@pytest.mark.parametrize("family", ["llama2", "llama3"])
def test_two_rows_of_an_untied_head_one_of_a_tied(family, tmp_path):
    tokens = ("[IMG1]", "[IMG2]")
    model = agent(tmp_path, family, tokens=tokens, lora=False)
    folder = exported(model, tmp_path, "--dtype", "bfloat16")
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert plain.dtype == torch.bfloat16
    table, head = plain.get_input_embeddings().weight, plain.get_output_embeddings().weight
    assert (table.data_ptr() == head.data_ptr()) is (family == "llama3")
    ids = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(list(tokens))
    new = model.language.new_tokens
    assert torch.equal(table[ids], new.input_nD[-2:].bfloat16())
    assert torch.equal(head[ids], new.said_nD[-2:].bfloat16())


def test_one_without_new_tokens_keeps_its_padded_rows(tmp_path):
    from showtell.models.merged import plain_model

    language = LanguageModel.from_pretrained(write_hub_llm(tmp_path / "llm", "mistral"))
    plain = plain_model(language, dtype=torch.float32)
    assert plain.config.vocab_size == language.model.config.vocab_size > len(language.tokenizer)


def test_what_cannot_be_merged_is_refused(tmp_path, capsys):
    model = agent(tmp_path, "qwen2", lora=False)
    add_prefix(model.language, PrefixConfig(num_tokens=2, hidden=4))
    save_model(model, tmp_path / "m", recipe={})
    line = ["export", str(tmp_path / "m"), "--out", str(tmp_path / "x")]
    assert main([*line, "--merged"]) == 2
    assert "has a prefix" in capsys.readouterr().err and not (tmp_path / "x").exists()
    assert main([*line, "--merged", "--dtype", "int4"]) == 2
    assert "int4" in capsys.readouterr().err
    save_model(agent(tmp_path, "qwen2"), tmp_path / "m", recipe={})
    assert main(line) == 2
    assert "--merged" in capsys.readouterr().err


@pytest.mark.parametrize("family", LLMS)
def test_the_last_norm_gives_the_last_states(family, tmp_path):
    language = LanguageModel.from_pretrained(write_hub_llm(tmp_path, family))
    if family == "opt_350m":  # has none, and a projection in its place
        with pytest.raises(ConfigError, match="last norm"):
            last_norm(language)
        return
    given = []
    last_norm(language).register_forward_hook(lambda module, _, out: given.append(out))
    with torch.no_grad():
        hidden_1TD = language.hidden(language.embed(torch.tensor([[1, 2, 3]])), None)
    assert torch.equal(given[0], hidden_1TD)
