"""METEOR: its formula, its frozen numbers, and WordNet read from a folder."""

from __future__ import annotations

import gc

import pytest
from transcribed import SAID, WANTED

from showtell.errors import DataError
from showtell.metrics.meteor import meteor, meteor_exact_stem, open_wordnet

FROZEN = (  # nltk 3.10.4 on these five pairs
    *(0.6914285714285714, 0.755560651226783, 0.5010893246187365),
    *(0.13157894736842105, 0.13513513513513511),
)


def test_meteor_is_its_formula_and_gives_the_frozen_numbers():
    assert meteor_exact_stem(SAID, WANTED) == pytest.approx(FROZEN, abs=1e-6)
    # m = 3, one chunk, P = R = 1
    assert meteor_exact_stem(["the cat sat"], ["the cat sat"]) == pytest.approx([1 - 0.5 / 27])
    # m = 2 of 3 and of 4 words, "walked"/"walking" by their stem, two chunks
    f = (2 / 3) * (2 / 4) / (0.9 * 2 / 3 + 0.1 * 2 / 4)
    found = meteor_exact_stem(["walked it home"], ["home we were walking"])
    assert found == pytest.approx([f * (1 - 0.5)])
    assert meteor_exact_stem(["a", ""], ["b", "b"]) == [0, 0]
    assert meteor_exact_stem(["a cat"], [["no", "a cat"]]) == pytest.approx([1 - 0.5 / 8])
    assert meteor_exact_stem(["a hound"], ["a dog"])[0] < 0.5
    with pytest.raises(DataError, match="1 hypotheses and 2"):
        meteor_exact_stem(["a"], ["a", "b"])


def test_a_missing_wordnet_is_named_with_its_place(tmp_path, monkeypatch):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(
        DataError, match=rf"did not find; .*corpora/wordnet.*{tmp_path.name}.*--wordnet"
    ):
        open_wordnet()
    place = tmp_path / "corpora" / "wordnet"
    place.mkdir(parents=True)
    (place / "data.noun").touch()
    with pytest.raises(DataError, match="lexnames.*--wordnet"):
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
    with pytest.raises(DataError, match="nltk cannot read"):
        open_wordnet(tmp_path)
    del wordnet
    gc.collect()  # here, where the warning is expected
