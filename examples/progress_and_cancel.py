"""Show how far it is, and stop after so many seconds of work: python progress_and_cancel.py FILM SPEECH OUT SECONDS"""

import sys
import time

import unisync


def main(film: str, speech: str, out: str, seconds: str) -> None:
    end = time.monotonic() + float(seconds)

    def show(progress: unisync.Progress) -> None:
        print(f"{progress.stage}: {progress.done} of {progress.total} frames")
        if time.monotonic() > end:
            raise unisync.Cancelled(f"stopped after {seconds} s")

    try:
        unisync.dub(film, speech, out, on_progress=show)
    except unisync.Cancelled as stop:
        print(f"{stop}; {out} was not written")


if __name__ == "__main__":
    main(*sys.argv[1:])
