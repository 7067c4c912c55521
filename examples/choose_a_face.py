"""Look at a film once, draw who is in it, and let the one on the right speak: python choose_a_face.py FILM SPEECH OUT"""

import sys
from pathlib import Path

import unisync


def main(film: str, speech: str, out: str) -> None:
    plan = unisync.scan(film)
    faces, saved = Path(out).with_suffix(".faces.png"), Path(out).with_suffix(".plan")
    unisync.contact_sheet(plan, faces)
    unisync.save_plan(plan, saved)  # so that dub does not look again
    right = max(plan.tracks, key=lambda track: float(track.boxes[:, 0].mean()))
    print(f"{len(plan.tracks)} faces, drawn in {faces}; {right.name} speaks")
    unisync.dub(film, speech, out, options=unisync.DubOptions(plan=str(saved), face=right.name))


if __name__ == "__main__":
    main(*sys.argv[1:])
