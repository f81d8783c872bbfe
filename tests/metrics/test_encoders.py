"""Encoders read from folders: pooling, padding, what is cut, and what a broken folder says."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from showtell.errors import CheckpointError
from showtell.metrics.encoders import load_clip, load_sentence_encoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "cat", "runs", "sleeps", "here"]
SIZE = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}


def tokenizer():
    """A word a token, between two marks."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(dict(zip(WORDS, range(10), strict=True)), "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]"
    )


@pytest.fixture(scope="module")
def sentence_folder(tmp_path_factory):
    """A BERT, saved as sentence-transformers saves one."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("sentences")
    torch.manual_seed(0)
    config = BertConfig(**SIZE, vocab_size=len(WORDS), max_position_embeddings=12)
    BertModel(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    pool(folder, pooling_mode_mean_tokens=True)
    return folder


def pool(folder, **settings):
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    modules = [
        {"idx": k, "name": str(k), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for k, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    settings = {"word_embedding_dimension": SIZE["hidden_size"]} | settings
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))


TEXTS = ["a dog runs", "cat", "a cat sleeps here a dog runs here"]


def hidden(encoder, text):
    ids = encoder.tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        return encoder.model[0].auto_model(**ids).last_hidden_state[0]


@pytest.mark.parametrize(
    ("mode", "take"), [("mean_tokens", lambda h: h.mean(0)), ("cls_token", lambda h: h[0])]
)
def test_pooling_is_what_the_folder_says_and_ignores_padding(sentence_folder, mode, take):
    pool(sentence_folder, **{f"pooling_mode_{mode}": True})
    encoder = load_sentence_encoder(sentence_folder)
    for row, text in zip(encoder(TEXTS), TEXTS, strict=True):
        torch.testing.assert_close(row, take(hidden(encoder, text)), atol=1e-5, rtol=1e-4)
    assert "12 tokens" in encoder.id and encoder.truncated == 0
    encoder(["a " * 10, "a " * 11, "a " * 90])  # two marks beside the words: 12 tokens fit
    assert encoder.truncated == 2


def test_a_folder_that_is_no_sentence_encoder_says_what_is_missing(sentence_folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"modules\.json.*--sentence-encoder FOLDER"):
        load_sentence_encoder(tmp_path)
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be used as an encoder"):
        load_sentence_encoder(tmp_path)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    text = {"vocab_size": len(WORDS), "max_position_embeddings": 8, "eos_token_id": 3}
    vision = {"image_size": 32, "patch_size": 16}
    config = CLIPConfig(text_config=SIZE | text, vision_config=SIZE | vision, projection_dim=12)
    CLIPModel(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    sides = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**sides).save_pretrained(folder)
    return folder


def test_clip_gives_what_the_whole_model_gives_and_not_its_neighbours(clip_folder):
    clip = load_clip(clip_folder)
    images = [Image.new("RGB", (40, 50), colour) for colour in ("red", "green", "blue")]
    inputs = clip.tokenizer(TEXTS[:2], padding=True, return_tensors="pt")
    pixels = clip.processor(images=images, return_tensors="pt")
    with torch.no_grad():
        whole = clip.model(**inputs, **pixels)
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(unit(clip.texts(TEXTS[:2])), whole.text_embeds)
    torch.testing.assert_close(unit(clip.photos(images)), whole.image_embeds)
    torch.testing.assert_close(clip.photos(images)[1], clip.photos(images[1:2])[0])
    torch.testing.assert_close(clip.texts(TEXTS)[1], clip.texts(TEXTS[1:2])[0])


def test_clip_counts_texts_that_it_cuts_and_says_which_one_is_wanted(clip_folder, tmp_path):
    clip = load_clip(clip_folder)
    clip.texts(["a " * 6, "a " * 7])
    assert clip.truncated == 1
    with pytest.raises(CheckpointError, match=r"openai/clip-vit-base-patch32.*--clip FOLDER"):
        load_clip(tmp_path, wanted="openai/clip-vit-base-patch32")


def test_a_score_with_encoders_from_folders_prints_their_digests(
    clip_folder, sentence_folder, tmp_path
):
    from showtell.metrics.report import model_digest
    from showtell.metrics.rows import Encoders
    from showtell.metrics.scoring import score

    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    rows = [{"id": 1, "text": "a dog runs", "photos": [tmp_path / "red.png"]}]
    report = score(
        rows,
        rows,
        protocol="standard",
        encoders=Encoders(clip=clip_folder, sentence_encoder=sentence_folder),
    )
    assert report.metrics["photo.standard.clip_i"].value == pytest.approx(1)
    assert report.metrics["text.standard.sbert"].value == pytest.approx(1)
    assert model_digest(clip_folder) in report.encoders["clip"]
    assert model_digest(sentence_folder) in report.encoders["sentence_encoder"]
    assert "12 tokens" in report.to_markdown()


def test_a_thin_photo_is_cut_before_it_is_enlarged(clip_folder):
    clip = load_clip(clip_folder)
    thin = Image.new("RGB", (600, 4), "blue")
    thin.paste("red", (280, 0, 320, 4))
    seen = []
    process, clip.processor = (
        clip.processor,
        lambda images, **how: seen.extend(images) or process(images=images, **how),
    )
    clip.processor.do_center_crop = True
    red = clip.photos([thin, thin.rotate(90, expand=True), Image.new("RGB", (40, 40), "red")])
    torch.testing.assert_close(red[0], red[2])
    torch.testing.assert_close(red[1], red[2])
    assert [image.size for image in seen] == [(64, 4), (4, 64), (40, 40)]
