"""The named protocols: what exactly stands behind each published table, as data.

A number without its protocol says nothing: five papers print "BLEU-1" and mean five things. Each
entry fixes what is compared, how it is counted, over what it is averaged, and by which encoders.
The version of a protocol (``VERSIONS``) goes up when the same data would give another number.
"""

from __future__ import annotations

from dataclasses import dataclass

from showtell.errors import ConfigError, did_you_mean

VERSIONS: dict[str, str] = {
    "psdg": "2",  # BLEU and ROUGE-L as the released code of 2408.08650 computes them
    "standard": "2",  # sacrebleu, rouge-score and nltk at their defaults
    "minigpt5": "2",  # the released metric.py of 2310.02239
    "mmdialog": "1",  # the alignment and MM-Relevance of 2211.05719
    "gill": "1",  # the released validation and evals of 2305.17216
    "photochat": "1",  # the share moment: every position from the second turn to the share
    "world": "2",  # the photo world: scored by the oracle; 2: text.* of the most likely words
    "judge": "1",  # people's votes on the three questions of 2310.02239
}
CLIP_L = "openai/clip-vit-large-patch14"
CLIP_B = "openai/clip-vit-base-patch32"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One published way of scoring. An empty tuple or string means: that table has no such row."""

    name: str
    source: str
    text: tuple[str, ...]  # the text rows: bleu1..bleu4, rouge_l, meteor, sbert ...
    photo: tuple[str, ...]  # the rows of photos: inception_score, fid, kid, clip_i, clip_t, lpips
    relevance: bool = False
    bleu: str  # how BLEU is counted
    mean_over: str  # what a mean is taken over
    clip: str = CLIP_L  # of clip_i and clip_t
    relevance_clip: str = CLIP_B
    sentence_encoder: str = MINILM
    tensorflow1_resize: bool = True  # to 299 px: torch-fidelity's way; else antialiased
    fid_short_side: int | None = None  # photos are reduced to it before FID (not before IS)
    quirks: tuple[str, ...] = ()


PROTOCOLS: dict[str, Protocol] = {
    "standard": Protocol(
        name="standard",
        source="sacrebleu, rouge-score and nltk at their defaults; torchmetrics; this project",
        text=(
            *("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "meteor", "meteor_exact_stem"),
            *("sbert", "perplexity", "distinct1", "distinct2", "distinct3"),
        ),
        photo=("clip_i", "clip_t", "lpips", "inception_score", "fid", "kid"),
        bleu="sacrebleu, corpus, 13a, cumulative, exp smoothing",
        mean_over="pairs",
    ),
    "psdg": Protocol(
        name="psdg",
        source="released code of arXiv 2408.08650 (torch-fidelity for IS and FID)",
        text=("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l"),
        photo=("inception_score", "fid", "kid"),
        bleu="corpus, whitespace, cased, individual n-grams, 1e-13 added to both counts",
        mean_over="turns",
        quirks=(
            "a description between [img] and [/img] is taken out of a text before it is compared",
            "where every hypothesis is shorter than n, BLEU-n is the brevity penalty and not 0",
        ),
    ),
    "minigpt5": Protocol(
        name="minigpt5",
        source="released metric.py of arXiv 2310.02239, MMDialog (texts) and CC3M/VIST (photos)",
        text=("bleu1", "bleu2", "rouge_l", "sbert"),
        photo=("clip_i", "clip_t", "inception_score", "fid", "kid"),
        relevance=True,
        bleu="nltk sentence BLEU on characters, cumulative, unsmoothed, cased",
        mean_over="turns of a dialogue, then dialogues",
        tensorflow1_resize=False,
        fid_short_side=256,
        quirks=(
            "only the text before the first photo, and the first photo, of an answer count",
            "a text of nothing but punctuation is empty; a missing text counts 0",
            "a turn without a reference text counts in no text score",
            "ROUGE-L is that of the package rouge 1.0.1, on sets of words",
            "the script's environment fixed neither torchmetrics' nor CLIP's version",
        ),
    ),
    "mmdialog": Protocol(
        name="mmdialog",
        source="EvaluationExample.md and compute_mmrel.py of arXiv 2211.05719",
        text=("bleu1", "bleu2", "rouge_l"),
        photo=("clip_i",),
        relevance=True,
        bleu="sentence BLEU on words, cumulative, unsmoothed: which one is not published",
        mean_over="reference elements of an answer, then answers",
        clip=CLIP_B,
        quirks=(
            "texts and photos are paired apart, each from the left, for scores of one modality",
            "MM-Relevance pairs elements from the left whatever their modality",
            "the release prints cosines times 100 and no mean; P, R and F1 follow the paper",
        ),
    ),
    "gill": Protocol(
        name="gill",
        source="released gill/validate.py and evals/ of arXiv 2305.17216",
        text=("bleu1", "bleu2", "bleu3", "bleu4"),
        photo=("clip_i", "lpips"),
        bleu="torchmetrics, corpus, whitespace, cased, cumulative, unsmoothed",
        mean_over="pairs",
        quirks=(
            "a caption is cut at its first full stop unless that is among its first six characters",
            "a pair of which one photo is missing is left out (here: counted in the report)",
            "LPIPS is AlexNet's, v0.1, both photos squeezed to 256 x 256",
            "its FID on CC3M and COCO was never released, so it is no row of this protocol",
        ),
    ),
}


def protocol_named(name: str) -> Protocol:
    """The protocol; ConfigError with a suggestion for a name that does not exist."""
    if name not in PROTOCOLS:
        raise ConfigError(f'no protocol "{name}"{did_you_mean(name, PROTOCOLS)}')
    return PROTOCOLS[name]
