"""Tiny models of the real classes, and chance that is said out loud."""

from __future__ import annotations

import copy
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the tests are of the CPU, also where there is a GPU

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def tokenizers():
    """(the LLM's tokenizer, the painter's): two vocabularies that truly differ."""
    from photoworld.talk import world_dialogue
    from showtell.recipes import small

    texts = small.words_of(map(world_dialogue, range(60)))
    captions = [p.caption for seed in range(200) for p in world_dialogue(seed).photos]
    return (
        small.train_dialogue_tokenizer(texts, vocabulary=500),
        small.train_painter_tokenizer(captions, vocabulary=600),
    )


def build_model(tokenizers, *, bridge: str):
    """A whole model, small enough for tests: the classes and the code path of the large ones."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import (
        Blip2QFormerConfig,
        Blip2QFormerModel,
        CLIPTextModel,
        LlamaConfig,
        LlamaForCausalLM,
        ViTConfig,
        ViTModel,
    )

    from showtell.models.dialogue_model import Decoding, PhotoDialogueModel
    from showtell.models.language import LanguageModel
    from showtell.models.painter import LatentDiffusionPainter
    from showtell.models.photo_encoder import QFormerPhotoEncoder
    from showtell.models.text_towers import ClipTextTower
    from showtell.papers import BRIDGES
    from showtell.prompt import Renderer, RendererConfig
    from showtell.recipes import small

    torch.manual_seed(0)
    words, pieces = copy.deepcopy(tokenizers)  # a test may grow its vocabulary
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            pad_token_id=words.pad_token_id,
        )
    )
    clip = CLIPTextModel(
        type(small.build_text_tower(pieces).config)(
            vocab_size=len(pieces),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=40,
            bos_token_id=pieces.bos_token_id,
            eos_token_id=pieces.eos_token_id,
            pad_token_id=pieces.pad_token_id,
        )
    )
    painter = LatentDiffusionPainter(
        text=ClipTextTower(clip, pieces),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            mid_block_add_attention=False,
        ),
        unet=UNet2DConditionModel(
            sample_size=32,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 8),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            attention_head_dim=2,
            cross_attention_dim=16,
            norm_num_groups=4,
        ),
        scheduler=small.build_scheduler(),
    )
    photo_encoder = QFormerPhotoEncoder(
        vision=ViTModel(
            ViTConfig(
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                image_size=64,
                patch_size=16,
            ),
            add_pooling_layer=False,
        ),
        qformer=Blip2QFormerModel(
            Blip2QFormerConfig(
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                encoder_hidden_size=16,
                cross_attention_frequency=1,
                vocab_size=1,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        ),
        num_tokens=3,
        language_width=32,
    )
    return PhotoDialogueModel(
        language=LanguageModel(llama, words),
        photo_encoder=photo_encoder,
        bridge=BRIDGES[bridge](BRIDGES[bridge].settings(), tokenizer=words),
        painter=painter,
        renderer=Renderer(words, RendererConfig(num_photo_tokens=3)),
        name="tiny",
        decoding=Decoding(num_steps=2, max_new_tokens=6),
    ).eval()


def save_vision(vision, folder) -> None:
    """A ViT as the hub has it: with what says how it looks at photos."""
    from transformers import ViTImageProcessorPil

    side = vision.config.image_size
    vision.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": side, "width": side}).save_pretrained(folder)


def photochat_record(number: int, said: list[tuple[str, int]]) -> dict:
    """A line of PhotoChat's file of what two users say, a photo announced and shared in it."""
    turns = [{"message": text, "share_photo": False, "user_id": user} for text, user in said]
    share = 2 + number % 4
    turns[share - 1]["message"] = "let me show you a picture"
    turns[share] |= {"message": "", "share_photo": True}
    return {
        "dialogue": turns,
        "dialogue_id": number,
        "photo_description": "Objects in the photo: Dog, Cake",
        "photo_url": f"https://x/{number}.jpg",
    }


def words_alone(texts):
    """The text side alone, as photochat_small is, with a tokenizer learnt from these texts."""
    from showtell.models.language import LanguageModel
    from showtell.recipes import small
    from showtell.recipes.talking import text_model

    tokenizer = small.train_dialogue_tokenizer(texts, vocabulary=300)
    torch.manual_seed(0)
    llama = small.build_language_model(tokenizer, layers=2, width=32, heads=2)
    return text_model(LanguageModel(llama, tokenizer)).eval()


SMALL_BRIDGES = {
    "divter": {},
    "dvtm": {},
    "gill": {"num_tokens": 3, "num_layers": 1, "num_heads": 2, "width": 16, "album_width": 8},
    "pipeline": {},
    "vokens": {"num_vokens": 3, "num_layers": 1, "num_heads": 2},
}


def small_bridge(name: str, **choices):
    """The settings of a bridge for the tiny model."""
    from showtell.papers import BRIDGES

    return BRIDGES[name].settings(**SMALL_BRIDGES[name] | choices)


def bridged_model(tokenizers, name: str, **choices):
    """The tiny model with any of the bridges."""
    from showtell.recipes.assemble import with_bridge

    base = build_model(tokenizers, bridge="pipeline")
    return with_bridge(base, small_bridge(name, **choices), seed=0).eval()


def attending_model(tokenizers, *, bridge: str = "dvtm", gate: float = 0.5):
    """One whose LLM attends to photos, by a layer whose gates stand open."""
    from showtell.recipes.assemble import attending, with_bridge

    base = attending(build_model(tokenizers, bridge="pipeline"), layers=(1,))
    model = with_bridge(base, small_bridge(bridge), seed=0).eval()
    for name, parameter in model.language.named_parameters():
        if name.endswith("_gate"):
            parameter.data.fill_(gate)
    return model


def responder_of(model, *, album=None, **decoding):
    """What answers by a model, with some of its settings changed."""
    from dataclasses import replace

    from showtell.models.decoder import Decoder
    from showtell.models.respond import Responder

    return Responder(Decoder(model, decoding=replace(model.decoding, **decoding)), album=album)


@pytest.fixture(params=["dvtm", "pipeline"])
def tiny_model(request, tokenizers):
    return build_model(tokenizers, bridge=request.param)


@pytest.fixture
def tiny_end_to_end(tokenizers):
    return build_model(tokenizers, bridge="dvtm")


@pytest.fixture(scope="session")
def base(tokenizers, tmp_path_factory):
    """The folder of a tiny end-to-end model. It is not to be changed."""
    from showtell.models.checkpoint import save_model

    folder = tmp_path_factory.mktemp("base") / "model"
    save_model(build_model(tokenizers, bridge="dvtm"), folder, recipe={"name": "tiny"})
    return folder


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A few dialogues with their photos in each format: the paths. They are not to be changed."""
    from data import natives

    root = tmp_path_factory.mktemp("natives") / "all"
    found = natives.write_all(root)
    natives.write_all_photos(root)
    return found


def dialogues_with_photos(count: int):
    """World dialogues that hold a photo by each speaker."""
    from photoworld.talk import world_dialogue

    found, seed = [], 0
    while len(found) < count:
        dialogue = world_dialogue(seed)
        if {t.speaker for t in dialogue.turns if t.photos} == {"user", "agent"}:
            found.append(dialogue)
        seed += 1
    return found


def collated(model, dialogues):
    from functools import partial

    from showtell.batch import collate
    from showtell.training.examples import square_pixels

    rows = [model.renderer.render(dialogue) for dialogue in dialogues]
    pad = model.language.tokenizer.pad_token_id
    return collate(rows, pad_id=pad, pixels_of=partial(square_pixels, side=64), paint=True)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """The address of a PostgreSQL server of its own, on the loopback."""
    servers = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = next(
        (each for each in reversed(servers) if (each / "initdb").is_file()),
        None,
    )
    if found is None:
        pytest.skip("no PostgreSQL server here: apt install postgresql")
    # the server refuses to run as root
    folder = tmp_path_factory.mktemp("postgres")
    as_user: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("PostgreSQL does not run as root, and there is no setpriv")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        shutil.chown(folder, "postgres", "postgres")
        for parent in list(folder.parents)[:3]:
            if parent.owner() == "root" and parent != Path("/tmp"):
                parent.chmod(parent.stat().st_mode | 0o055)
    data = folder / "data"
    quiet = {"check": True, "capture_output": True, "cwd": folder}
    subprocess.run(
        [*as_user, found / "initdb", "-D", data, "-A", "trust", "-U", "showtell"], **quiet
    )
    server = subprocess.Popen(
        [*as_user, found / "postgres", "-D", data, "-k", str(folder), "-c", "listen_addresses="],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    address = f"postgresql://showtell@/postgres?host={folder}"
    try:
        for _ in range(200):
            if (folder / ".s.PGSQL.5432").exists():
                break
            time.sleep(0.05)
        time.sleep(0.3)
        yield address
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=20)
