"""A metric of one's own: how dark the canvas is, beside the source's. A suite for `unisync evaluate` names it darkness."""

from unisync import Better, Value, Window


class Darkness:
    name = "darkness"
    unit = "share of pixels"
    better: Better = "one"

    def __init__(self) -> None:
        self.made = self.truth = 0  # sums, never frames: films are long

    def update(self, made: Window, truth: Window | None = None) -> None:
        if truth is None:
            raise ValueError("darkness needs a truth to hold the film against")
        self.made += int((made.pixels.max(-1) < 40).sum())
        self.truth += int((truth.pixels.max(-1) < 40).sum())

    def compute(self) -> dict[str, Value]:
        return {self.name: self.made / self.truth if self.truth else "a source without a dark pixel"}
