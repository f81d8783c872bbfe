"""Where a photo is from, said inside its file: a painted one tells that a model made it, which, and
with what seed. One that a user brought or an album had is never marked, and carries its pixels
alone: no EXIF, no place.

The mark is XMP, which editors and galleries read (IPTC's DigitalSourceType). Signed (``Signing``,
extra ``c2pa``), the file holds a C2PA manifest as well, which nobody can alter unseen. It is the
last that is done to a file: whoever decodes it and writes it anew strips the manifest.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html import escape, unescape
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from showtell.dialogue import PAINTED_BY, Photo
from showtell.errors import PhotoError, UsageError, import_extra

if TYPE_CHECKING:
    from PIL.Image import Image

Kind = Literal["PNG", "JPEG", "WEBP"]
GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_XMP_OF_PNG = "XML:com.adobe.xmp"
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'xmlns:showtell="urn:showtell:provenance:1/" xmp:CreatorTool="showtell" '
    f'Iptc4xmpExt:DigitalSourceType="{GENERATED}" {{more}}/></rdf:RDF></x:xmpmeta>'
)
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_ALGORITHMS = ("es256", "es384", "es512", "ps256", "ed25519")
_MEDIA = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a file says of itself: that a model made it, perhaps which, perhaps the seed."""

    generated: bool
    model: str = ""
    seed: int | None = None


def photo_file(
    photo: Photo, image: Image, *, kind: Kind = "PNG", signing: Signing | None = None
) -> bytes:
    """The photo as a file: its pixels, as PNG its caption, and where it is painted its mark and
    signature."""
    from PIL import Image as Pillow
    from PIL.PngImagePlugin import PngInfo

    fresh = Pillow.new("RGB", image.size)  # Pillow writes what an image's info holds
    fresh.paste(image)
    painted = photo.origin == "painted"
    packet = _packet(photo) if painted else ""
    data = BytesIO()
    if kind == "PNG":
        info = PngInfo()
        info.add_itxt("Description", photo.caption)
        if packet:
            info.add_itxt(_XMP_OF_PNG, packet)
        fresh.save(data, format="PNG", pnginfo=info)
    else:
        xmp = {"xmp": packet.encode()} if packet else {}
        fresh.save(data, format=kind, quality=90, **xmp)
    if painted and signing is not None:
        return signing.signed(data.getvalue(), kind=kind, model=_model_of(photo))
    return data.getvalue()


def _packet(photo: Photo) -> str:
    told = {"Iptc4xmpExt:AISystemUsed": _model_of(photo)}
    if photo.seed is not None:
        told["showtell:Seed"] = str(photo.seed)
    more = " ".join(f'{name}="{escape(value)}"' for name, value in told.items() if value)
    return _XMP.replace("{more}", more)


def _model_of(photo: Photo) -> str:
    """The painter's name; of one in a folder here the folder's own, and not where that lies."""
    name = str(photo.labels.get(PAINTED_BY, ""))
    local = name.count("/") != 1 or name.startswith(("/", ".", "~")) or "\\" in name
    name = re.split(r"[/\\]", name.rstrip("/\\"))[-1] if local else name
    return re.sub(r"[^\w ./:#-]", "", name)[:200]


def mark_of(data: bytes, *, name: str = "the photo") -> Mark:
    """What a photo's file says of itself, by this program or another; errors call it ``name``.
    Raises PhotoError for what is no photo."""
    from showtell.data.pixels import opened_image

    with opened_image(data, name=name, first_frame=True):
        pass
    packet = _packet_in(data)
    source = _said(packet, "Iptc4xmpExt:DigitalSourceType")
    seed = _said(packet, "showtell:Seed")
    return Mark(
        # also composites of such, as other programs mark them
        generated=source.rpartition("/")[2].lower().endswith("trainedalgorithmicmedia"),
        model=_said(packet, "Iptc4xmpExt:AISystemUsed"),
        seed=int(seed) if re.fullmatch(r"\d{1,19}", seed) else None,
    )


def _packet_in(data: bytes) -> str:
    from PIL import Image as Pillow

    try:
        with Pillow.open(BytesIO(data), formats=("PNG", "JPEG", "WEBP", "AVIF")) as image:
            found = image.info.get("xmp") or image.info.get(_XMP_OF_PNG) or b""
    except Exception:  # of a kind without XMP, or with texts that are larger than Pillow reads
        return ""
    return found.decode(errors="replace") if isinstance(found, bytes) else str(found)


def _said(packet: str, name: str) -> str:
    """A property, as an attribute or as an element. No XML is parsed: it is a stranger's."""
    own = re.escape(name)
    found = re.search(rf'{own}\s*=\s*(["\'])([^"\'<]{{0,500}})\1|<{own}>([^<]{{0,500}})<', packet)
    return "" if found is None else unescape(found[2] or found[3] or "").strip()


# ---------------------------------------------------------------------------------------- C2PA


class Signing:
    """Signs painted photos with a key of the user's own (C2PA).

    ``path``: one PEM file with the private key and the chain of certificates, the leaf first. The
    leaf may be no authority itself, and is for e-mail or documents (extended key usage). No time
    stamp is asked for: nothing leaves this machine.
    """

    def __init__(self, path: str | Path) -> None:
        """Reads the file and signs a pixel, so that what is wrong is told now. Raises UsageError,
        MissingDependency."""
        from PIL import Image as Pillow

        self.c2pa = import_extra("c2pa", what="signing photos", extra="c2pa")
        try:
            with open(path, encoding="ascii") as file:
                text = file.read(1_000_000)
        except (OSError, ValueError) as error:
            raise UsageError(
                f'the certificates "{path}" cannot be read ({type(error).__name__}); wanted a PEM '
                "file with a private key and its chain; name that"
            ) from error
        blocks = list(_PEM.finditer(text))
        chain = [block[0] for block in blocks if block[1] == "CERTIFICATE"]
        keys = [block[0] for block in blocks if block[1].endswith("PRIVATE KEY")]
        if not chain or len(keys) != 1:
            raise UsageError(
                f'"{path}" holds {len(keys)} private keys and {len(chain)} certificates; wanted '
                "one key and its chain, the leaf first; put both into one file"
            )
        self.chain, self.key = "\n".join(chain), keys[0]
        pixel = BytesIO()
        Pillow.new("RGB", (1, 1)).save(pixel, "PNG")
        why = ""
        for self.algorithm in _ALGORITHMS:
            try:
                self.signed(pixel.getvalue(), kind="PNG", model="")
                return
            except PhotoError as error:
                why = why or str(error)
        raise UsageError(
            f'nothing can be signed with "{path}" ({why}); wanted the chain of a leaf that is no '
            "authority and is for e-mail or documents (extended key usage); make one so"
        )

    def signed(self, data: bytes, *, kind: Kind, model: str) -> bytes:
        """The file with a manifest. Raises PhotoError."""
        agent = {"name": model or "showtell"}
        created = {
            "action": "c2pa.created",
            "digitalSourceType": GENERATED,
            "softwareAgent": agent,
        }
        manifest = {
            "claim_generator_info": [{"name": "showtell", "version": version("showtell")}],
            "format": _MEDIA[kind],
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
        }
        # a thumbnail would be larger than many a photo
        settings = self.c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}})
        out = BytesIO()
        try:
            info = self.c2pa.C2paSignerInfo(
                self.algorithm, self.chain.encode(), self.key.encode(), None
            )
            with (
                self.c2pa.Context(settings=settings) as context,
                self.c2pa.Signer.from_info(info) as signer,
                self.c2pa.Builder(manifest, context=context) as builder,
            ):
                builder.sign(signer, _MEDIA[kind], BytesIO(data), out)
        except self.c2pa.C2paError as error:
            raise PhotoError(f"the photo cannot be signed ({str(error)[:200]})") from error
        return out.getvalue()


def signature_of(data: bytes) -> dict[str, str] | None:
    """{"state", "by", "source"} of a file's C2PA manifest: "Valid" or "Trusted" where nothing was
    altered since; None where there is none. Raises MissingDependency, PhotoError."""
    from showtell.data.pixels import opened_image

    c2pa = import_extra("c2pa", what="reading signatures", extra="c2pa")
    with opened_image(data, name="the photo", first_frame=True) as image:
        media = str(image.get_format_mimetype())  # type: ignore[attr-defined]
    if media not in c2pa.Reader.get_supported_mime_types():
        return None
    try:
        with c2pa.Reader(media, BytesIO(data)) as reader:
            told = json.loads(reader.json())
            state = str(reader.get_validation_state())
    except c2pa.C2paError as error:
        if "ManifestNotFound" in str(error):
            return None
        raise PhotoError(f"the photo's signature cannot be read ({str(error)[:200]})") from error
    own = told["manifests"][told["active_manifest"]]
    sources = [
        action["digitalSourceType"]
        for assertion in own.get("assertions", ())
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"]["actions"]
        if "digitalSourceType" in action
    ]
    return {
        "state": state,
        "by": own.get("signature_info", {}).get("common_name", ""),
        "source": sources[0] if sources else "",
    }
