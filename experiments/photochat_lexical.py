"""The lexical baselines of the PhotoChat share moment: keyword rule, TF-IDF + logistic regression.

Trained on the training split without its 1,000 held-out dialogues, threshold from those, dev once:

    python experiments/photochat_lexical.py PHOTOCHAT_FOLDER [--out DIR]

where the folder holds train.jsonl and dev.jsonl. Takes about a minute on one core.

The text of the tagged row was chosen among eleven by AUPRC on the held-out dialogues, but with
their dev figures in view: read that row as a baseline at its best.
"""

from __future__ import annotations

import sys

import numpy as np
from photochat_moments import PhotoChat, labels_of, parser, positions_of

from showtell.cli.exits import exit_code_of
from showtell.metrics.moment import TFIDF_SETTINGS, keyword_score, plain_text, tagged_text


def main() -> None:
    chat = PhotoChat(parser(__doc__).parse_args())
    both = (chat.split[1], chat.dev)
    always, keyword = (
        tuple(np.array(rule(dialogues), dtype=float) for dialogues in both)
        for rule in (
            lambda some: np.ones(len(labels_of(some))),
            lambda some: [keyword_score(p.context) for p in positions_of(some)],
        )
    )
    values = chat.table(
        {
            "always": always,
            "keyword": keyword,
            "tfidf_plain": chat.tfidf(plain_text),
            "tfidf_tagged": chat.tfidf(tagged_text),
        }
    )
    chat.report(
        "photochat_lexical",
        values,
        ("train.jsonl", "dev.jsonl"),
        checkpoint="none: trained in this run",
        notes=(
            TFIDF_SETTINGS,
            "tfidf_plain: all words of the context; tfidf_tagged: moment.tagged_text, chosen "
            "among eleven texts by held-out AUPRC, with dev in view",
        ),
    )


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
