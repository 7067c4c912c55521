"""Dub a film: python dub_a_film.py FILM SPEECH OUT"""

import sys

import unisync


def main(film: str, speech: str, out: str) -> None:
    options = unisync.DubOptions(face="largest", seed=7)
    try:
        report = unisync.dub(film, speech, out, options=options)
    except unisync.UnisyncError as error:  # one sentence: which file, what is wrong, what to do
        sys.exit(f"not dubbed: {error}")
    for warning in report.warnings:
        print("warning:", warning)
    print(report.line)


if __name__ == "__main__":
    main(*sys.argv[1:])
