"""The data doctor's page: one HTML file with its pictures inside; it loads nothing."""

from __future__ import annotations

import base64
import io
from html import escape

from showtell.data.doctor_report import DoctorReport, Finding
from showtell.data.photos import load_photo
from showtell.errors import PhotoError

THUMBNAIL = 112
MAX_PICTURES = 12  # groups a finding
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
       color: #222; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
.wide { overflow-x: auto } table { border-collapse: collapse }
td, th { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd;
         white-space: nowrap }
td:nth-child(-n+2), th:nth-child(-n+2) { text-align: left }
.error b { color: #b00020 } .warning b { color: #9a5b00 } .note b { color: #555 }
summary { cursor: pointer } ul { overflow-wrap: anywhere }
.pictures { display: flex; flex-wrap: wrap; gap: .8rem; padding: 0 }
.pictures figure { margin: 0; padding: .3rem; border: 1px solid #ddd; border-radius: 6px }
.pictures img { margin: 0 .15rem; border-radius: 3px }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #16181c } td, th, .pictures figure { border-color: #444 }
  .error b { color: #ff8a80 } .warning b { color: #ffc46b } .note b { color: #aaa } }
"""


def page(report: DoctorReport) -> str:
    """The report as HTML. Photos are shown as small copies without metadata."""
    head, *rows = report.table()
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; style-src 'unsafe-inline'\">",
        f"<title>Data doctor: {_safe(report.data)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Data doctor: {_safe(report.data)}</h1>",
        f"<p>Licence: {_safe(report.licence)}</p>",
        _list(f"{n:,} dialogues state: {text}" for text, n in report.licences.items()),
        "<h2>Counts</h2>",
        '<div class="wide"><table><tr>',
        *(f"<th>{_safe(cell)}</th>" for cell in head),
        "</tr>",
        *("<tr>" + "".join(f"<td>{_safe(c)}</td>" for c in row) + "</tr>" for row in rows),
        "</table></div>",
        f"<p>Reported: {_safe(report.source)}</p>" if report.source else "",
        _list(report.remarks()),
        "<h2>Findings</h2>",
        *(_finding(finding) for finding in report.findings),
        "<h2>What training would drop</h2>",
        '<div class="wide"><table><tr><th>split</th><th>for</th><th>examples</th><th>kept</th>'
        "<th>why</th></tr>",
    ]
    for drop in report.drops:
        why = "; ".join(f"{n:,} {reason}" for reason, n in drop.reasons.items())
        cells = (drop.split, drop.need, f"{drop.examples:,}", f"{drop.kept:,}", why)
        parts.append("<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in cells) + "</tr>")
    parts += ["</table></div>", "</body></html>", ""]
    return "\n".join(part for part in parts if part)


def _finding(finding: Finding) -> str:
    title = f"<b>{finding.count:,}</b> {_safe(finding.text)}"
    if not finding.count:
        return f'<p class="note">{title}</p>'
    groups = [_figure(paths) for paths in finding.pictures[:MAX_PICTURES]]
    pictures = f'<div class="pictures">{"".join(groups)}</div>' if groups else ""
    more = finding.count - len(finding.examples)
    rest = f"<p>... and {more:,} more</p>" if more > 0 else ""
    return (
        f'<details class="{finding.severity}" {"open" if groups else ""}><summary>{title} '
        f"[{finding.severity}]</summary>{pictures}{_list(finding.examples)}{rest}</details>"
    )


def _figure(paths: tuple[str, ...]) -> str:
    return f"<figure>{''.join(_thumbnail(path) for path in paths[:4])}</figure>"


def _thumbnail(path: str) -> str:
    try:
        image = load_photo(path)
    except PhotoError:
        return f"<span>{_safe(path)} (cannot be read)</span>"
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<img src="data:image/jpeg;base64,{data}" alt="{_safe(path)}" title="{_safe(path)}" '
        f'width="{image.width}" height="{image.height}">'
    )


def _list(items: object) -> str:
    lines = "".join(f"<li>{_safe(item)}</li>" for item in items)  # type: ignore[attr-defined]
    return f"<ul>{lines}</ul>" if lines else ""


def _safe(text: str) -> str:
    return escape(text, quote=True)
