"""Dub each FILM.mp4 of a folder with the FILM.wav beside it: python batch_a_folder.py FOLDER OUT"""

import sys
from pathlib import Path

import unisync


def main(folder: str, out: str) -> None:
    Path(out).mkdir(parents=True, exist_ok=True)
    for film in sorted(Path(folder).glob("*.mp4")):
        made = Path(out) / film.name
        if made.exists():  # a film is there when it is finished, never before: run again to go on
            continue
        try:
            print(f"{film.name}: {unisync.dub(film, film.with_suffix('.wav'), made).line}")
        except unisync.UnisyncError as error:
            print(f"{film.name}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
