"""LSE-C and LSE-D: do these lips make this sound, by SyncNet v2, exactly as its published evaluation counts.

Two variants are published under the same name and are not to be compared: on crops that follow a face
(syncnet_python, and Wav2Lip's evaluation of real films), and on whole frames (Wav2Lip's evaluation of face clips).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unisync.audio.cepstra import HOP, cepstra
from unisync.audio.cepstra import RATE as SOUND_RATE
from unisync.metrics.base import Better, Value
from unisync.metrics.learned import Learned, as_pictures
from unisync.nets.syncnet import FRAMES, ROWS
from unisync.types import Pixels, Sound, Window

RATE = 25
"""Frames a second; films of another rate show the nearest frame at each moment."""
STEP = SOUND_RATE // RATE
"""Samples in a frame."""
SHIFT = 15
"""Frames that the sound is shifted by, either way."""
CLOSE = 1e-6
"""What the published distance adds to every difference."""
STRETCH = 32
"""Windows seen at a time."""


class Curve:
    """Mean distance of lips and sound by shift, of one run that comes in parts; beyond its ends stand zeros, as published."""

    def __init__(self) -> None:
        self.num = 0
        self._sum = np.zeros(2 * SHIFT + 1)
        self._seen = self._heard = torch.zeros(0)

    def add(self, seen: Tensor, heard: Tensor) -> None:
        """Take embeddings (N, D) of the next windows of lips, and of the sound beside each."""
        if not self.num:
            self._seen, self._heard = seen[:0], heard.new_zeros(SHIFT, heard.shape[1])
        self.num += len(seen)
        self._seen, self._heard = torch.cat([self._seen, seen]), torch.cat([self._heard, heard])
        done = max(0, len(self._seen) - SHIFT)
        self._sum += _distances(self._seen[:done], self._heard[: done + 2 * SHIFT])
        self._seen, self._heard = self._seen[done:], self._heard[done:]

    def mean(self) -> NDArray[np.float64]:
        """Return the mean distances (31,) by shift so far, as if the run ended here."""
        end = torch.cat([self._heard, self._heard.new_zeros(SHIFT, self._heard.shape[1])])
        return np.asarray((self._sum + _distances(self._seen, end)) / self.num)


def _distances(seen: Tensor, heard: Tensor) -> NDArray[np.float64]:
    """Return sums over N of distances (31,) of lips (N, D) to the sound (N + 30, D) at every shift."""
    if not len(seen):
        return np.zeros(2 * SHIFT + 1)
    beside = heard.unfold(0, 2 * SHIFT + 1, 1)  # (N, D, 31)
    return np.asarray((seen[..., None] - beside + CLOSE).norm(dim=1).double().sum(0).cpu().numpy())


class Run:
    """One face, followed without a gap: its frames at 25 a second, and what of them no window has taken yet."""

    def __init__(self, window: Window) -> None:
        self.begin = float(window.seconds[0])
        self.next = window.start
        self.curve = Curve()
        self._pixels, self._seconds = window.pixels[:0], window.seconds[:0]
        self._waiting = window.pixels[:0]
        self._num = 0

    def take(self, window: Window, network: Any) -> None:
        """Take the run's next stretch."""
        self.next = window.start + len(window)
        self._waiting = np.concatenate([self._waiting, self._steady(window)])
        first = round(self.begin * SOUND_RATE)
        spoken = (len(window.sound.samples) - first) // STEP
        # The published loop leaves out the last of the windows that there are.
        while (num := min(self._num, spoken) - FRAMES - self.curve.num) > 0:
            num = min(num, STRETCH)
            seen = network.see(as_pictures(self._waiting[: num + FRAMES - 1, ..., ::-1]))
            heard = network.hear(_heard(window.sound, first, self.curve.num, num).to(seen.device))
            self.curve.add(seen, heard)
            self._waiting = self._waiting[num:]
        if self._num >= spoken:  # nothing more will be heard, so nothing has to wait
            self._waiting = self._waiting[:0]

    def _steady(self, window: Window) -> Pixels:
        """Return the frames nearest to the next moments of 25 a second; the last frame is kept for the next stretch."""
        pixels = np.concatenate([self._pixels, window.pixels])
        seconds = np.concatenate([self._seconds, window.seconds])
        self._pixels, self._seconds = pixels[-1:], seconds[-1:]
        stop = int((seconds[-1] - self.begin) * RATE + 1e-6) + 1
        moments = self.begin + np.arange(self._num, stop) / RATE
        self._num = stop
        shown: Pixels = pixels[np.searchsorted((seconds[1:] + seconds[:-1]) / 2, moments)]
        return shown


def _heard(sound: Sound, first: int, start: int, num: int) -> Tensor:
    """Return cepstra (num, 13, 20) of windows from `start` on, of a run whose sound begins at sample `first`."""
    at, rows = first + start * STEP, ROWS + (num - 1) * STEP // HOP
    before = float(sound.samples[at - 1]) if start else 0.0
    table = torch.from_numpy(cepstra(sound.samples[at : at + (rows + 2) * HOP], rows, before))
    return table.unfold(0, ROWS, STEP // HOP).contiguous()


class _Lse(Learned):
    """LSE-C, LSE-D and the offset at which they are found, each the mean over the runs."""

    unit = "distance"
    better: Better = "higher"
    weights = "syncnet_v2.model"
    size = 224
    alone = True
    min_windows: int

    def __init__(self, network: object = None) -> None:
        super().__init__(network)
        self._run: Run | None = None
        self._curves: list[NDArray[np.float64]] = []

    def begin(self) -> None:
        self._curves = self._whole()
        self._run = None

    def take(self, made: Window, truth: Window | None) -> None:
        """Take a stretch; one that does not begin where the last ended begins a run. A truth gets figures of its own."""
        if made.sound.rate != SOUND_RATE:
            raise ValueError(f"speech must be at {SOUND_RATE} Hz, not {made.sound.rate}")
        if self._run is None or self._run.next != made.start:
            self.begin()
            self._run = Run(made)
        self._run.take(made, self.network)

    def _whole(self) -> list[NDArray[np.float64]]:
        """Return the curves of all runs that are long enough, the present one's too."""
        run = self._run
        return [*self._curves, run.curve.mean()] if run and run.curve.num >= self.min_windows else self._curves

    def measured(self) -> dict[str, Value]:
        curves = self._whole()
        if not curves:
            needed = self.min_windows + FRAMES
            return dict.fromkeys(
                self.figures, f"nobody was followed, and heard, for {needed} frames of {RATE} a second"
            )
        table = np.stack(curves)
        least = table.min(1)
        confidence, distance, offset = self.figures
        return {
            confidence: float((np.median(table, axis=1) - least).mean()),
            distance: float(least.mean()),
            offset: float(SHIFT - table.mean(0).argmin()),
        }


class LseTracked(_Lse):
    """On crops that follow a face, as syncnet_python and Wav2Lip's evaluation of real films make them."""

    name = "lse_c_tracked"
    view = "syncnet"
    figures = ("lse_c_tracked", "lse_d_tracked", "lse_offset_tracked")
    min_windows = 96  # the published pipeline takes tracks of more than 100 frames


class LseFrame(_Lse):
    """On whole frames, as Wav2Lip's evaluation of clips that show little but a face has it."""

    name = "lse_c_frame"
    view = "frame"
    figures = ("lse_c_frame", "lse_d_frame", "lse_offset_frame")
    min_windows = 1
