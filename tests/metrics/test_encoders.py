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
    pool(folder, pooling_mode_mean_tokens=True, pooling_mode_cls_token=False)
    return folder


def pool(folder, **settings):
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))


TEXTS = ["a dog runs", "cat", "a cat sleeps here a dog runs here"]


def hidden(encoder, text):
    ids = encoder.tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        return encoder.model(**ids).last_hidden_state[0]


def test_pooling_is_what_the_folder_says_and_ignores_padding(sentence_folder):
    encoder = load_sentence_encoder(sentence_folder)
    together = encoder(TEXTS)
    for row, text in zip(together, TEXTS, strict=True):
        torch.testing.assert_close(row, hidden(encoder, text).mean(0), atol=1e-5, rtol=1e-4)
    assert "mean pooling" in encoder.id and encoder.truncated == 0
    encoder(["a " * 10, "a " * 11, "a " * 90])  # two marks beside the words: 12 tokens fit
    assert encoder.truncated == 2
    for settings, take in (
        ({"pooling_mode_cls_token": True}, lambda h: h[0]),
        ({"pooling_mode": "max"}, lambda h: h.amax(0)),
    ):
        pool(sentence_folder, **settings)
        other = load_sentence_encoder(sentence_folder)
        for row, text in zip(other(TEXTS), TEXTS, strict=True):
            torch.testing.assert_close(row, take(hidden(other, text)), atol=1e-5, rtol=1e-4)
    pool(sentence_folder, pooling_mode_mean_tokens=True)


def test_a_folder_that_is_no_sentence_encoder_says_what_is_missing(sentence_folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*--sentence-encoder FOLDER"):
        load_sentence_encoder(tmp_path)
    modules, pooling = (sentence_folder / n for n in ("modules.json", "1_Pooling/config.json"))
    mean = pooling.read_text()
    both = json.dumps({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True})
    dense = json.dumps([{"type": "sentence_transformers.models.Dense"}])
    for file, text, says in (
        (pooling, both, "one of mean, cls, max"),
        (pooling, None, "1_Pooling/config.json"),
        (modules, dense, "dense layer"),
        (modules, "{", "broken JSON"),
    ):
        pooling.write_text(mean)
        file.unlink(missing_ok=True) if text is None else file.write_text(text)
        with pytest.raises(CheckpointError, match=says):
            load_sentence_encoder(sentence_folder)
    modules.unlink()


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


def test_clip_reads_files_counts_texts_that_it_cuts_and_says_which_one_is_wanted(
    clip_folder, tmp_path
):
    clip, red = load_clip(clip_folder), Image.new("RGB", (40, 40), "red")
    red.save(tmp_path / "red.png")
    torch.testing.assert_close(clip.photos([tmp_path / "red.png"]), clip.photos([red]))
    clip.texts(["a " * 6, "a " * 7])
    assert clip.truncated == 1
    with pytest.raises(CheckpointError, match=r"openai/clip-vit-base-patch32.*--clip FOLDER"):
        load_clip(tmp_path, wanted="openai/clip-vit-base-patch32")


def test_a_score_with_encoders_from_folders_prints_their_digests(
    clip_folder, sentence_folder, tmp_path
):
    from showtell.metrics import Encoders, score
    from showtell.metrics.report import model_digest

    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    rows = [{"id": 1, "text": "a dog runs", "photos": [tmp_path / "red.png"]}]
    report = score(
        rows,
        rows,
        protocol="standard",
        encoders=Encoders(clip=clip_folder, sentence_encoder=sentence_folder),
        only=["clip_i", "clip_t", "sbert"],
    )
    assert report.metrics["photo.standard.clip_i"].value == pytest.approx(1)
    assert report.metrics["text.standard.sbert"].value == pytest.approx(1)
    assert model_digest(clip_folder) in report.encoders["clip"]
    assert model_digest(sentence_folder) in report.encoders["sentences"]
    assert "mean pooling, 12 tokens" in report.to_markdown()


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


def test_a_roberta_of_514_positions_is_cut_at_512_and_counted(tmp_path):
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(**SIZE, vocab_size=10, max_position_embeddings=514, pad_token_id=1)
    RobertaModel(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    pool(tmp_path, pooling_mode_mean_tokens=True)
    encoder = load_sentence_encoder(tmp_path)
    assert encoder(["a " * 510, "a " * 900]).shape == (2, 16)
    assert encoder.truncated == 1 and "512 tokens" in encoder.id
