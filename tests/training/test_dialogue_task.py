"""Dialogues through the model: excerpts never teach to share, parts have the whole's losses."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from conftest import build_model
from photoworld.talk import world_dialogue
from showtell.batch import collate
from showtell.dialogue import AGENT, USER
from showtell.prompt import IGNORED, Renderer, RendererConfig
from showtell.training.dialogue_task import DialogueTask, excerpt
from showtell.training.examples import square_pixels
from showtell.training.footprint import keep_less

world_pixels = partial(square_pixels, side=64)


@pytest.fixture(params=["pixels", "caption"])
def renderer(request, tokenizers):
    return Renderer(tokenizers[0], RendererConfig(num_photo_tokens=2, perceive=request.param))


def test_only_the_words_about_a_photo_are_trained(renderer):
    dice = torch.Generator().manual_seed(0)
    shared = said = 0
    for seed in range(60):
        dialogue = world_dialogue(seed)
        row = excerpt(renderer, dialogue, before=4, generator=dice)
        about = [
            turn
            for turn in dialogue.turns
            if turn.speaker == AGENT and (turn.photos or turn.labels.get("named"))
        ]
        assert (row is None) == (not about)
        if row is None:
            continue
        trained = [i for i, label in enumerate(row.labels) if label != IGNORED]
        rest = range(trained[0], len(row.ids))  # all but the places of the photo's own pixels
        assert trained == [i for i in rest if row.ids[i] != renderer.photo]
        assert all(row.labels[i] == row.ids[i] for i in trained)
        assert renderer.img not in [row.labels[i] for i in trained] and not row.moments
        text = renderer.tokenizer.decode([row.ids[i] for i in trained])
        if row.spans:
            shared += 1
            (span,) = row.spans
            assert trained[0] == span.start and span.photo.caption in text
        else:  # its first word would say that it is no photo
            said += 1
            assert any(t.text.endswith(text.split("<|end|>")[0].strip()) for t in about)
        assert len([i for i in row.ids if i == renderer.start[-1]]) == 1
    assert shared > 5 and said > 5


def test_an_excerpt_holds_the_photo_that_its_turn_speaks_of(tokenizers):
    renderer = Renderer(tokenizers[0], RendererConfig(num_photo_tokens=2))
    dice = torch.Generator().manual_seed(0)
    held, lengths = 0, set()
    for seed in range(100):
        dialogue = world_dialogue(seed)
        spoken = [k for k, t in enumerate(dialogue.turns) if t.labels.get("named")]
        by_user = [k for k, t in enumerate(dialogue.turns) if t.speaker == USER and t.photos]
        if not by_user or any(t.speaker == AGENT and t.photos for t in dialogue.turns):
            continue
        if row := excerpt(renderer, dialogue, before=6, generator=dice):
            lengths.add(sum(row.ids.count(role) for role in renderer.roles.values()))
            near = any(0 < k - by_user[-1] <= 6 for k in spoken)
            held += near
            assert row.seen or not near
    assert held > 5 and len(lengths) > 2


def test_which_turn_is_chosen_is_drawn(renderer):
    dialogue = next(
        d
        for d in map(world_dialogue, range(200))
        if sum(turn.speaker == AGENT and bool(turn.photos) for turn in d.turns) > 1
    )
    found = {
        tuple(excerpt(renderer, dialogue, before=4, generator=torch.Generator().manual_seed(s)).ids)
        for s in range(20)
    }
    assert len(found) > 1


def test_only_words_that_are_not_learnt_are_dropped(tiny_end_to_end):
    task = DialogueTask(
        tiny_end_to_end, dialogue=world_dialogue, length=4, pixels_of=world_pixels, drop_words=0.5
    )
    rows = [tiny_end_to_end.renderer.render(world_dialogue(seed)) for seed in range(4)]
    pad = tiny_end_to_end.language.tokenizer.pad_token_id
    batch = collate(rows, pad_id=pad, pixels_of=world_pixels, paint=True)
    dropped = task.batch(rows, generator=torch.Generator().manual_seed(0))
    changed_BT = dropped.ids_BT != batch.ids_BT
    assert (dropped.ids_BT[changed_BT] == pad).all()
    assert (batch.labels_BT[changed_BT] == IGNORED).all()
    words_BT = (batch.labels_BT == IGNORED) & (batch.ids_BT != pad)
    words_BT &= ~torch.isin(batch.ids_BT, torch.tensor(sorted(tiny_end_to_end.renderer.special)))
    assert 0.4 < changed_BT.sum() / words_BT.sum() < 0.6


@pytest.mark.parametrize("count", [3, 5, 9])
def test_a_batch_in_parts_of_like_length_has_the_same_losses_and_gradients(tiny_end_to_end, count):
    tiny_end_to_end.painter = None  # its noise is drawn in another order
    task = DialogueTask(tiny_end_to_end, world_dialogue, length=9, pixels_of=world_pixels)
    found = []
    for parts in (1, count):
        tiny_end_to_end.zero_grad()
        values: dict[str, float] = {}
        given = task.parts(range(9), count=parts, generator=torch.Generator())
        for losses, shares in given:
            sum(shares[name] * loss for name, loss in losses.items()).backward()
            for name, loss in losses.items():
                values[name] = values.get(name, 0.0) + shares[name] * float(loss.detach())
        found.append((values, [p.grad for p in task.module.parameters() if p.grad is not None]))
    (whole, gradients), (joined, others) = found
    assert joined == pytest.approx(whole, abs=1e-6)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_layers_that_are_run_once_more_give_the_same_gradients_and_keep_less(tokenizers):
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = build_model(tokenizers, bridge="dvtm").requires_grad_(True).train()
        if checkpointing:
            keep_less(model)
        task = DialogueTask(model, world_dialogue, length=9, pixels_of=world_pixels)
        kept = {}

        def keep(tensor, kept=kept):
            kept[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            rows = [task.row(n, generator=torch.Generator().manual_seed(n)) for n in range(4)]
            batch = task.batch(rows, generator=torch.Generator())
            losses = model(batch, generator=torch.Generator().manual_seed(1))
        sum(losses.values()).backward()
        found.append((losses, [p.grad for p in model.parameters()], sum(kept.values())))
    (plain, gradients, much), (again, others, less) = found
    torch.testing.assert_close(again, plain)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    assert less < 0.8 * much


def test_every_second_visit_exchanges_the_speakers_of_data_without_an_agent(tiny_end_to_end):
    seen = []
    task = DialogueTask(
        tiny_end_to_end,
        world_dialogue,
        length=40,
        exchanged=lambda dialogue: seen.append(dialogue.id) or dialogue,
    )
    dice = torch.Generator().manual_seed(0)
    for index in range(40):
        task.row(index, generator=dice)
    assert 10 <= len(seen) <= 30
