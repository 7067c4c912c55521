"""Make src/unisync/data/demo-speech.flac: our own words, spoken by eSpeak NG.

eSpeak NG is GPL, so it is no dependency: run this in an environment of its own with
`pip install espeakng-loader==0.2.4 numpy soundfile soxr`. The package only carries the sound that comes out.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WORDS = "Hello, I am UniSync. Give me a film and new words: the lips will follow."
VOICE, WORDS_A_MINUTE = "en-us", 180
RATE = 16_000
OUT = Path(__file__).parent.parent / "src" / "unisync" / "data" / "demo-speech.flac"

SYNCHRONOUS, UTF8 = 2, 1


def speak(words: str) -> tuple[NDArray[np.int16], int]:
    """Return the words as int16 samples, and their rate in Hz."""
    import espeakng_loader

    espeak = ctypes.CDLL(espeakng_loader.get_library_path())
    data = str(Path(espeakng_loader.get_data_path()).parent)
    rate = espeak.espeak_Initialize(SYNCHRONOUS, 0, data.encode(), 0)
    if rate <= 0:
        raise RuntimeError("eSpeak NG did not start")
    pieces: list[NDArray[np.int16]] = []
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

    def take(samples: ctypes._Pointer[ctypes.c_short], num: int, _events: int) -> int:
        if samples and num > 0:
            pieces.append(np.ctypeslib.as_array(samples, (num,)).copy())
        return 0

    kept = callback(take)
    espeak.espeak_SetSynthCallback(kept)
    espeak.espeak_SetVoiceByName(VOICE.encode())
    espeak.espeak_SetParameter(1, WORDS_A_MINUTE, 0)
    text = words.encode() + b"\0"
    espeak.espeak_Synth(text, len(text), 0, 1, 0, UTF8, None, None)
    espeak.espeak_Synchronize()
    return np.concatenate(pieces), rate


def main() -> int:
    import soundfile
    import soxr

    samples, rate = speak(WORDS)
    sound = soxr.resample(samples.astype(np.float64) / 32768, rate, RATE)
    silence = np.zeros(RATE // 4)  # a closed mouth before and after
    sound = np.concatenate([silence, sound * 0.7 / np.abs(sound).max(), silence])
    OUT.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(OUT, sound, RATE, subtype="PCM_16", format="FLAC")
    print(f"{OUT.name}: {len(sound) / RATE:.2f} s, {OUT.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
