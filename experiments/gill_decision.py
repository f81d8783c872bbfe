"""Retrieve or generate, on the votes of GILL (2305.17216): what can be told from a prompt's words?

    python experiments/gill_decision.py VOTES [--model NAME] [--album DIR]

with VOTES the released PartiPromptsAllDecisions_Alignment.tsv.

GILL's own split: prompts on which people agree, the first 600 train, the rest test. Rules: always
generate, a coin with the training set's share, TF-IDF + logistic regression, a logistic regression
and GILL's head (linear, as released) on a language model's state, and people. Beside the split:
prompts that people split three to two on, which GILL drops, and each category left out of training.
Nothing was chosen on the test prompts; the regression on the state was added after a first run, in
which the head on it nearly always said "generate".

GILL's own state comes of OPT-6.7B, which is not here: the rows of small models say nothing about
GILL's. A model with tokens of its own is asked at [IMG1], any other where the agent's turn begins.
With --album (runs/world_gill/album, and --model runs/world_gill) the world's own labels
(recipes/retrieve.py) at the photos of training dialogues are learnt too, and put to those of test
dialogues and to the votes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from photoworld.scenes import TEST_SEEDS, TRAIN_SEEDS
from showtell.album.index import Album
from showtell.cli.exits import exit_code_of
from showtell.data.parti import RET, SAME, PartiPrompt, gill_split, majority, near_ties, read_parti
from showtell.data.sources import open_data
from showtell.dialogue import AGENT, USER, Turn
from showtell.metrics.intervals import Value
from showtell.metrics.report import current_commit
from showtell.metrics.retrieval import coin_macro_f1, macro_f1, macro_f1_value
from showtell.models.dialogue_model import PhotoDialogueModel
from showtell.papers import load_model
from showtell.papers.gill import DecisionTraining, train_decision
from showtell.recipes.retrieve import shares_to_decide

GENERATE, TFIDF, REGRESSION, HEAD = "always generate", "TF-IDF", "its state, regression", "head"
HEAD_SEEDS, DIALOGUES = range(5), 1000  # of the world, on either side


@dataclass(frozen=True, kw_only=True)
class Cases:
    """What is to be decided: a model's states, whether to retrieve, and words where there are."""

    states_ND: torch.Tensor
    labels_N: np.ndarray
    texts_N: np.ndarray | None = None

    def where(self, chosen_N: np.ndarray) -> Cases:
        assert self.texts_N is not None
        states_ND = self.states_ND[torch.from_numpy(chosen_N)]
        labels_N, texts_N = self.labels_N[chosen_N], self.texts_N[chosen_N]
        return Cases(states_ND=states_ND, labels_N=labels_N, texts_N=texts_N)


def decided(rule: str, learnt: Cases, asked: Cases, *, seed: int = 0) -> np.ndarray:
    """What a rule that was learnt on some cases decides of others, (N,)."""
    if rule == GENERATE:
        return np.zeros_like(asked.labels_N)
    if rule == HEAD:
        labels_N = torch.from_numpy(learnt.labels_N)
        head = train_decision(learnt.states_ND, labels_N, DecisionTraining(seed=seed))
        return head.p_retrieve(asked.states_ND).detach().numpy() > 0.5
    if rule == TFIDF:
        first, strength = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), 1.0
        known, new = learnt.texts_N, asked.texts_N
    else:  # each coordinate on its own scale
        first, strength = StandardScaler(), 0.01
        known, new = learnt.states_ND.numpy(), asked.states_ND.numpy()
    logistic = LogisticRegression(class_weight="balanced", C=strength, max_iter=1000)
    return make_pipeline(first, logistic).fit(known, learnt.labels_N).predict_proba(new)[:, 1] > 0.5


@torch.no_grad()
def prompt_state(model: PhotoDialogueModel, prompt: str) -> torch.Tensor:
    """The state in which the agent decides what to do about a prompt, (D,)."""
    if model.renderer.span_ids:
        return model.spoken_spans([prompt]).after_NKD[0, 0]
    said = Turn(speaker=USER, elements=(prompt,))
    ids = [*model.renderer.render_turns((said,)).ids, model.renderer.roles[AGENT]]
    return model.language.hidden(model.language.embed(torch.tensor([ids])), None)[0, -1]


def voted(model: PhotoDialogueModel, prompts: Sequence[PartiPrompt]) -> Cases:
    """Whether people would retrieve; of a tie, what more of them would."""
    kinds = [majority(p) if p.label == SAME else p.label for p in prompts]
    return Cases(
        states_ND=torch.stack([prompt_state(model, p.prompt) for p in prompts]),
        labels_N=np.array([kind == RET for kind in kinds]),
        texts_N=np.array([p.prompt for p in prompts]),
    )


def world_shares(model: PhotoDialogueModel, album: Album, seeds: range) -> Cases:
    """At [IMG1] of the photos of some dialogues, by the world's labels."""
    numbers = [int(photo.id.removeprefix("photo-")) for photo in album.photos]
    shown = open_data(f"world:photos:0-{max(numbers)}")
    photos = [shown[number].photos[0] for number in numbers]
    dialogues = open_data(f"world:{seeds[0]}-{seeds[-1]}")
    states_ND, labels_N = shares_to_decide(model, photos, dialogues)
    return Cases(states_ND=states_ND, labels_N=labels_N)


def people(prompts: Sequence[PartiPrompt]) -> Value:
    """One person's vote against the label of which it is itself a part, "same" votes left out;
    the interval is over prompts."""
    votes = [(n, p.label, v) for n, p in enumerate(prompts) for v in p.votes if v != SAME]
    prompt_N, label_N, vote_N = (np.array(column) for column in zip(*votes, strict=True))
    return macro_f1_value(label_N == RET, vote_N == RET, seed=0, groups_N=prompt_N)


def show(name: str, value: Value, note: str = "") -> None:
    print(f"  {name:<24}{value.value:.3f}  {value.low:.3f} - {value.high:.3f}  N {value.n}  {note}")


def table(title: str, *pairs: tuple[Cases, Cases]) -> None:
    """Rules learnt on the first and asked on the second of each pair, all together."""
    print(f"\n{title}: macro-F1, 95% interval; of the coin its luck on these cases")
    labels_N = np.concatenate([asked.labels_N for _, asked in pairs])
    words = all(cases.texts_N is not None for pair in pairs for cases in pair)
    for rule in (GENERATE, *((TFIDF,) if words else ()), REGRESSION):
        chosen_N = np.concatenate([decided(rule, *pair) for pair in pairs])
        show(rule, macro_f1_value(labels_N, chosen_N, seed=0))
    seeds = HEAD_SEEDS if len(pairs) == 1 else HEAD_SEEDS[:1]
    heads = [np.concatenate([decided(HEAD, *pair, seed=n) for pair in pairs]) for n in seeds]
    mean = statistics.fmean(macro_f1(labels_N, chosen_N) for chosen_N in heads)
    note = f"seed 0; mean of {len(heads)} seeds {mean:.3f}" if len(heads) > 1 else ""
    show("its state, GILL's head", macro_f1_value(labels_N, heads[0], seed=0), note)
    share = float(np.mean([learnt.labels_N.mean() for learnt, _ in pairs]))
    show("coin of training share", coin_macro_f1(labels_N, share=share, seed=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("votes", type=Path, help="PartiPromptsAllDecisions_Alignment.tsv")
    parser.add_argument("--model", default="photochat_small", help="whose states: name or folder")
    parser.add_argument("--album", type=Path, help="the album beside a GILL model of the world")
    options = parser.parse_args()
    model, prompts = load_model(options.model), list(read_parti(options.votes))
    sides, ties = gill_split(prompts), near_ties(prompts)
    print(f"{len(prompts):,} prompts, {model.name}, commit {current_commit()}")
    train, test = (voted(model, side) for side in sides)
    table("GILL's split", (train, test))
    show("people", people(sides[1]), "a vote against the label that it is part of")
    table("near ties (label: the three votes)", (train, voted(model, ties)))
    everything = voted(model, [*sides[0], *sides[1]])
    category_N = np.array([prompt.category for side in sides for prompt in side])
    table(
        "each category left out of training",
        *(
            (everything.where(category_N != one), everything.where(category_N == one))
            for one in np.unique(category_N)
        ),
    )
    if options.album:
        album = Album.load(options.album)
        learnt = world_shares(model, album, TRAIN_SEEDS[-DIALOGUES:])
        own = world_shares(model, album, TEST_SEEDS[:DIALOGUES])
        table("the world's labels, test dialogues", (learnt, own))
        table("learnt on the world, GILL's split", (learnt, test))
        table("learnt on the world, all votes", (learnt, everything))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
