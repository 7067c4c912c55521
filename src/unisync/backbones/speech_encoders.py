"""Published speech encoders, in local folders, over a whole speech.

Row k of a speech's features stands for second k / rate, as all these models were taught, although wav2vec2 centres what it
hears 12 ms later.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from unisync.audio.moments import at_moments
from unisync.audio.vad import voice_activity
from unisync.backbones.pretrained import config_of, pretrained
from unisync.errors import WeightsError
from unisync.types import Floats, Sound

RATE, HOP = 16000, 320
ROWS = RATE / HOP
"""Feature rows a second of all these encoders."""
PIECE, STEP, FADE = 30, 20, 1
"""Seconds: what is encoded at once, how far one piece lies from the next, and how long they are faded into each other."""
BEYOND = 400 - HOP
"""Samples beyond its own that a row of wav2vec2 hears."""
SOFT_SECONDS = 0.08
Kind = Literal["wav2vec2", "whisper"]


@dataclass(frozen=True)
class Needs:
    """An encoder that a model hears with. states: how many of its last hidden states; the norm after them included.

    pace: rows a second that its transformer is given instead of 50.
    """

    kind: Kind
    width: int
    states: int = 1
    pace: float = ROWS
    published: str = ""


class Encoder(Protocol):
    """A speech encoder. rate: rows a second."""

    rate: float

    def __call__(self, samples: Floats, device: torch.device) -> Tensor:
        """Return float32 (L, states, width) of 16 kHz samples (N,), on the CPU."""


@dataclass(frozen=True, eq=False)
class Heard:
    """One speech. rows: (L, states, width) for each of the encoders, with their rates."""

    rows: tuple[Tensor, ...]
    rates: tuple[float, ...]

    def at(self, seconds: Tensor) -> Tensor:
        """Return (..., states, width) at times seconds (...), the encoders' widths side by side."""
        every = [
            at_moments(rows.flatten(1), rate, seconds).float().unflatten(-1, rows.shape[1:])
            for rows, rate in zip(self.rows, self.rates, strict=True)
        ]
        return torch.cat(every, dim=-1)


def listen(encoders: tuple[Encoder, ...], sound: Sound, device: torch.device) -> Heard:
    """Return a 16 kHz speech as the encoders hear it; what is not voice is silence to them."""
    voiced = voice_activity(sound)
    width = 2 * round(SOFT_SECONDS * 100) + 1
    gate = np.convolve(np.pad(voiced, width // 2, mode="edge"), np.ones(width) / width, mode="valid")
    moments = np.arange(len(sound.samples)) / sound.rate * 100
    samples = (sound.samples * np.interp(moments, np.arange(len(gate)), gate)).astype(np.float32)
    return Heard(tuple(encode(samples, device) for encode in encoders), tuple(encode.rate for encode in encoders))


class Wav2Vec:
    """wav2vec2 through transformers, from a local folder."""

    def __init__(self, folder: Path, needs: Needs) -> None:
        self.rate, self.states = needs.pace, needs.states
        self._hear: Any = pretrained("Wav2Vec2FeatureExtractor", folder)
        self._network: Any = pretrained("Wav2Vec2Model", folder)
        self._network.float().eval().requires_grad_(False)
        if self.rate != ROWS:
            self._network.feature_extractor.register_forward_hook(self._slowed)

    @torch.no_grad()
    def __call__(self, samples: Floats, device: torch.device) -> Tensor:
        num = max(1, -(-len(samples) // HOP))
        whole = self._hear(samples, sampling_rate=RATE, return_tensors="np").input_values[0]
        whole = np.pad(np.asarray(whole, np.float32), (0, num * HOP + BEYOND - len(samples)))
        self._network.to(device)
        rows = in_pieces(whole, num, self.rate, lambda piece: self._encode(torch.from_numpy(piece).to(device)))
        self._network.to("cpu")
        return rows

    def _encode(self, piece: Tensor) -> Tensor:
        """Return (L, states, width) of samples (N,)."""
        states = self._network(piece[None], output_hidden_states=True).hidden_states
        return torch.stack([state[0] for state in states[-self.states :]], dim=1)

    def _slowed(self, _module: Any, _given: Any, features: Tensor) -> Tensor:
        """Return the convolutions' features (1, C, L) at the pace that the transformer is to have."""
        seconds = torch.arange(math.ceil(features.shape[-1] * self.rate / ROWS), device=features.device) / self.rate
        return at_moments(features[0].T, ROWS, seconds).T[None]


class Whisper:
    """Whisper's encoder through transformers, from a local folder; it hears thirty seconds at once, filled up with silence."""

    rate = ROWS

    def __init__(self, folder: Path) -> None:
        self._hear: Any = pretrained("WhisperFeatureExtractor", folder)
        self._network: Any = pretrained("WhisperModel", folder).encoder
        self._network.float().eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, samples: Floats, device: torch.device) -> Tensor:
        num = max(1, -(-len(samples) // HOP))
        self._network.to(device)
        rows = in_pieces(np.pad(samples, (0, num * HOP - len(samples))), num, ROWS, lambda x: self._encode(x, device))
        self._network.to("cpu")
        return rows

    def _encode(self, piece: Floats, device: torch.device) -> Tensor:
        """Return (L, 1, width) of samples (N,), at most thirty seconds."""
        mel = self._hear(piece, sampling_rate=RATE, return_tensors="pt").input_features
        rows: Tensor = self._network(mel.to(device)).last_hidden_state[0, : -(-len(piece) // HOP), None]
        return rows


def in_pieces(samples: Floats, num: int, rate: float, encode: Callable[[Floats], Tensor]) -> Tensor:
    """Return rows (num * rate / 50, ...) of a speech, however long, encoded in overlapping pieces that fade into each other.

    samples: (N,), `num` rows of 320 and what the last row hears beyond them.  encode: samples of a piece to its rows.
    """
    total, beyond = max(1, round(num * rate / ROWS)), len(samples) - num * HOP
    pieces = 1 + max(0, -(-(num * HOP - PIECE * RATE) // (STEP * RATE)))
    margin = (PIECE - STEP) / 2
    rows: Tensor | None = None
    for index in range(pieces):
        start, first = index * STEP * RATE, round(index * STEP * rate)
        made = encode(samples[start : start + PIECE * RATE + beyond]).cpu().float()[: total - first]
        if rows is None:
            rows = made.new_zeros(total, *made.shape[1:], dtype=torch.float16 if made.shape[1] > 1 else torch.float32)
        seconds = torch.arange(len(made)) / rate
        weight = torch.ones(len(made))
        if index:
            weight *= ((seconds - margin) / FADE + 0.5).clamp(0, 1)
        if index < pieces - 1:
            weight *= ((margin + STEP - seconds) / FADE + 0.5).clamp(0, 1)
        rows[first : first + len(made)] += (made * weight[:, None, None]).to(rows.dtype)
    assert rows is not None
    last = first + len(made)
    rows[last:] = rows[last - 1]  # rounding may leave the very last row without one of its own
    return rows


def encoder_of(folder: Path, needs: Needs) -> Encoder:
    """Return the encoder in a folder. Raises WeightsError if it is damaged."""
    return Wav2Vec(folder, needs) if needs.kind == "wav2vec2" else Whisper(folder)


def check_encoder(folder: Path, needs: Needs) -> None:
    """Raise WeightsError unless a folder's encoder is what a model hears with; only its configuration is read."""
    config = config_of(folder)
    kind, width = config.get("model_type"), config.get("hidden_size", config.get("d_model"))
    layers = config.get("num_hidden_layers", config.get("encoder_layers"))
    if kind != needs.kind or width != needs.width or not isinstance(layers, int) or layers + 1 < needs.states:
        raise WeightsError(
            f"{folder}: a {kind} of {layers} layers, {width} wide, does not do: the model hears with "
            f"{needs.published} ({needs.kind}, {needs.width} wide); give that one's folder"
        )
