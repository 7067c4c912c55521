"""The nodes: a film on disk, frames in memory, and who is in a film.

What is written goes into ComfyUI's own folder for temporary files, under names of our own; nothing else is touched, and
ComfyUI empties that folder itself. ComfyUI's modules are imported where they are used: they exist only inside it.
"""

from __future__ import annotations

import json
import logging
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import soundfile
import torch

import unisync
from unisync.api import rows

from .widgets import Widget, chosen, widgets

log = logging.getLogger(__name__)

Inputs = dict[str, dict[str, Widget]]
OURS = frozenset({"plan", "report"})
"""Options that the nodes set themselves."""
FILES = frozenset({"codec", "crf", "preset", "provenance", "c2pa_cert", "c2pa_key"})
"""Options of what is written into a file."""
CONTAINERS = ["mp4", "mov", "mkv", "webm"]


class DubVideo:
    """Dubs a film frame by frame from its file into a new one, however long it is."""

    CATEGORY = "UniSync"
    DESCRIPTION = "The same video, its lips speaking the speech. It is read and written frame by frame."
    RETURN_TYPES = ("VIDEO", "STRING")
    RETURN_NAMES = ("video", "report")
    FUNCTION = "dub"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802 - ComfyUI's name
        plan: Widget = (
            "UNISYNC_PLAN",
            {"tooltip": "From 'find faces' on the same video, so that it is not looked at again."},
        )
        container: Widget = (CONTAINERS, {"default": "mp4", "tooltip": "The kind of file."})
        return {
            "required": {"video": ("VIDEO", {}), "speech": ("AUDIO", {})},
            "optional": {"plan": plan, "container": container, **widgets(unisync.DubOptions, OURS)},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, container: str = "mp4", **values: Any) -> bool | str:  # noqa: N802
        if container not in (None, *CONTAINERS):
            return f"container must be one of {', '.join(CONTAINERS)}, not {container!r}"
        return _refusal(unisync.DubOptions, values)

    def dub(self, video: Any, speech: Any, plan: str | None = None, container: str = "mp4", **values: Any) -> Any:
        from comfy_api.latest import InputImpl

        options = chosen(unisync.DubOptions, values, plan=plan)
        out = _temporary(f".{container}")
        with _file_of(video) as film, tempfile.TemporaryDirectory(prefix="unisync-", dir=out.parent) as folder:
            sound = Path(folder) / "speech.wav"
            soundfile.write(sound, *_samples(speech), subtype="FLOAT")
            report = unisync.dub(film, sound, out, options=options, on_progress=_bar())
        for warning in report.warnings:
            log.warning("%s", warning)
        return InputImpl.VideoFromFile(str(out)), report.to_json()


class DubFrames:
    """Dubs frames that are in memory; where no mask lies they stay as they are to the bit."""

    CATEGORY = "UniSync"
    DESCRIPTION = "The same frames, their lips speaking the speech; all else stays as it is to the bit."
    RETURN_TYPES = ("IMAGE", "AUDIO", "STRING")
    RETURN_NAMES = ("images", "speech", "report")
    FUNCTION = "dub"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        about = {"default": 25.0, "min": 0.01, "max": 1000.0, "step": 0.001, "tooltip": "Frames a second."}
        return {
            "required": {"images": ("IMAGE", {}), "fps": ("FLOAT", about), "speech": ("AUDIO", {})},
            "optional": {**widgets(unisync.DubOptions, OURS | FILES)},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, fps: float | None = None, **values: Any) -> bool | str:  # noqa: N802
        return _refusal(unisync.DubOptions, values)

    def dub(self, images: torch.Tensor, fps: float, speech: Any, **values: Any) -> Any:
        options = chosen(unisync.DubOptions, values)
        said = _samples(speech)
        made = unisync.dub_frames(images[..., :3], said, fps=fps, options=options, on_progress=_bar())
        frames = made.array()
        if images.shape[-1] == 4:
            order = list(made.order)
            frames = torch.cat([frames, images[order][..., 3:]], -1)
        for warning in made.warnings:
            log.warning("%s", warning)
        samples, rate = made.speech() or said
        about = {"frames": len(made), "faces": [track.name for track in made.chosen], "warnings": made.warnings}
        return frames, {"waveform": torch.from_numpy(samples.T.copy())[None], "sample_rate": rate}, json.dumps(about)


class FindFaces:
    """Looks at a film and shows who is in it."""

    CATEGORY = "UniSync"
    DESCRIPTION = "Who is in a video: a picture with names, for the option 'face', and a plan for 'dub video'."
    RETURN_TYPES = ("IMAGE", "STRING", "UNISYNC_PLAN")
    RETURN_NAMES = ("faces", "table", "plan")
    FUNCTION = "find"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:  # noqa: N802
        return {"required": {"video": ("VIDEO", {})}, "optional": {**widgets(unisync.ScanOptions)}}

    @classmethod
    def VALIDATE_INPUTS(cls, **values: Any) -> bool | str:  # noqa: N802
        return _refusal(unisync.ScanOptions, values)

    def find(self, video: Any, **values: Any) -> Any:
        options = chosen(unisync.ScanOptions, values)
        sheet, saved = _temporary(".png"), _temporary(".plan")
        with _file_of(video) as film:
            plan = unisync.scan(film, options=options, on_progress=_bar())
            unisync.contact_sheet(plan, sheet)
        unisync.save_plan(plan, saved)
        pixels = cv2.imread(str(sheet), cv2.IMREAD_COLOR_RGB)
        assert pixels is not None
        table = "\n".join("  ".join(row.values()) for row in rows(plan)) or "no face was found"
        shown = {"filename": sheet.name, "subfolder": "", "type": "temp"}
        faces = torch.from_numpy(pixels.astype(np.float32) / 255)[None]
        return {"ui": {"images": [shown], "text": [table]}, "result": (faces, table, str(saved))}


def _refusal(options: type[Any], values: dict[str, Any]) -> bool | str:
    """Return True, or what is wrong with the widgets: ComfyUI says so before anything runs."""
    known = {name: value for name, value in values.items() if name in widgets(options)}
    try:
        chosen(options, known)
    except unisync.OptionError as error:
        return str(error)
    return True


def _bar() -> unisync.OnProgress:
    """Return what fills ComfyUI's bar, once for looking and once for painting, and stops when ComfyUI is told to."""
    from comfy.model_management import throw_exception_if_processing_interrupted
    from comfy.utils import ProgressBar

    bars: dict[str, Any] = {}

    def show(progress: unisync.Progress) -> None:
        throw_exception_if_processing_interrupted()
        if progress.stage not in bars:
            bars[progress.stage] = ProgressBar(progress.total)
        bars[progress.stage].update_absolute(progress.done, progress.total)

    return show


def _temporary(suffix: str) -> Path:
    import folder_paths

    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"unisync-{uuid.uuid4().hex}{suffix}"


@contextmanager
def _file_of(video: Any) -> Iterator[Path]:
    """Lend the video as a file: its own where it has one and is not trimmed, else one that ComfyUI writes for us."""
    source = video.get_stream_source()
    trimmed = any(video.get_active_trim_window()) if hasattr(video, "get_active_trim_window") else False
    if isinstance(source, str) and not trimmed:
        yield Path(source)
        return
    with tempfile.TemporaryDirectory(prefix="unisync-", dir=_temporary("").parent) as folder:
        path = Path(folder) / "video.mp4"
        if isinstance(source, str) or trimmed:
            video.save_to(str(path))
        else:
            path.write_bytes(source.getvalue())
        yield path


def _samples(speech: Any) -> tuple[Any, int]:
    """Return ComfyUI's AUDIO as samples (N, channels) and their rate. Raises OptionError."""
    if speech is None:
        raise unisync.OptionError("there is no speech: the video or file that it comes from has no sound")
    waveform = speech["waveform"]
    if waveform.ndim != 3 or len(waveform) != 1:
        raise unisync.OptionError(f"the speech must be one sound, (1, channels, samples), not {tuple(waveform.shape)}")
    return waveform[0].T.detach().cpu().float().numpy(), int(speech["sample_rate"])
