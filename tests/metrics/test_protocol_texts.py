"""Texts under each named protocol, against slow transcriptions and frozen outputs of the tools."""

from __future__ import annotations

import gc
import math
import random
import re
import warnings
from collections import Counter

import pytest

from showtell.errors import DataError
from showtell.metrics.answers import (
    aligned,
    minigpt5_text,
    mmdialog_text,
    rouge_package_l,
    sentence_bleu,
    text_before_photo,
)
from showtell.metrics.text import (
    cut_at_full_stop,
    gill_scores,
    psdg_scores,
    rouge_l_f1,
    standard_scores,
    text_values,
)
from showtell.metrics.text_meteor import meteor, meteor_exact_stem, open_wordnet

SAID = ["The cat sat on the mat.", "It's raining, isn't it?", "Nice photo of the dog!"]
SAID += ["I walked", "yes"]
WANTED = ["A cat sat on a mat.", "It is raining here, isn't it?", "What a nice photo!"]
WANTED += ["We were walking home", "Yes, please."]
# sacrebleu 2.6.0, rouge-score 0.1.2 and nltk 3.10.4 on these five pairs
FROZEN_BLEU = (0.4152547563801129, 0.3340307875612469, 0.26963047860600503, 0.19654669687538245)
FROZEN_ROUGE = (0.6666666666666666, 0.7692307692307692, 0.4444444444444445, 0.0, 0.6666666666666666)
FROZEN_METEOR = (
    *(0.6914285714285714, 0.755560651226783, 0.5010893246187365),
    *(0.13157894736842105, 0.13513513513513511),
)
PHOTO = object()


def random_text(rng, words=("a", "b", "c", "d", "e", "f."), least=0, most=9):
    return " ".join(rng.choices(words, k=rng.randint(least, most)))


def grams(tokens, n):
    return Counter(tuple(tokens[k : k + n]) for k in range(len(tokens) - n + 1))


# --------------------------------------------------------------------------------------- standard


def slow_sacrebleu(hypotheses, references, order):
    """13a on plain English, exp smoothing: the k-th precision of 0 becomes 1 / (2^k total)."""

    def tokens(text):
        text = re.sub(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])", r" \1 ", text)
        text = re.sub(r"([^0-9])([\.,])", r"\1 \2 ", text)
        text = re.sub(r"([\.,])([^0-9])", r" \1 \2", text)
        return text.split()

    matches, totals, said, wanted = [0] * order, [0] * order, 0, 0
    for h, r in zip(hypotheses, references, strict=True):
        h, r = tokens(h + " "), tokens(r + " ")
        said, wanted = said + len(h), wanted + len(r)
        for n in range(1, order + 1):
            both = grams(h, n) & grams(r, n)
            matches[n - 1] += sum(both.values())
            totals[n - 1] += sum(grams(h, n).values())
    logs, zeros = 0.0, 1
    for n in range(order):
        if totals[n] == 0:
            return 0.0
        if matches[n] == 0:
            zeros *= 2
            logs += math.log(1 / (zeros * totals[n]))
        else:
            logs += math.log(matches[n] / totals[n])
    penalty = 1.0 if said >= wanted else math.exp(1 - wanted / said)
    return penalty * math.exp(logs / order)


def slow_rouge_score(hypothesis, reference):
    """Lower case, runs of letters and digits; F of the longest common subsequence."""
    a, b = (re.sub(r"[^a-z0-9]+", " ", t.lower()).split() for t in (hypothesis, reference))
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            best = max(table[i][j + 1], table[i + 1][j])
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else best
    common = table[-1][-1]
    return 2 * common / (len(a) + len(b)) if common else 0.0


def test_standard_gives_the_frozen_numbers_of_the_tools():
    scores = standard_scores(SAID, WANTED)
    assert scores.bleu == pytest.approx(FROZEN_BLEU, abs=1e-6)
    assert scores.rouge_l == pytest.approx(sum(FROZEN_ROUGE) / 5, abs=1e-6)
    assert meteor_exact_stem(SAID, WANTED) == pytest.approx(FROZEN_METEOR, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_standard_equals_a_slow_transcription(seed):
    rng = random.Random(seed)
    words = ["the", "a", "Dog.", "cat,", "isn't", "it?", "no!", "3.5", "x"]
    said = [random_text(rng, words, 1) for _ in range(12)]
    wanted = [random_text(rng, words, 1) for _ in range(12)]
    scores = standard_scores(said, wanted)
    for order in (1, 2, 3, 4):
        slow = slow_sacrebleu(said, wanted, order)
        assert scores.bleu[order - 1] == pytest.approx(slow, abs=1e-6)
    slow_rouge = [slow_rouge_score(h, r) for h, r in zip(said, wanted, strict=True)]
    assert scores.rouge_l == pytest.approx(sum(slow_rouge) / 12, abs=1e-6)


def test_of_several_references_the_best_ngrams_count():
    one = standard_scores(["a dog runs fast"], ["a cat sleeps"])
    two = standard_scores(["a dog runs fast"], [["a cat sleeps", "the dog runs fast"]])
    assert two.bleu[0] == pytest.approx(1) and two.bleu[0] > one.bleu[0]
    assert two.rouge_l == pytest.approx(3 / 4)
    with pytest.raises(DataError, match="psdg takes one"):
        text_values(["a"], [["a", "b"]], protocol="psdg", seed=0)
    with pytest.raises(DataError, match="no reference"):
        standard_scores(["a"], [[]])


# ----------------------------------------------------------------------------------------- meteor


class Synonyms:
    """Knows that a hound is a dog, in nltk's way of saying so."""

    def synsets(self, word):
        names = {"dog", "hound"} if word in ("dog", "hound") else {word}
        lemmas = [type("Lemma", (), {"name": lambda self, n=n: n})() for n in names]
        return [type("Synset", (), {"lemmas": lambda self: lemmas})()]


def test_meteor_is_its_formula():
    # m = 3, one chunk, P = R = 1
    assert meteor_exact_stem(["the cat sat"], ["the cat sat"]) == pytest.approx([1 - 0.5 / 27])
    # m = 2 of 3 and of 4 words, "walked"/"walking" by their stem, two chunks
    f = (2 / 3) * (2 / 4) / (0.9 * 2 / 3 + 0.1 * 2 / 4)
    found = meteor_exact_stem(["walked it home"], ["home we were walking"])
    assert found == pytest.approx([f * (1 - 0.5)])
    assert meteor_exact_stem(["a", ""], ["b", "b"]) == [0, 0]


def test_synonyms_need_a_wordnet_and_count_only_with_one():
    said, wanted = ["a hound"], ["a dog"]
    assert meteor(said, wanted, wordnet=Synonyms()) == pytest.approx([1 - 0.5 / 8])
    assert meteor_exact_stem(said, wanted)[0] < 0.5


def test_a_missing_wordnet_is_named_with_its_place(tmp_path, monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(DataError, match=rf"corpora/wordnet.*{tmp_path.name}.*--wordnet"):
        open_wordnet()
    place = tmp_path / "corpora" / "wordnet"
    place.mkdir(parents=True)
    (place / "data.noun").touch()
    with pytest.raises(DataError, match=r"index\.noun.*lexnames are not in"):
        open_wordnet(tmp_path)


def write_wordnet(folder):
    """WordNet of one synset: a dog is a hound. In its own format, made for this test."""
    folder.mkdir(parents=True)
    for kind in ("adj", "adv", "noun", "verb"):
        for name in (f"data.{kind}", f"index.{kind}", f"{kind}.exc"):
            (folder / name).write_text("")
    notice = "  1 WordNet 3.0 Copyright of nobody  \n"
    (folder / "data.adj").write_text(notice)
    data = f"{len(notice):08d} 05 n 02 dog 0 hound 0 000 | it barks  \n"
    (folder / "data.noun").write_text(notice + data)
    index = [f"{word} n 1 0 1 0 {len(notice):08d}  \n" for word in ("dog", "hound")]
    (folder / "index.noun").write_text(notice + "".join(index))
    (folder / "index.sense").write_text("")
    (folder / "lexnames").write_text("".join(f"{k:02d}\tname{k}\t1\n" for k in range(45)))
    folder.chmod(0o755)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # nltk's reader leaves its files open
def test_a_wordnet_in_its_own_format_is_read(tmp_path, monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    write_wordnet(tmp_path / "corpora" / "wordnet")
    wordnet = open_wordnet(tmp_path)
    assert [lemma.name() for lemma in wordnet.synsets("hound")[0].lemmas()] == ["dog", "hound"]
    assert meteor(["a hound"], ["a dog"], wordnet=wordnet) == pytest.approx([1 - 0.5 / 8])
    assert meteor(["a hound"], ["a dog"]) == pytest.approx([1 - 0.5 / 8])
    (tmp_path / "corpora" / "wordnet" / "lexnames").write_text("not a table\n")
    with pytest.raises(DataError, match="cannot be read"):
        open_wordnet(tmp_path)
    del wordnet
    gc.collect()  # here, where the warning is expected


def test_the_best_reference_of_several_counts():
    best = meteor_exact_stem(["a cat"], [["no", "a cat"]])
    assert best == meteor_exact_stem(["a cat"], ["a cat"])
    with pytest.raises(DataError, match="1 hypotheses and 2"):
        meteor_exact_stem(["a"], ["a", "b"])


# ------------------------------------------------------------------------------------------- psdg


@pytest.mark.parametrize("seed", range(3))
def test_psdg_equals_a_slow_transcription_to_1e_9(seed):
    rng = random.Random(seed)
    said = [random_text(rng) for _ in range(25)]
    wanted = [random_text(rng, least=1) for _ in range(25)]
    length = [sum(len(t.split()) for t in texts) for texts in (said, wanted)]
    penalty = 1.0 if length[0] > length[1] else math.exp(1 - length[1] / length[0])
    scores = psdg_scores(said, wanted)
    for n in (1, 2, 3, 4):
        hits = total = 0
        for h, r in zip(said, wanted, strict=True):
            left = [tuple(r.split()[k : k + n]) for k in range(len(r.split()) - n + 1)]
            for k in range(len(h.split()) - n + 1):
                gram = tuple(h.split()[k : k + n])
                total += 1
                if gram in left:
                    left.remove(gram)
                    hits += 1
        slow = penalty * (hits + 1e-13) / (total + 1e-13)
        assert scores.bleu[n - 1] == pytest.approx(slow, abs=1e-9)


# ------------------------------------------------------------------------------------------- gill


def slow_gill(hypotheses, references, order):
    matches, totals, said, wanted = [0] * order, [0] * order, 0, 0
    for h, several in zip(hypotheses, references, strict=True):
        stop = h.find(".")
        h = (h[:stop] if stop > 5 else h).split()
        several = [r.split() for r in several]
        said += len(h)
        wanted += min(several, key=lambda r: abs(len(r) - len(h))).__len__()
        for n in range(1, order + 1):
            for gram, count in grams(h, n).items():
                matches[n - 1] += min(count, max(grams(r, n)[gram] for r in several))
                totals[n - 1] += count
    if min(matches) == 0:
        return 0.0
    penalty = 1.0 if said > wanted else math.exp(1 - wanted / said)
    logs = sum(math.log(m / t) for m, t in zip(matches, totals, strict=True))
    return penalty * math.exp(logs / order)


def test_gill_equals_its_transcription_and_torchmetrics():
    from torchmetrics.functional.text import bleu_score

    rng = random.Random(0)
    said = [random_text(rng, least=1) for _ in range(40)]
    wanted = [[random_text(rng, least=1) for _ in range(rng.randint(1, 3))] for _ in said]
    scores = gill_scores(said, wanted)
    cut = [cut_at_full_stop(h) for h in said]
    assert scores.rouge_l is None and scores.bleu[1] > 0
    for order in (1, 2, 3, 4):
        assert scores.bleu[order - 1] == pytest.approx(slow_gill(said, wanted, order), abs=1e-12)
        assert scores.bleu[order - 1] == pytest.approx(
            bleu_score(cut, wanted, n_gram=order).item(), rel=1e-5
        )


def test_gill_cuts_a_caption_at_its_first_full_stop_but_not_a_short_one():
    assert cut_at_full_stop("a dog runs. it is brown.") == "a dog runs"
    assert cut_at_full_stop("a dog. it") == "a dog. it"  # the stop is the sixth character
    assert cut_at_full_stop("a cats. it") == "a cats"
    assert cut_at_full_stop("no stop") == "no stop"
    assert gill_scores(["one two three"], ["four"]).bleu == (0, 0, 0, 0)


# --------------------------------------------------------------------------------------- minigpt5


def slow_character_bleu(hypothesis, reference, order):
    """Papineni's sentence BLEU over the letters of two strings."""
    precisions = []
    for n in range(1, order + 1):
        said, wanted = grams(hypothesis, n), grams(reference, n)
        hits = sum(min(count, wanted[gram]) for gram, count in said.items())
        precisions.append(hits / max(1, sum(said.values())))
    if min(precisions) == 0:
        return 0.0
    penalty = 1.0
    if len(hypothesis) <= len(reference):
        penalty = math.exp(1 - len(reference) / len(hypothesis))
    return penalty * math.exp(sum(map(math.log, precisions)) / order)


@pytest.mark.parametrize("seed", range(5))
def test_minigpt5_bleu_is_on_characters(seed):
    rng = random.Random(seed)
    said, wanted = random_text(rng, least=2), random_text(rng, least=2)
    for order in (1, 2):
        slow = slow_character_bleu(said, wanted, order)
        assert sentence_bleu(said, wanted, order) == pytest.approx(slow, abs=1e-9)
    # "cat" and "act" share all their letters and no word
    assert sentence_bleu("cat", "act", 1) == pytest.approx(1)
    assert sentence_bleu(["cat"], ["act"], 1) == 0


def test_nltk_warns_of_nothing_where_no_pair_of_letters_is_common():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sentence_bleu("ab", "ba", 2) == pytest.approx(0, abs=1e-100)


def slow_rouge_package(hypothesis, reference):
    """The package rouge 1.0.1, its walk through the table written as a recursion."""
    said, wanted = (
        [" ".join(s.split()) for s in text.split(".") if len(s) > 0]
        for text in (hypothesis, reference)
    )
    union = set()
    for r in wanted:
        x = r.split(" ")
        for h in said:
            y = h.split(" ")
            table = {}
            for i in range(len(x) + 1):
                for j in range(len(y) + 1):
                    if not i or not j:
                        table[i, j] = 0
                    elif x[i - 1] == y[j - 1]:
                        table[i, j] = table[i - 1, j - 1] + 1
                    else:
                        table[i, j] = max(table[i - 1, j], table[i, j - 1])

            def walk(i, j, x=x, y=y, table=table):
                if not i or not j:
                    return []
                if x[i - 1] == y[j - 1]:
                    return walk(i - 1, j - 1) + [x[i - 1]]
                up = table[i - 1, j] > table[i, j - 1]
                return walk(i - 1, j) if up else walk(i, j - 1)

            union |= set(walk(len(x), len(y)))
    p = len(union) / len({w for s in said for w in s.split(" ")})
    r = len(union) / len({w for s in wanted for w in s.split(" ")})
    return 2.0 * (p * r) / (p + r + 1e-8)


@pytest.mark.parametrize("seed", range(20))
def test_minigpt5_rouge_is_the_packages(seed):
    rng = random.Random(seed)
    said, wanted = random_text(rng, least=1, most=14), random_text(rng, least=1, most=14)
    slow = slow_rouge_package(said, wanted)
    assert rouge_package_l(said, wanted) == pytest.approx(slow, abs=1e-12)


def test_minigpt5_rouge_by_hand():
    # two sentences; different words: 3 said, 4 wanted; common subsequences {a}, {c}
    found = rouge_package_l("a b. c", "a d. c e")
    assert found == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4 + 1e-8))
    # a word counts once, however often it is said: this is not rouge-score's ROUGE-L
    assert rouge_package_l("a a a a", "a") == pytest.approx(1, abs=1e-7)
    assert rouge_l_f1("a a a a", "a") == pytest.approx(2 / 5)
    with pytest.raises(ValueError, match="sentence"):
        rouge_package_l("...", "a")


def test_minigpt5_takes_the_text_before_the_first_photo():
    assert text_before_photo([" Look ###", PHOTO, "after"]) == "Look"
    assert text_before_photo(["Look [IMG0][IMG1]", "more"]) == "Look"
    assert text_before_photo([PHOTO, "after"]) == ""
    assert text_before_photo(["?!..."]) == ""
    assert text_before_photo(["? !"]) == "? !"  # the space is no punctuation
    assert minigpt5_text(["hello"], [PHOTO]) is None
    assert minigpt5_text([PHOTO], ["hello"]) == {"bleu1": 0, "bleu2": 0, "rouge_l": 0}
    assert minigpt5_text(["hello"], ["hello"]) == pytest.approx(
        {"bleu1": 1, "bleu2": 1, "rouge_l": 1}, abs=1e-7
    )


# --------------------------------------------------------------------------------------- mmdialog


def test_the_worked_example_of_mmdialog():
    said = ["one two", "i1", "three four", "i2", "i3"]
    wanted = ["j1", "one two", "three five", "j2", "six"]
    texts = aligned([e for e in said if e[0] != "i"], [e for e in wanted if e[0] != "j"])
    assert texts == [("one two", "one two"), ("three four", "three five"), (None, "six")]
    photos = aligned([e for e in said if e[0] == "i"], [e for e in wanted if e[0] == "j"])
    assert photos == [("i1", "j1"), ("i2", "j2")]  # the surplus i3 is ignored

    answer = ["one two", PHOTO, "three four", PHOTO, PHOTO]
    truth = [PHOTO, "one two", "three five", PHOTO, "six"]
    found = mmdialog_text(answer, truth)
    assert found["bleu1"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert found["bleu2"] == pytest.approx((1 + 0 + 0) / 3, abs=1e-9)
    assert found["rouge_l"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert mmdialog_text(answer, [PHOTO]) is None
    assert mmdialog_text([PHOTO], ["a"]) == {"bleu1": 0, "bleu2": 0, "rouge_l": 0}
