"""The closed forms against the literal matrices of 2408.08650, Eq. 4-13."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from tokenizers import normalizers
from torch import Tensor

from showtell.errors import DataError
from showtell.models.parts import PhotoSpans
from showtell.papers import e2e as dvtm
from showtell.papers.e2e import Dvtm, DvtmConfig, matching_strings, token_offsets
from showtell.papers.e2e_kernel import token_probabilities

from .fakes import FakePainter, FakeTower, LinearTower, llm_tokenizer, make_spans

STRAIGHT = ("static", "sentence", "word", "aligned")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def tokenizer():
    return llm_tokenizer()


@pytest.fixture(scope="module")
def tower():
    # 8 rows: the first two captions are truncated, the third is padded
    return FakeTower(num_rows=8, width=5)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def bridge_of(tokenizer, **choices) -> Dvtm:
    return Dvtm(DvtmConfig(**{"gumbel": False, **choices}), tokenizer=tokenizer)


def photo_loss(bridge: Dvtm, spans: PhotoSpans, tower: FakeTower) -> Tensor:
    """L_v for a fixed noise of the painter, each photo with its own."""
    painter = FakePainter(tower)
    cond_NSC = bridge(spans, painter, generator=torch.Generator()).cond_NSC
    return sum(
        painter.loss(cond_SC, torch.zeros(1), generator=torch.Generator().manual_seed(len(text)))
        for cond_SC, text in zip(cond_NSC, spans.captions, strict=True)
    )


def photo_gradient(bridge: Dvtm, spans: PhotoSpans, tower: FakeTower) -> Tensor:
    """dL_v / dlogits"""
    return torch.autograd.grad(photo_loss(bridge, spans, tower), spans.logits_NKV)[0]


def dense_embeddings(
    spans: PhotoSpans, tokenizer, tower: FakeTower, *, vocabulary: str, pooling: str, tau: float
) -> Tensor:
    """Eq. 6-11 with every matrix written out, V x U, a caption and a word at a time."""
    table_UC = tower.token_table_UC
    num_pieces, special = len(table_UC), {0, 1, 2}
    painted = tower.tokenize(spans.captions)
    rows = []
    for n, caption in enumerate(spans.captions):
        keep = spans.mask_NK[n] & (spans.ids_NK[n] != tokenizer.eos_token_id)
        ids = spans.ids_NK[n][keep].tolist()
        p_KV = (spans.logits_NKV[n][keep] / tau).softmax(-1)
        r_KV = torch.eye(p_KV.shape[1], dtype=p_KV.dtype)[p_KV.argmax(-1)] - p_KV.detach() + p_KV
        pieces = painted.ids_NS[n].tolist()
        r_sd_SU = torch.eye(num_pieces, dtype=p_KV.dtype)[painted.ids_NS[n]]
        length = pieces.index(2) + 1  # BOS ... EOS

        def pool(x_KU: Tensor) -> Tensor:
            return x_KU.mean(0) if pooling == "average" else x_KU.sum(0)

        def matrix(token_sets, piece_sets, size=(p_KV.shape[1], num_pieces), dtype=p_KV.dtype):
            m_VU = torch.zeros(size, dtype=dtype)
            for tokens, parts in zip(token_sets, piece_sets, strict=True):
                for i in set(tokens) - {0, 1, 2, 3, 4}:
                    for j in set(parts) - special:
                        m_VU[i, j] = 1.0
            return m_VU

        # byte-level BPE and CLIP's both cut at spaces and punctuation first
        words = re.findall(r"\w+|,", caption)
        texts = [w if w == "," or (i == 0 and ids[0] == 0) else " " + w
                 for i, w in enumerate(words)]  # fmt: skip
        token_words = [tokenizer(w, add_special_tokens=False)["input_ids"] for w in texts]
        piece_words = [tower.tokenizer(w, add_special_tokens=False)["input_ids"] for w in words]
        assert sum(token_words, []) == ids
        kept = sum(piece_words, [])[: length - 2]
        assert kept == pieces[1 : length - 1]

        # a token of nothing but space belongs to no word
        blank = [not tokenizer.decode([i]).strip() for i in ids]
        if vocabulary == "aligned":
            k = s = 0
            carried_SU = torch.zeros_like(r_sd_SU)
            for tokens, parts in zip(token_words, piece_words, strict=True):
                own = parts[: max(0, len(kept) - s)]
                inside = [i for i in range(k, k + len(tokens)) if not blank[i]]
                carried_U = pool(r_KV[inside] @ matrix([[ids[i] for i in inside]], [own]))
                carried_SU[1 + s : 1 + s + len(own)] = carried_U
                k, s = k + len(tokens), s + len(own)
        else:
            if vocabulary == "sentence":
                m_VU = matrix([ids], [kept])
            elif vocabulary == "word":
                ends, cut = 0, []
                for parts in piece_words:
                    cut.append(parts[: max(0, len(kept) - ends)])
                    ends += len(parts)
                spaces = {i for i, empty in zip(ids, blank, strict=True) if empty}
                m_VU = matrix([set(tokens) - spaces for tokens in token_words], cut)
            else:
                bare = {i: t.removeprefix("\u0120") for t, i in tokenizer.get_vocab().items()}
                there = {j: t.removesuffix("</w>") for t, j in tower.tokenizer.get_vocab().items()}
                same = [(i, j) for i in bare for j in there if bare[i] and bare[i] == there[j]]
                m_VU = matrix([[i] for i, _ in same], [[j] for _, j in same])
                assert m_VU.sum() > 5
            carried_SU = torch.zeros_like(r_sd_SU)
            carried_SU[:length] = pool(r_KV @ m_VU)
        r_sd_SU = r_sd_SU - carried_SU.detach() + carried_SU
        rows.append(r_sd_SU @ table_UC)
    return torch.stack(rows)


@pytest.mark.parametrize("with_eos", [False, True])
@pytest.mark.parametrize("tau", [1.0, 0.25])
@pytest.mark.parametrize("pooling", ["average", "sum"])
@pytest.mark.parametrize("vocabulary", STRAIGHT)
def test_closed_form_is_the_literal_matrix(tokenizer, tower, vocabulary, pooling, tau, with_eos):
    spans = make_spans(tokenizer, with_eos=with_eos)
    bridge = bridge_of(tokenizer, vocabulary=vocabulary, pooling=pooling, temperature_start=tau)
    painter = FakePainter(tower)
    embeds_NSC = dense_embeddings(
        spans, tokenizer, tower, vocabulary=vocabulary, pooling=pooling, tau=tau
    )
    want_NSC = tower(tower.tokenize(spans.captions), embeds_NSC)
    got_NSC = bridge(spans, painter, generator=torch.Generator()).cond_NSC
    torch.testing.assert_close(got_NSC, want_NSC, rtol=0, atol=1e-6)

    weight_NSC = torch.randn(want_NSC.shape, dtype=want_NSC.dtype)
    (want,) = torch.autograd.grad((want_NSC * weight_NSC).sum(), spans.logits_NKV)
    (got,) = torch.autograd.grad((got_NSC * weight_NSC).sum(), spans.logits_NKV)
    assert want.abs().max() > 1e-3
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


def test_soft_is_the_literal_mixture_and_its_gradient_is_true(tokenizer):
    tower = FakeTower(num_rows=10, width=5)
    spans = make_spans(tokenizer)
    bridge = bridge_of(tokenizer, vocabulary="soft")
    got_NSC = bridge(spans, FakePainter(tower), generator=torch.Generator()).cond_NSC

    map_VU = torch.zeros(len(tokenizer), len(tower.token_table_UC), dtype=torch.float64)
    for token in range(5, len(tokenizer)):
        pieces = tower.tokenize([tokenizer.decode([token]).strip()])
        parts = pieces.ids_NS[pieces.content_NS].tolist()
        for piece in parts:
            map_VU[token, piece] += 1 / len(parts)
    p_NKV = spans.logits_NKV.softmax(-1)
    empty_S = tower.tokenize([""]).ids_NS[0]
    rows = []
    for n in range(len(spans.captions)):
        mixtures = (p_NKV[n][spans.mask_NK[n]] @ map_VU @ tower.token_table_UC)[:8]
        frame = tower.token_table_UC[empty_S]
        ends = [frame[:1], mixtures, frame[1:2], frame[2:].new_zeros(8 - len(mixtures), 5)]
        ends[3] += tower.token_table_UC[0]
        rows.append(torch.cat(ends))
    want_NSC = tower(tower.tokenize(spans.captions), torch.stack(rows))
    torch.testing.assert_close(got_NSC, want_NSC)

    # a true gradient: the finite difference agrees, where a straight-through one's is 0
    direction = torch.randn(spans.logits_NKV.shape, dtype=torch.float64)
    slope = (photo_gradient(bridge, spans, tower) * direction).sum()
    step = 1e-5

    def loss_at(sign: float, chosen: Dvtm) -> float:
        moved = (spans.logits_NKV + sign * step * direction).detach().requires_grad_()
        there = replace(spans, logits_NKV=moved)
        return float(photo_loss(chosen, there, tower).detach())

    measured = (loss_at(1, bridge) - loss_at(-1, bridge)) / (2 * step)
    assert measured == pytest.approx(float(slope), rel=1e-5)
    sentence = bridge_of(tokenizer)
    assert loss_at(1, sentence) == loss_at(-1, sentence)
    assert photo_gradient(sentence, spans, tower).abs().max() > 1e-3


def test_gumbel_softmax_over_log_probabilities_equals_that_over_logits():
    logits = torch.randn(4, 3, 9, dtype=torch.float64) * 5
    noise = dvtm.gumbel_noise(logits, generator=torch.Generator().manual_seed(0))
    from_log_probs = dvtm.gumbel_softmax(logits.log_softmax(-1) + noise, temperature=0.2)
    torch.testing.assert_close(from_log_probs, dvtm.gumbel_softmax(logits + noise, temperature=0.2))


def test_gumbel_noise_has_the_gumbel_law():
    noise = dvtm.gumbel_noise(torch.zeros(200_000), generator=torch.Generator().manual_seed(0))
    assert noise.isfinite().all()
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.01)
    assert float(noise.var()) == pytest.approx(torch.pi**2 / 6, rel=0.02)
    # argmax(o + g) is a draw from softmax(o)
    logits = torch.tensor([1.0, 0.0, -1.0]).expand(50_000, 3)
    noisy = logits + dvtm.gumbel_noise(logits, generator=torch.Generator().manual_seed(1))
    drawn = torch.bincount(noisy.argmax(-1), minlength=3) / 50_000
    torch.testing.assert_close(drawn, logits[0].softmax(-1), rtol=0, atol=0.01)


def test_straight_through_value_is_exactly_the_onehot_and_its_gradient_the_softmax():
    logits = torch.randn(4, 5, 37, requires_grad=True)
    weight = torch.randn(4, 5, 37)
    onehot = dvtm.straight_through(logits.softmax(-1))
    assert set(onehot.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(onehot.argmax(-1), logits.argmax(-1))
    assert torch.equal(onehot.sum(-1), torch.ones(4, 5))
    (through,) = torch.autograd.grad((onehot * weight).sum(), logits)
    (soft,) = torch.autograd.grad((logits.softmax(-1) * weight).sum(), logits)
    assert torch.equal(through, soft)


@pytest.mark.parametrize("vocabulary", STRAIGHT)
@pytest.mark.parametrize("gumbel", [False, True])
def test_value_is_exactly_the_captions_own_with_and_without_a_gradient(
    tokenizer, tower, rng, vocabulary, gumbel
):
    spans = make_spans(tokenizer)
    bridge = bridge_of(tokenizer, vocabulary=vocabulary, gumbel=gumbel, temperature_start=0.01)
    plain_NSC = tower.encode(spans.captions)
    trained = bridge(spans, FakePainter(tower), generator=rng)
    assert torch.equal(trained.cond_NSC.detach(), plain_NSC)
    written = replace(spans, logits_NKV=spans.logits_NKV.detach())
    assert torch.equal(bridge(written, FakePainter(tower), generator=rng).cond_NSC, plain_NSC)


@pytest.mark.parametrize("vocabulary", [*STRAIGHT, "soft"])
def test_autocast_leaves_the_value_and_its_gradient_what_they_are(tokenizer, rng, vocabulary):
    tower = LinearTower(num_rows=8, width=5, dtype=torch.float32)
    spans = make_spans(tokenizer)
    logits_NKV = spans.logits_NKV.detach().float().requires_grad_()
    spans = replace(spans, logits_NKV=logits_NKV)
    bridge, found = bridge_of(tokenizer, vocabulary=vocabulary), []
    for autocast in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            cond_NSC = bridge(spans, FakePainter(tower), generator=rng).cond_NSC
        gradient_NKV = torch.autograd.grad((cond_NSC**2).sum(), logits_NKV)[0]
        found.append((cond_NSC.detach(), gradient_NKV))
    if vocabulary != "soft":
        assert torch.equal(found[1][0], tower.encode(spans.captions))
    for plain, cast in zip(*found, strict=True):
        close = {"rtol": 0.1, "atol": 0.02 * float(plain.abs().max())}
        torch.testing.assert_close(cast.float(), plain, **close)


def test_inference_needs_no_alignment_of_what_the_model_wrote(tokenizer, tower, rng):
    spans = make_spans(tokenizer, ["a cat"], padding=0)
    letters = torch.tensor([tokenizer.convert_tokens_to_ids(["a", "\u0120", "c", "a"])])
    written = replace(
        spans,
        ids_NK=letters,
        mask_NK=torch.ones_like(letters, dtype=torch.bool),
        logits_NKV=torch.zeros(1, 4, len(tokenizer)),
    )
    bridge = bridge_of(tokenizer, vocabulary="aligned")
    bridge(written, FakePainter(tower), generator=rng)
    trained = replace(written, logits_NKV=torch.zeros(1, 4, len(tokenizer), requires_grad=True))
    with pytest.raises(DataError, match=r"'a cat'.*vocabulary=\"sentence\""):
        bridge(trained, FakePainter(tower), generator=rng)


def test_a_sentence_hands_the_llm_one_scalar_a_caption(tokenizer, tower):
    spans = make_spans(tokenizer)
    gradient_NKV = photo_gradient(bridge_of(tokenizer), spans, tower)
    p_NKV = spans.logits_NKV.detach().softmax(-1)
    for n, ids_K in enumerate(spans.ids_NK):
        kept = spans.mask_NK[n]
        inside_V = torch.zeros(len(tokenizer), dtype=torch.float64)
        inside_V[ids_K[kept]] = 1.0
        p_KV = p_NKV[n][kept]
        law_KV = p_KV * (inside_V - (p_KV * inside_V).sum(-1, keepdim=True))
        scalars = gradient_NKV[n][kept] / law_KV
        torch.testing.assert_close(scalars, scalars[:1, :1].expand_as(scalars))
    # average pooling is the sum's gradient over the caption's length
    total_NKV = photo_gradient(bridge_of(tokenizer, pooling="sum"), spans, tower)
    lengths_N = spans.mask_NK.sum(1)[:, None, None]
    torch.testing.assert_close(total_NKV / lengths_N, gradient_NKV)


@pytest.mark.parametrize("vocabulary", [*STRAIGHT, "soft"])
def test_padding_a_batch_changes_nothing(tokenizer, tower, vocabulary):
    bridge = bridge_of(tokenizer, vocabulary=vocabulary)
    short = make_spans(tokenizer, padding=0)
    long = make_spans(tokenizer, padding=4)
    long.logits_NKV.data[~long.mask_NK] = 7.0 * torch.randn(len(tokenizer), dtype=torch.float64)
    want = photo_gradient(bridge, short, tower)
    got = photo_gradient(bridge, long, tower)
    width = want.shape[1]
    torch.testing.assert_close(got[:, :width], want)
    assert not got[~long.mask_NK].any()


@pytest.mark.parametrize("vocabulary", [*STRAIGHT, "soft"])
def test_an_empty_caption_gives_nothing_and_breaks_nothing(tokenizer, tower, vocabulary):
    bridge = bridge_of(tokenizer, vocabulary=vocabulary)
    alone = photo_gradient(bridge, make_spans(tokenizer, ["a dog"], leading_space=False), tower)
    spans = make_spans(tokenizer, ["", "a dog"], leading_space=False)
    both = photo_gradient(bridge, spans, tower)
    assert not both[0].any()
    torch.testing.assert_close(both[1:], alone)
    if vocabulary != "soft":
        assert not photo_gradient(
            bridge, make_spans(tokenizer, [""], leading_space=False), tower
        ).any()


def test_a_caption_with_our_marks_in_it_is_words(tokenizer):
    text = "a dog [IMG]"
    ids = tokenizer(" " + text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert not set(ids) & {0, 1, 2, 3, 4}
    assert token_offsets(text, ids, tokenizer)[-1][1] == len(text)


def test_special_tokens_match_no_piece(tokenizer, tower):
    pairs = matching_strings(tokenizer, tower)
    assert not {i for i, _ in pairs} & {0, 1, 2, 3, 4}
    assert not {j for _, j in pairs} & {0, 1, 2}
    tokens, pieces = tokenizer.convert_ids_to_tokens, tower.tokenizer.convert_ids_to_tokens
    assert ("\u0120cat", "cat</w>") in {(tokens(i), pieces(j)) for i, j in pairs}


def test_predicted_captions_are_what_the_noisy_logits_say(tokenizer, tower, rng):
    spans = make_spans(tokenizer)
    said = ["a red dog", "the night", "cat"]
    logits_NKV = torch.zeros_like(spans.logits_NKV)
    mask_NK = torch.zeros_like(spans.mask_NK)
    for n, text in enumerate(said):
        for k, token in enumerate(tokenizer(text, add_special_tokens=False)["input_ids"]):
            logits_NKV[n, k, token] = 9.0
            mask_NK[n, k] = True
    spans = replace(spans, mask_NK=mask_NK, logits_NKV=logits_NKV.requires_grad_())
    bridge = bridge_of(tokenizer, caption_for_denoiser="predicted", pooling="sum")
    cond_NSC = bridge(spans, FakePainter(tower), generator=rng).cond_NSC
    assert torch.equal(cond_NSC, tower.encode(said))
    gold = bridge_of(tokenizer)(spans, FakePainter(tower), generator=rng).cond_NSC
    assert not torch.equal(gold, cond_NSC)
    # T_LLM is the predicted set: more of it is what the gradient speaks of
    (gradient,) = torch.autograd.grad((cond_NSC**2).sum(), logits_NKV)
    assert gradient[mask_NK].abs().max() > 0 and not gradient[~mask_NK].any()


def test_the_words_of_an_llm_are_found_in_whatever_tokens_it_says_them(tokenizer):
    ids = tokenizer.convert_tokens_to_ids(["\u0120", "a", "\u0120", "c", "a", "t"])
    text = tokenizer.decode(ids)
    offsets = token_offsets(text, ids, tokenizer)
    assert [text[s:e] for s, e in offsets] == list(" a cat")
    assert token_offsets("a cat", ids, tokenizer) == [(max(s - 1, 0), e - 1) for s, e in offsets]
    # a character in two tokens: the first one's
    bytes_of = tokenizer("\u00e9", add_special_tokens=False)["input_ids"]
    ids = [*ids[2:], *bytes_of]
    assert tokenizer.decode(ids) == " cat\u00e9" and len(bytes_of) == 2
    assert token_offsets(" cat\u00e9", ids, tokenizer)[-2:] == [(4, 5), (5, 5)]


def test_words_are_found_where_a_tokenizer_changes_what_it_reads():
    tokenizer = llm_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    ids = tokenizer(" A Cat", add_special_tokens=False)["input_ids"]
    for text in ("A Cat", "  A Cat "):
        found = "".join(text[start:end] for start, end in token_offsets(text, ids, tokenizer))
        assert found.strip() == "A Cat"
    with pytest.raises(DataError, match="holds the ids"):
        token_offsets("a dog", ids, tokenizer)


@pytest.mark.parametrize("gumbel", [False, True])
def test_without_a_matrix_the_llm_hears_nothing(tokenizer, tower, rng, gumbel):
    spans, painter = make_spans(tokenizer), FakePainter(tower)
    bridge = bridge_of(tokenizer, vocabulary="none", gumbel=gumbel)
    cond_NSC = bridge(spans, painter, generator=rng).cond_NSC
    assert not cond_NSC.requires_grad
    assert torch.equal(cond_NSC, tower.encode(spans.captions))
    # what the LLM would say still reaches the painter, and is what it reads with a matrix
    said = [
        bridge_of(tokenizer, vocabulary=name, gumbel=gumbel, caption_for_denoiser="predicted")(
            spans, painter, generator=torch.Generator().manual_seed(5)
        ).cond_NSC
        for name in ("none", "sentence")
    ]
    assert not said[0].requires_grad and said[1].requires_grad
    assert torch.equal(said[0], said[1].detach()) and not torch.equal(said[0], cond_NSC)


def test_temperature_falls_over_three_epochs_and_stays(tokenizer):
    bridge = bridge_of(tokenizer)
    seen = []
    for epoch in (0.0, 1.5, 3.0, 9.0):
        bridge.advance(epoch, of=9.0)
        seen.append(float(bridge.temperature))
    assert seen == pytest.approx([1.0, 0.505, 0.01, 0.01])
    bridge = bridge_of(tokenizer, annealing="log", temperature_final=1e-4)
    bridge.advance(1.5, of=9.0)
    assert float(bridge.temperature) == pytest.approx(0.01)
    # a checkpoint keeps it
    other = bridge_of(tokenizer)
    other.load_state_dict(bridge.state_dict())
    assert float(other.temperature) == pytest.approx(0.01)


@pytest.mark.parametrize("vocabulary", [*STRAIGHT, "soft"])
def test_noise_at_the_lowest_temperature_leaves_every_gradient_finite(tokenizer, tower, vocabulary):
    bridge = bridge_of(tokenizer, vocabulary=vocabulary, gumbel=True, temperature_start=1e-4)
    spans = make_spans(tokenizer)
    assert photo_gradient(bridge, spans, tower).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_token_probabilities_are_columns_of_the_softmax(monkeypatch, dtype, temperature):
    monkeypatch.setattr("showtell.papers.e2e_kernel._BLOCK_NUMBERS", {"cpu": 3 * 50})
    logits_RV = (4 * torch.randn(11, 50)).to(dtype).requires_grad_()
    ids_RJ = torch.stack([torch.randperm(50)[:6] for _ in range(11)])
    weight_RJ = torch.randn(11, 6)
    got = token_probabilities(logits_RV, ids_RJ, temperature=temperature)
    wide_RV = logits_RV.detach().double().requires_grad_()
    want = (wide_RV / temperature).softmax(-1).gather(1, ids_RJ)
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype != torch.float64 else {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(got.double(), want, **close)
    (got_RV,) = torch.autograd.grad((got * weight_RJ).sum(), logits_RV)
    (want_RV,) = torch.autograd.grad((want * weight_RJ).sum(), wide_RV)
    assert got_RV.dtype == dtype
    if dtype == torch.bfloat16:
        close = {"rtol": 1e-2, "atol": 2e-2}  # its result is rounded to 8 bits
    torch.testing.assert_close(got_RV.double(), want_RV, **close)
