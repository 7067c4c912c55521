"""What a person chooses: one frozen dataclass per verb, the same as flags, TOML and JSON.

Floor 1: numbers and words only. Whether a film, face, method or encoder exists is found out by those who use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self, get_type_hints

from unisync.errors import OptionError
from unisync.parse import fitted, read_toml, suggest

SourceLips = Literal["nearest", "neutral", "as_is", "masked"]
TaliMode = Literal["index", "sigma"]
Guidance = Literal["static", "dynamic"]
Counting = Literal["below", "all"]
Solver = Literal["euler", "unipc"]
Composite = Literal["gaussian", "hard", "none"]
Codec = Literal["h264", "hevc", "av1", "vp9", "prores", "ffv1"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Storage = Literal["bf16", "fp8"]
AttentionKernel = Literal["flash", "efficient", "cudnn", "flash-attn"]
Pictures = Literal["jpeg", "lossless"]
WhenLonger = Literal["cut", "loop", "bounce", "hold"]
WhenShorter = Literal["silence", "cut", "loop"]

WHEN_LONGER: dict[WhenLonger, str] = {
    "cut": "the speech is cut where the film ends",
    "loop": "the film starts again",
    "bounce": "the film runs back and forth",
    "hold": "the film's last frame stays",
}
WHEN_SHORTER: dict[WhenShorter, str] = {
    "silence": "the film goes on with its mouth closed",
    "cut": "the film ends with the speech",
    "loop": "the speech starts again",
}
BACKBONE_PARTS = ("adapter", "vae", "audio_encoder", "image_encoder", "text", "canvas", "length", "vae_tiling")
WEIGHTS_PARTS = ("audio_encoder", "text")
"""Those of them that weights of the embedded model's kind may need or use as well."""
BACKBONE_PLACE = ("vram", "storage", "attention", "step_cache", "compile")
FACE_WORDS = ("largest", "speaking", "all")


def _option(default: Any, text: str, *, owner: bool = False) -> Any:
    """Return a field that can say what it is for. owner: whoever asks from elsewhere may not choose it."""
    return field(default=default, metadata={"help": text, "owner": owner})


def _words(meanings: Mapping[Any, str]) -> str:
    return "; ".join(f"{word}: {meaning}" for word, meaning in meanings.items())


@dataclass(frozen=True)
class _Options:
    """Reading, checking and writing, the same for the options of all verbs."""

    def __post_init__(self) -> None:
        for name, hint in hints(type(self)).items():
            object.__setattr__(self, name, fitted(hint, getattr(self, name), name))
        self.check()

    def check(self) -> None:
        """Raise OptionError where a value is out of range or contradicts another."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return options from names and values; dashes count as underscores, unknown names are errors."""
        known = [item.name for item in fields(cls)]
        clean: dict[str, Any] = {}
        for key, value in values.items():
            name = key.replace("-", "_")
            if name not in known:
                raise OptionError(f"there is no option {key!r}{suggest(name, known)}")
            clean[name] = value
        return cls(**clean)

    @classmethod
    def from_toml(cls, path: Path | str) -> Self:
        """Return options from a TOML file: its table named after the verb, or the whole of it if there is none."""
        try:
            return cls.from_dict(cls.read_toml(path))
        except OptionError as error:
            raise OptionError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error

    @classmethod
    def read_toml(cls, path: Path | str) -> dict[str, Any]:
        """Return the names and values in a TOML file, unchecked."""
        values = read_toml(Path(path))
        table = values.get(cls.__name__.removesuffix("Options").lower(), values)
        if not isinstance(table, dict):
            raise OptionError(f"{path}: holds a single value where a table of options should be")
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return names and values, as `from_dict` takes them."""
        return asdict(self)


@dataclass(frozen=True)
class ScanOptions(_Options):
    """How a film is looked at."""

    box: str | None = _option(None, "A face that no detector sees, by hand: x,y,w,h@seconds; followed as 'box1'.")
    min_face: int = _option(24, "Faces smaller than this many pixels are left alone.")

    def check(self) -> None:
        if self.box is not None:
            _place("box", self.box, "x,y,w,h@seconds", 4)
        _within("min_face", self.min_face, 1, 10_000)


@dataclass(frozen=True)
class DubOptions(_Options):
    """How a film is dubbed. None means: as the method, the codec or the container has it by default.

    What names files, or says how the machine is used, is its owner's to choose, not a client's of a server.
    """

    method: str = _option("unisync", "What paints the lips: unisync, omnisync; 'echo' paints nothing.")
    weights: str | None = _option(None, "Weights file to use instead of the method's own.", owner=True)
    backbone: str | None = _option(
        None,
        "Large public model to paint with, a file or folder (docs/backbones.md), or a backbone's name.",
        owner=True,
    )
    adapter: str | None = _option(None, "What lets such a model hear, where that is a file of its own.", owner=True)
    vae: str | None = _option(None, "The model's autoencoder; else it is looked for beside the model.", owner=True)
    audio_encoder: str | None = _option(
        None,
        "Folders of the speech encoders that the model, or the weights, hear with, with commas; else looked for beside it.",
        owner=True,
    )
    image_encoder: str | None = _option(
        None,
        "Folder of the CLIP encoder that an image-to-video model sees with; else looked for beside it.",
        owner=True,
    )
    text: str | None = _option(
        None, "Text for the model, as 'unisync text' encodes it once; 'zero' is none at all.", owner=True
    )
    canvas: int | None = _option(
        None, "Side of the canvas that such a model paints, in pixels; else as it is used to.", owner=True
    )
    length: int | None = _option(None, "Frames that it paints at once, 4n + 1; else as it is used to.", owner=True)
    vae_tiling: bool = _option(False, "Encode and decode canvases in tiles: slower, with less memory.", owner=True)
    lora: str | None = _option(
        None,
        "LoRA files to add to the weights: FILE:scale, several with commas; or what taught a public model to edit.",
        owner=True,
    )
    steps: int | None = _option(
        None,
        "Denoising steps; else as many as the weights need, fewer where there is little to paint. "
        "0 shows what would be painted on.",
    )
    steps_counted: Counting = _option(
        "below", "Where painting starts below pure noise, steps are counted below that level, or over all levels."
    )
    solver: Solver | None = _option(
        None,
        "How a step is taken: straight on (euler, the embedded model), or by UniPC, from the steps before as well.",
    )
    strength: float = _option(1.0, "How far the speech moves the lips; 1 is as trained.")
    detail: float = _option(1.0, "How much of the film's fineness painted lips get back; 0 leaves them soft.")
    guidance: float | None = _option(
        None,
        "Scale of static classifier-free guidance by the speech; 1 is none, and twice as fast. Else as the weights need: "
        "the embedded ones none.",
    )
    text_guidance: float | None = _option(
        None, "The same by the text, or by the film beside the painted one; else as a public model needs."
    )
    guidance_mode: Guidance | None = _option(
        None,
        "Guidance that is the same everywhere (unisync), or dynamic: strongest at the mouth and in noise "
        "(DS-CFG, omnisync).",
    )
    omega_base: float = _option(1.0, "Dynamic guidance far from the mouth.")
    omega_peak: float = _option(4.5, "Dynamic guidance at the mouth, in pure noise.")
    omega_gamma: float = _option(1.5, "How fast dynamic guidance falls with the noise level; 0: not at all.")
    omega_spread: float = _option(0.15, "How far dynamic guidance reaches around the mouth, in widths of the face.")
    seed: int = _option(0, "The same seed gives the same film.")
    source_lips: SourceLips | None = _option(
        None,
        "What the method paints on: the shot's own mouths that come nearest to the speech (unisync, with the embedded "
        "model), closed lips (unisync, with others), the film as it is (omnisync), or the film without its mouth.",
    )
    start: float | None = _option(
        None,
        "Noise level at which painting starts, up to 1 (pure noise); by itself .72 on lent mouths, .65 where a third of "
        "what these show is made up, .9 on closed lips (unisync), or .92 (omnisync).",
    )
    shift: float | None = _option(
        None, "Shift of the noise levels: above 1, more steps at high noise; else as the weights need, the embedded 1."
    )
    tau_inj: float | None = _option(
        None, "Share of the steps that hold all but the mouth to the film (TALI): unisync .8, omnisync none."
    )
    tali_mode: TaliMode = _option("index", "What tau-inj counts: steps, or the noise level.")
    pose: bool | None = _option(
        None, "Anchor the painting by the face's pose (PAFS); else as the weights were taught, the embedded with it."
    )
    composite: Composite | None = _option(
        None,
        "Where the film changes: at the mouth, fading (gaussian, unisync) or cut off (hard), or on the whole face (none, "
        "omnisync); what the last changes beyond the mouth is measured.",
    )
    carry: bool | None = _option(
        None, "Go on from the last painted frames (omnisync, public models), or paint stretches side by side."
    )
    face: str = _option(
        "largest", "Which face: a name from 'scan' (or several, with commas), largest, speaking, all, x,y@seconds."
    )
    box: str | None = _option(None, "A face that no detector sees, by hand: x,y,w,h@seconds.")
    plan: str | None = _option(None, "Plan saved by 'scan', instead of looking at the film again.", owner=True)
    when_longer: WhenLonger = _option("cut", f"Speech longer than the film: {_words(WHEN_LONGER)}.")
    when_shorter: WhenShorter = _option("silence", f"Speech shorter than the film: {_words(WHEN_SHORTER)}.")
    seconds: float | None = _option(None, "How long a still picture lasts; else as long as the speech.")
    codec: Codec | None = _option(None, "Codec of the picture; else vp9 for .webm, h264 for the rest.")
    crf: int | None = _option(None, "Quality of the picture: lower is better and larger.")
    preset: str | None = _option(None, "Speed of the encoder, ultrafast … medium … veryslow.")
    report: str | None = _option(None, "Write what was done to this JSON file.", owner=True)
    preview: str | None = _option(
        None, "Write the frame just finished to this file, now and then, while at work (.jpg).", owner=True
    )
    provenance: bool = _option(
        True, "Let the film say that its lips were changed: a plain tag, and C2PA by a certificate.", owner=True
    )
    c2pa_cert: str | None = _option(
        None,
        "Certificate (PEM, its authorities after it) to sign a C2PA manifest with; else UNISYNC_C2PA_CERT.",
        owner=True,
    )
    c2pa_key: str | None = _option(None, "The certificate's private key (PEM); else UNISYNC_C2PA_KEY.", owner=True)
    device: Device = _option("auto", "Where the method runs.", owner=True)
    threads: int = _option(0, "Threads of the method; 0 is as many as there are cores.", owner=True)
    vram: float | None = _option(
        None,
        "Gigabytes of the device that a large model may take; else what is free there. What does not fit is swapped.",
        owner=True,
    )
    storage: Storage | None = _option(
        None,
        "How a large model's matrices lie in memory; fp8 is half as large, and rounded. Else as in their file.",
        owner=True,
    )
    attention: AttentionKernel | None = _option(
        None,
        "Kernel of a large model's self-attention, PyTorch's or the flash-attn package's; else PyTorch chooses.",
        owner=True,
    )
    step_cache: float = _option(
        0.0,
        "How far a large model's timestep embedding may have moved, relative to itself, while its blocks' last change is "
        "taken again instead of running them; 0: they are always run.",
        owner=True,
    )
    compile: bool = _option(
        False, "Compile a large model's blocks: minutes at the start, faster from then on.", owner=True
    )

    def check(self) -> None:
        if not self.face.strip():
            raise OptionError(f"face must be a name from 'scan', {', '.join(FACE_WORDS)} or x,y@seconds")
        if "@" in self.face:
            _place("face", self.face, "x,y@seconds", 2)
        if self.box is not None:
            _place("box", self.box, "x,y,w,h@seconds", 4)
            if self.face != "largest":
                raise OptionError("face and box both say which face: give only one of them")
            if self.plan is not None:
                raise OptionError("box and plan both say where the faces are: give only one of them")
        if not self.provenance and (self.c2pa_cert or self.c2pa_key):
            raise OptionError("no-provenance leaves out what a certificate is to sign: give only one of them")
        if self.steps is not None:
            _within("steps", self.steps, 0, 1000)
        _within("strength", self.strength, 0, 10)
        _within("detail", self.detail, 0, 2)
        _within("guidance", self.guidance, 0, 20)
        _within("text_guidance", self.text_guidance, 0, 20)
        self._check_backbone()
        if self.guidance is not None and self.guidance_mode == "dynamic":
            raise OptionError(
                "guidance is the scale of static guidance: dynamic guidance has omega_base and omega_peak"
            )
        _within("omega_base", self.omega_base, 0, 20)
        _within("omega_peak", self.omega_peak, 0.01, 20)
        _within("omega_gamma", self.omega_gamma, 0, 10)
        _within("omega_spread", self.omega_spread, 0.01, 10)
        _within("seed", self.seed, 0, 2**63 - 1)
        if self.start is not None:
            _within("start", self.start, 0.01, 1)
        _within("shift", self.shift, 0.1, 100)
        _within("tau_inj", self.tau_inj, 0, 1)
        _within("seconds", self.seconds, 0.04, 86_400)
        _within("crf", self.crf, 0, 63)
        _within("threads", self.threads, 0, 1024)
        _within("vram", self.vram, 1, 10_000)
        _within("step_cache", self.step_cache, 0, 10)

    def _check_backbone(self) -> None:
        if self.backbone is None:
            for name in BACKBONE_PARTS + BACKBONE_PLACE:
                if getattr(self, name) and not (self.weights is not None and name in WEIGHTS_PARTS):
                    raise OptionError(f"{name} goes with a public model: give backbone as well")
        elif self.weights is not None:
            raise OptionError("weights and backbone both say what paints: give only one of them")
        _within("canvas", self.canvas, 64, 2048)
        _within("length", self.length, 5, 1025)
        if self.length is not None and self.length % 4 != 1:
            raise OptionError(f"length must be 4n + 1, such as 77 or 81, not {self.length}")


@dataclass(frozen=True)
class TrainOptions(_Options):
    """What takes the place of what a recipe says."""

    dataset: str | None = _option(None, "Dataset made by 'prepare'.")
    work: str | None = _option(None, "Folder where stages and checkpoints lie; a run that was stopped goes on from it.")
    out: str | None = _option(None, "File to write.")
    weights: str | None = _option(None, "Weights to take parts from and to go on from; else the shipped ones.")
    go_on: bool = _option(False, "Begin with the weights instead of none.")
    steps: int | None = _option(None, "End after so many steps, instead of the recipe's end.")
    minutes: float | None = _option(None, "End after so many minutes, instead of the recipe's end.")

    def check(self) -> None:
        _within("steps", self.steps, 1, 10**9)
        _within("minutes", self.minutes, 0.001, 10**6)


@dataclass(frozen=True)
class PrepareOptions(_Options):
    """What is taken from films to train on. A bound of 0 keeps everything."""

    canvas: int = _option(128, "Side of the canvases, in pixels.")
    max_seconds: float = _option(10.0, "Longer stretches of a face are cut into even parts.")
    pictures: Pictures = _option("jpeg", "How canvases are kept: jpeg (quality 95, full colour), or lossless.")
    workers: int = _option(1, "Processes; 0 is as many as there are cores.")
    min_seconds: float = _option(1.0, "Shorter samples are dropped.")
    min_rate: float = _option(14.0, "Samples of fewer frames a second are dropped.")
    min_face: int = _option(64, "Faces smaller than this many pixels of the film are dropped.")
    min_seen: float = _option(0.9, "Share of the frames in which the face must be seen.")
    max_yaw: float = _option(45.0, "Faces turned further to the side are dropped, in degrees.")
    min_sharpness: float = _option(0.13, "Blurred faces are dropped: fine detail over contrast.")
    max_occlusion: float = _option(20.0, "Faces with something before the mouth at times: change of its colour.")
    min_speech: float = _option(0.2, "Share of the time in which somebody must be heard to speak.")
    min_lips: float = _option(0.05, "How much the lips must move while somebody speaks, 0 to 1.")
    max_rival: float = _option(0.8, "How much other lips in the picture may move meanwhile, 0 to 1.")
    min_sync: float = _option(0.08, "Confidence that lips and sound belong together.")
    max_alike: float = _option(0.9, "Of samples more alike than this in face and sound, one is kept.")
    held: float = _option(0.1, "Share of the time that is held out, no speaker being in both parts.")
    speakers: str | None = _option(None, "JSON lines with 'file' and 'speaker', where it is known who speaks.")
    seed: int = _option(0, "Another seed holds out other speakers.")

    def check(self) -> None:
        _within("canvas", self.canvas, 32, 1024)
        _within("max_seconds", self.max_seconds, 0.5, 600)
        _within("workers", self.workers, 0, 1024)
        _within("min_seconds", self.min_seconds, 0, self.max_seconds)
        _within("min_face", self.min_face, 0, 10_000)
        _within("max_yaw", self.max_yaw, 0, 90)
        for name in ("min_seen", "min_speech", "min_lips", "max_rival", "max_alike", "held"):
            _within(name, getattr(self, name), 0, 1)
        for name in ("min_rate", "min_sharpness", "max_occlusion", "min_sync"):
            _within(name, getattr(self, name), 0, 1000)


@dataclass(frozen=True)
class ServeOptions(_Options):
    """How films are dubbed for others over HTTP."""

    host: str = _option("127.0.0.1", "Address to listen at; any but this machine's own wants a token.")
    port: int = _option(8765, "Port; 0 takes a free one.")
    root: str = _option("unisync-server", "Folder in which uploads and jobs lie; queued jobs there go on.")
    token: str | None = _option(None, "What clients must know; else UNISYNC_TOKEN, which other users cannot see.")
    allow: str | None = _option(None, "Folders whose files may be named instead of uploaded, with commas.")
    max_upload: int = _option(2000, "Largest upload, in MB.")
    max_seconds: float = _option(600.0, "Longest film and speech.")
    max_pixels: int = _option(3840 * 2160, "Largest picture, width times height.")
    queue: int = _option(32, "Films and jobs that may wait.")
    workers: int = _option(1, "Films at work at once.")
    memory: float = _option(8.0, "GB that a worker may take; one that wants more fails alone.")
    minutes: float = _option(120.0, "A worker that takes longer is ended.")
    grace: float = _option(10.0, "Seconds that running jobs get to end when the server stops; then they are put back.")

    def check(self) -> None:
        _within("port", self.port, 0, 65_535)
        _within("max_upload", self.max_upload, 1, 10**6)
        _within("max_seconds", self.max_seconds, 0.1, 86_400)
        _within("max_pixels", self.max_pixels, 256, 10**9)
        _within("queue", self.queue, 1, 100_000)
        _within("workers", self.workers, 1, 1024)
        _within("memory", self.memory, 0.5, 10_000)
        _within("minutes", self.minutes, 0.01, 10_000)
        _within("grace", self.grace, 0, 3600)


def hints(options: type[_Options]) -> dict[str, Any]:
    """Return the options' types by name, in the order of their fields."""
    every = get_type_hints(options)
    return {item.name: every[item.name] for item in fields(options)}


def _place(name: str, text: str, form: str, count: int) -> None:
    """Check "x,y@seconds" or "x,y,w,h@seconds"; without "@seconds" it is second 0."""
    place, _, moment = text.partition("@")
    try:
        numbers = [float(part) for part in (*place.split(","), moment.strip() or "0")]
    except ValueError:
        numbers = []
    if len(numbers) != count + 1 or not all(0 <= number < 1e7 for number in numbers):
        raise OptionError(f"{name} {text!r} is not {form}, numbers from 0 on in pixels of the upright picture")


def _within(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise OptionError(f"{name} must be from {low:g} to {high:g}, not {value:g}")
