"""Dub frames that another program holds in memory: python dub_arrays.py FRAMES.npy SPEECH OUT.npy"""

import sys

import numpy as np
import soundfile
from numpy.lib.format import open_memmap

import unisync


def main(frames: str, speech: str, out: str) -> None:
    given = np.load(frames, mmap_mode="r")  # uint8 (T, H, W, 3); mapped, so that it is never in memory as a whole
    samples, rate = soundfile.read(speech, dtype="float32")
    made = unisync.dub_frames(given, (samples, rate), fps=25)
    kept = open_memmap(out, "w+", np.uint8, (len(made), *given.shape[1:]))
    for index, frame in enumerate(made):
        kept[index] = frame
    print(f"{len(made)} frames, until second {float(made.seconds[-1]):.2f}; who speaks: {made.chosen[0].name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
