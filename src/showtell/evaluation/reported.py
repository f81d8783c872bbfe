"""What the papers print, by kind of data, protocol and form: shown apart, never as our own."""

from __future__ import annotations

from collections.abc import Sequence

from showtell.metrics.report import Reported

PSDG = "arXiv 2408.08650, table 2"
GPT5 = "arXiv 2310.02239, table "
GILL = "arXiv 2305.17216"

Row = tuple[str, float, str]  # name, value, unit


def _texts(protocol: str, whose: str, *scores: float) -> list[Row]:
    names = ("bleu1", "bleu2", "rouge_l")
    return [
        (f"text.{protocol}.{name} of {whose}", score, "fraction")
        for name, score in zip(names, scores, strict=True)
    ]


def _sets(protocol: str, whose: str, inception: float, fid: float) -> list[Row]:
    return [
        (f"photo.{protocol}.inception_score of {whose}", inception, ""),
        (f"photo.{protocol}.fid of {whose}", fid, ""),
    ]


def _clip(whose: str, score: float, protocol: str = "minigpt5", kind: str = "clip_i") -> Row:
    return (f"photo.{protocol}.{kind} of {whose}", score, "fraction")


_LORA, _PREFIX = "MiniGPT-5 (LoRA)", "MiniGPT-5 (prefix)"
_TABLE_1 = {  # CLIP-I, IS, FID: LoRA, prefix
    "none": ((0.61, 22.30, 61.44), (0.60, 23.19, 61.25)),
    "text": ((0.64, 23.86, 61.34), (0.63, 25.06, 61.81)),
    "photos": ((0.69, 25.03, 59.09), (0.68, 24.27, 59.92)),
    "both": ((0.70, 24.38, 59.48), (0.70, 25.10, 60.46)),
}

_ROWS: dict[tuple[str, str, str], tuple[str, str, list[Row]]] = {
    ("photochat", "psdg", "dialogue"): (
        PSDG,
        "test",
        [
            *_texts("psdg", "Divter", 0.0628, 0.0151, 0.0540),
            *_sets("psdg", "Divter", 4.9, 262.09),
            *_texts("psdg", "the pipeline", 0.1065, 0.0203, 0.0976),
            *_sets("psdg", "the pipeline", 13.67, 79.74),
            *_texts("psdg", "the end-to-end model", 0.1208, 0.0294, 0.1100),
            *_sets("psdg", "the end-to-end model", 14.47, 75.88),
        ],
    ),
    ("dialogcc", "psdg", "dialogue"): (
        PSDG,
        "test",
        [
            *_texts("psdg", "Divter", 0.0808, 0.0189, 0.0671),
            *_sets("psdg", "Divter", 9.19, 108.50),
            *_texts("psdg", "the pipeline", 0.1418, 0.0293, 0.1221),
            *_sets("psdg", "the pipeline", 22.99, 61.66),
            *_texts("psdg", "the end-to-end model", 0.1584, 0.0397, 0.1370),
            *_sets("psdg", "the end-to-end model", 25.56, 59.63),
        ],
    ),
    **{
        ("vist", "minigpt5", f"task_end:{context}"): (
            f"{GPT5}1",
            "validation",
            [
                row
                for whose, (clip, inception, fid) in zip((_LORA, _PREFIX), pair, strict=True)
                for row in (_clip(whose, clip), *_sets("minigpt5", whose, inception, fid))
            ],
        )
        for context, pair in _TABLE_1.items()
    },
    ("vist", "minigpt5", "task_steps"): (
        f"{GPT5}2; its FID is a mean over stories of five photos, which is not measured here",
        "validation",
        [_clip(_LORA, 0.66), _clip(_PREFIX, 0.65)],
    ),
    ("vist", "minigpt5", "task_tell"): (
        f"{GPT5}3; no script of it was released",
        "validation",
        [
            ("text.minigpt5.sbert of MiniGPT-5", 0.6315, "fraction"),
            ("text.minigpt5.rouge_l of MiniGPT-5", 0.3373, "fraction"),
        ],
    ),
    ("mmdialog", "minigpt5", "dialogue"): (
        f"{GPT5}5",
        "test",
        [
            *_texts("minigpt5", "Divter", 0.0944, 0.0745, 0.1119),
            ("photo.minigpt5.inception_score of Divter", 20.53, ""),
            *_texts("minigpt5", "MiniGPT-5", 0.2221, 0.1546, 0.1119),
            ("photo.minigpt5.inception_score of MiniGPT-5", 19.63, ""),
            ("relevance.minigpt5.f1 of Divter", 0.62, "fraction"),
            ("relevance.minigpt5.f1 of MiniGPT-5", 0.67, "fraction"),
        ],
    ),
    ("cc3m", "minigpt5", "alignment"): (
        f"{GPT5}6",
        "validation",
        [
            _clip("GILL", 0.57),
            _clip("GILL", 0.20, kind="clip_t"),
            *_sets("minigpt5", "GILL", 22.76, 37.97),
            _clip("MiniGPT-5", 0.61),
            _clip("MiniGPT-5", 0.22, kind="clip_t"),
            *_sets("minigpt5", "MiniGPT-5", 28.09, 31.47),
        ],
    ),
    ("vist", "gill", "story_end:text"): (GILL, "validation", [_clip("GILL", 0.612, "gill")]),
    ("vist", "gill", "story_end:both"): (GILL, "validation", [_clip("GILL", 0.641, "gill")]),
    ("visdial", "gill", "photo_last:10"): (GILL, "validation", [_clip("GILL", 0.645, "gill")]),
}


def reported_rows(kind: str, protocols: Sequence[str], form: str) -> tuple[Reported, ...]:
    """The published figures for this measurement."""
    found = []
    for protocol in protocols:
        source, split, rows = _ROWS.get((kind, protocol, form), ("", "", []))
        for name, value, unit in rows:
            found.append(Reported(name=name, value=value, source=source, split=split, unit=unit))
    return tuple(found)
