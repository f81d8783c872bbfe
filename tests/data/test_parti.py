"""PartiPrompts with people's votes: what is read, GILL's label and split, and bad files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from showtell.data.parti import (
    confident,
    gill_split,
    majority,
    near_ties,
    read_parti,
)
from showtell.errors import DataError

SHARED = Path(__file__).parents[3] / "shared/data/parti"
VOTES = "Prompt\tCategory\tChallenge\tNote\tDecisions\n"
LABEL = "Prompt\tCategory\tChallenge\tNote\tDecision\n"


def write(path: Path, *lines: str, header: str = VOTES) -> Path:
    path.write_text(header + "".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def line(votes: str, prompt: str = "a dog", category: str = "Animals") -> str:
    return f"{prompt}\t{category}\tBasic\t\t{votes}"


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        ("gen gen gen gen gen", "gen"),
        ("gen gen gen gen ret", "gen"),
        ("gen gen gen ret same", "gen"),
        ("gen gen gen same same", "gen"),
        ("gen gen gen ret ret", "same"),
        ("ret ret ret gen gen", "same"),
        ("ret ret ret gen same", "ret"),
        ("ret ret ret ret", "ret"),
        ("gen gen ret same same", "same"),
        ("gen gen same same", "same"),
        ("same same same same same", "same"),
    ],
)
def test_the_label_is_gills(votes, label):
    assert confident(votes.split()) == label
    exchanged = [{"gen": "ret", "ret": "gen"}.get(vote, vote) for vote in votes.split()]
    assert confident(exchanged) == {"gen": "ret", "ret": "gen"}.get(label, label)


def test_quotation_marks_and_letters_beyond_ascii_are_text(tmp_path):
    prompt = 'The word "PEACE" at a café, 5" tall'
    path = write(tmp_path / "votes.tsv", line("gen,ret,gen,gen,same", prompt=prompt))
    (read,) = read_parti(path)
    assert read.prompt == prompt
    assert read.votes == ("gen", "ret", "gen", "gen", "same")
    assert (read.category, read.label) == ("Animals", "gen")


def test_columns_go_by_their_names_and_a_file_of_labels_has_no_votes(tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_bytes(b"Decision\tNote\tPrompt\tCategory\r\nret\t\ta cat\tAnimals\r\n")
    (read,) = read_parti(path)
    assert (read.prompt, read.category, read.votes, read.label) == ("a cat", "Animals", (), "ret")


def test_gills_split_is_the_first_with_a_label_in_order(tmp_path):
    kinds = ["gen,gen,gen,gen", "same,same,same,same", "ret,ret,ret,ret"]
    lines = [line(kinds[k % 3], prompt=f"prompt {k}") for k in range(12)]
    prompts = list(read_parti(write(tmp_path / "votes.tsv", *lines)))
    train, test = gill_split(prompts, num_train=5)
    assert [p.prompt for p in train + test] == [f"prompt {k}" for k in range(12) if k % 3 != 1]
    assert len(train) == 5
    with pytest.raises(DataError, match="8 prompts have a label and 600 are to train on"):
        gill_split(prompts)


def test_near_ties_are_three_to_two_and_never_in_the_split(tmp_path):
    votes = ["gen,gen,gen,ret,ret", "gen,ret,gen,ret,ret", "gen,gen,ret,same,same", "gen"]
    prompts = list(read_parti(write(tmp_path / "votes.tsv", *map(line, votes))))
    ties = near_ties(prompts)
    assert [majority(p) for p in ties] == ["gen", "ret"]
    assert all(p.label == "same" for p in ties)
    assert majority(prompts[2]) == "gen"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (VOTES, "holds no prompt"),
        ("caption\timage\n", "begins with 'caption"),
        ("Prompt\tCategory\tChallenge\tNote\n", "begins with 'Prompt"),
        (VOTES + "a dog\tAnimals", "line 2: 2 fields, wanted 5"),
        (VOTES + line("gen", prompt=" "), "line 2: the prompt is empty"),
        (VOTES + line("gen") + "\n" + line("nonsense"), 'line 3: "nonsense" is no vote'),
        (LABEL + line("gen,ret"), '"gen,ret" is no vote'),
        (VOTES + "caf\udce9\tFood\tBasic\t\tgen", "not UTF-8"),
    ],
)
def test_files_that_are_something_else_are_refused(tmp_path, text, says):
    path = tmp_path / "votes.tsv"
    with pytest.raises(DataError, match="is not there"):
        list(read_parti(path))
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=says):
        list(read_parti(path))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the released votes are not here")
def test_the_released_votes_give_the_released_labels():
    votes = list(read_parti(SHARED / "PartiPromptsAllDecisions_Alignment.tsv"))
    labels = list(read_parti(SHARED / "PartiPromptsDecisionsConfident.tsv"))
    assert [p.label for p in votes] == [p.label for p in labels]
    assert Counter(p.label for p in votes) == {"same": 721, "gen": 592, "ret": 319}
    train, test = gill_split(votes)
    assert (len(train), len(test)) == (600, 311)
    assert len(near_ties(votes)) == 277
