"""What frozen encoders make of photos and captions, computed once and kept on disk.

    with features_kept(model, Path("features")):     # stage.features=DIR
        ...                                          # VAE, vision encoder, text tower: as ever

In DIR lie shards of safetensors. A feature's name is the digest of its encoder (class, settings,
weights, how it multiplies) and of the very pixels or words that it read, so none can be stale. What
was computed is kept shard by shard: a run that is killed goes on with those it wrote. A shard that
is damaged, or half there, is said and computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from showtell.data.storage import write_atomically
from showtell.models.photo_encoder import POOLED, AnyPhotoEncoder, LinearPhotoEncoder, LlamaVision

HOUR = 3600.0
SHARD = 64 << 20  # bytes that wait to be written


class FeatureStore:
    """Features by name, in the shards of a folder. What a shard cannot give is told on stderr."""

    def __init__(self, folder: Path, *, shard_bytes: int = SHARD) -> None:
        self.folder, self.shard_bytes = folder, shard_bytes
        self.places: dict[str, Any] = {}
        self.waiting: dict[str, Tensor] = {}
        self.computed = 0
        for part in folder.glob(".*.part"):  # of a run that was killed, and not of one beside
            with contextlib.suppress(OSError):
                if part.stat().st_mtime < time.time() - HOUR:
                    part.unlink()
        for path in sorted(folder.glob("*.safetensors")):
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            shard = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            print(
                f'features: "{path}" is damaged ({error}); what it held is computed again',
                file=sys.stderr,
            )
            path.unlink(missing_ok=True)
            return
        self.places |= dict.fromkeys(shard.keys(), shard)

    def rows(
        self, encoder: str, read: Sequence[bytes], compute: Callable[[list[int]], Tensor]
    ) -> Tensor:
        """A row for each thing ``read``: kept, or by ``compute`` of the numbers of those that are
        not. On the CPU."""
        names = [f"{encoder}/{hashlib.blake2b(each, digest_size=16).hexdigest()}" for each in read]
        first = {name: number for number, name in reversed(list(enumerate(names)))}
        missing = [n for n, name in enumerate(names) if first[name] == n and not self._has(name)]
        if missing:
            for number, row in zip(missing, compute(missing).detach().cpu(), strict=True):
                self.waiting[names[number]] = row.clone()
            self.computed += len(missing)
            if sum(row.nbytes for row in self.waiting.values()) >= self.shard_bytes:
                rows = self._all(names)
                self.flush()
                return rows
        return self._all(names)

    def _has(self, name: str) -> bool:
        return name in self.places or name in self.waiting

    def _all(self, names: Sequence[str]) -> Tensor:
        return torch.stack(
            [
                self.waiting[name] if name in self.waiting else self.places[name].get_tensor(name)
                for name in names
            ]
        )

    def flush(self) -> None:
        """Write what waits as one shard. Raises StorageError."""
        if self.waiting:
            path = self.folder / f"{uuid.uuid4().hex}.safetensors"
            write_atomically(path, save(self.waiting))
            self.waiting = {}
            self._read(path)


def encoder_digest(encoder: nn.Module, what: str, *, mixed: Any) -> str:
    """Of an encoder's class, settings, weights and how it multiplies (``mixed``)."""
    found = hashlib.blake2b(digest_size=16)
    config: Any = getattr(encoder, "config", None)
    told = config.to_json_string() if hasattr(config, "to_json_string") else config
    found.update(repr((what, type(encoder).__name__, told, mixed)).encode())
    for name, value in encoder.state_dict().items():
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return found.hexdigest()


@contextmanager
def features_kept(model: nn.Module, folder: str | Path | None) -> Iterator[FeatureStore | None]:
    """Within, the model's frozen VAE, vision encoder and text tower give what ``folder`` has of
    them, and it gains what they compute. What moves computes as ever; None changes nothing."""
    if folder is None:
        yield None
        return
    store = FeatureStore(Path(folder))
    undo: list[tuple[Any, str]] = []

    def instead(owner: Any, name: str, function: Callable[..., Any]) -> None:
        object.__setattr__(owner, name, function)
        undo.append((owner, name))

    painter, eyes = getattr(model, "painter", None), getattr(model, "photo_encoder", None)
    vae, text = getattr(painter, "vae", None), getattr(painter, "text", None)
    if isinstance(vae, AutoencoderKL) and _still(vae):
        instead(vae, "encode", _moments(store, vae))
    if isinstance(text, nn.Module) and _still(text):
        instead(text, "encode", _captions(store, text))
    if isinstance(eyes, AnyPhotoEncoder) and not isinstance(eyes, LlamaVision):
        vision: Any = eyes.vision
        if _still(vision):
            instead(vision, "forward", _seen(store, eyes))
    try:
        yield store
    finally:
        for owner, name in undo:
            object.__delattr__(owner, name)
        store.flush()


def _still(encoder: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in encoder.parameters())


class _Digest:
    """The digest of an encoder that stands still, computed once for each way to multiply."""

    def __init__(self, encoder: nn.Module, what: str) -> None:
        self.encoder, self.what = encoder, what
        self.known: dict[Any, str] = {}

    def __call__(self) -> str:
        device = next(self.encoder.parameters()).device.type
        mixed = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
        if mixed not in self.known:
            self.known[mixed] = encoder_digest(self.encoder, self.what, mixed=mixed)
        return self.known[mixed]


def _of_pixels(
    store: FeatureStore, encoder: nn.Module, what: str, compute: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    digest = _Digest(encoder, what)

    def rows(pixels: Tensor) -> Tensor:
        kept = pixels.detach().cpu().contiguous()
        kind = f"{digest()}/{str(kept.dtype)[6:]}-{'x'.join(map(str, kept.shape[1:]))}"
        read = [each.view(-1).view(torch.uint8).numpy().tobytes() for each in kept]
        with torch.no_grad():
            found = store.rows(kind, read, lambda numbers: compute(pixels[numbers]))
        return found.to(pixels.device)

    return rows


def _moments(store: FeatureStore, vae: AutoencoderKL) -> Callable[..., Any]:
    plain = vae.encode
    rows = _of_pixels(store, vae, "moments", lambda pixels: plain(pixels).latent_dist.parameters)
    return lambda pixels: AutoencoderKLOutput(
        latent_dist=DiagonalGaussianDistribution(rows(pixels))
    )


def _seen(store: FeatureStore, eyes: AnyPhotoEncoder) -> Callable[..., Any]:
    """What the vision encoder says: of a linear map's the one feature alone, else all states, and
    behind them what it pools."""
    vision: Any = eyes.vision
    plain, pools = vision.forward, isinstance(vision, POOLED)
    alone = isinstance(eyes, LinearPhotoEncoder)

    def compute(pixels: Tensor) -> Tensor:
        seen = plain(pixel_values=pixels, interpolate_pos_encoding=True)
        pooled = seen.pooler_output[:, None] if pools else seen.last_hidden_state[:, :1]
        if alone:
            return pooled  # type: ignore[no-any-return]
        return torch.cat([seen.last_hidden_state, pooled], dim=1)

    rows = _of_pixels(store, vision, "feature" if alone else "states", compute)

    def forward(*, pixel_values: Tensor, **how: Any) -> Any:
        found = rows(pixel_values)
        states = found if alone else found[:, :-1]
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=found[:, -1])

    return forward


def _captions(store: FeatureStore, text: Any) -> Callable[[Sequence[str]], Tensor]:
    plain, digest = text.encode, _Digest(text, f"captions {text.length} {type(text).__name__}")

    def encode(captions: Sequence[str]) -> Tensor:
        read = [caption.encode("utf-8", "surrogatepass") for caption in captions]
        with torch.no_grad():
            found = store.rows(digest(), read, lambda which: plain([captions[n] for n in which]))
        return found.to(text.token_table_UC.device)

    return encode
