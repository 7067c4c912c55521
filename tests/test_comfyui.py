"""ComfyUI's nodes: loaded, checked and run as ComfyUI does it (see comfyui_stand_in.py), on films that are small and known."""

from __future__ import annotations

import io
import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unisync
from comfyui_stand_in import Comfy, InterruptProcessingException, VideoFromComponents, VideoFromFile, as_prompt, audio
from faces import frames as as_frames
from faces import lay
from tiny import tiny_weights
from unisync.media import EncodeOptions, drawn, probe, read_frames, write_film
from unisync.options import hints

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
NUM = 14


@pytest.fixture
def comfy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Comfy:
    made = Comfy(tmp_path / "temp")
    made.install(monkeypatch)
    made.load(ROOT / "comfyui")
    return made


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_weights(tmp_path_factory.mktemp("weights")))


@pytest.fixture(scope="module")
def pixels() -> Any:
    return np.stack([lay([(130 + i, 170, 1.2), (350, 180 - i, 1.0)]) for i in range(NUM)])


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, pixels: Any) -> str:
    path = tmp_path_factory.mktemp("film") / "two faces.mp4"
    write_film(as_frames(pixels), path, drawn("x", 480, 360, 25, NUM), None, EncodeOptions("h264", 16, "ultrafast"))
    return str(path)


def node(comfy: Comfy, name: str, **inputs: Any) -> Any:
    found = getattr(comfy.nodes[name](), comfy.nodes[name].FUNCTION)(**inputs)
    return found["result"] if isinstance(found, dict) else found


def test_every_option_is_a_widget_that_gives_its_default(comfy: Comfy) -> None:
    from comfyui.nodes import FILES
    from comfyui.widgets import chosen

    assert set(comfy.names) == set(comfy.nodes) and all(n.CATEGORY == "UniSync" for n in comfy.nodes.values())
    for name, options, without in (
        ("UniSyncDubVideo", unisync.DubOptions, {"plan", "report"}),
        ("UniSyncDubFrames", unisync.DubOptions, {"plan", "report"} | FILES),
        ("UniSyncFindFaces", unisync.ScanOptions, set()),
    ):
        widgets = comfy.nodes[name].INPUT_TYPES()["optional"]
        wanted = set(hints(options)) - without
        assert wanted <= set(widgets)
        assert all(widgets[option][1]["tooltip"] for option in wanted)
        assert chosen(options, {n: widgets[n][1]["default"] for n in wanted}) == options()
    values = {"steps": "4", "guidance": " 1.5", "carry": "no", "source_lips": "neutral", "face": "all", "crf": ""}
    assert chosen(unisync.DubOptions, values) == unisync.DubOptions(
        steps=4, guidance=1.5, carry=False, source_lips="neutral", face="all"
    )


def test_wrong_widgets_are_told_before_anything_runs(comfy: Comfy) -> None:
    def said(name: str, **inputs: Any) -> list[str]:
        required = dict.fromkeys(comfy.nodes[name].INPUT_TYPES()["required"])
        return comfy.check({"1": {"class_type": name, "inputs": {**required, **inputs}}})

    assert said("UniSyncDubVideo", strength=1.0, steps="") == []
    assert "strength must be from 0 to 10" in said("UniSyncDubVideo", strength=11.0)[0]
    assert "steps must be a number, or nothing, not 'many'" in said("UniSyncDubFrames", steps="many")[0]
    assert "container must be one of" in said("UniSyncDubVideo", container="avi")[0]
    assert "min_face" in said("UniSyncFindFaces", min_face=0)[0]


def test_frames_stay_as_they_are_outside_the_mask(comfy: Comfy, pixels: Any, weights: str) -> None:
    images = torch.tensor(pixels / 255, dtype=torch.float32)
    images = torch.cat([images, torch.rand(*images.shape[:3], 1)], -1)
    with torch.inference_mode():
        given = {"weights": weights, "steps": "2", "threads": 1}
        made, speech, about = node(
            comfy, "UniSyncDubFrames", images=images, fps=25.0, speech=audio(NUM / 25 + 1), **given
        )
    assert made.shape == images.shape and made.dtype == torch.float32
    assert float(made.min()) >= 0 and float(made.max()) <= 1
    changed = (made != images).any(-1)
    assert not changed[:, :, 240:].any() and 0.005 < changed.float().mean() < 0.1
    assert torch.equal(made[..., 3], images[..., 3])
    assert speech["waveform"].shape == (1, 2, round(NUM / 25 * 44100)) and speech["sample_rate"] == 44100
    facts = json.loads(about)
    assert facts["frames"] == NUM and "longer than the film" in facts["warnings"][0]
    assert [bar[-1] for bar in comfy.bars] == [(NUM, NUM), (NUM, NUM)]
    assert not comfy.temp.exists() or not list(comfy.temp.iterdir())


def test_a_video_is_dubbed_from_its_file(comfy: Comfy, film: str, weights: str) -> None:
    before = Path(film).read_bytes()
    options = {"weights": weights, "steps": "2", "threads": 1, "codec": "ffv1", "container": "mkv"}
    video, report = node(comfy, "UniSyncDubVideo", video=VideoFromFile(film), speech=audio(0.56), **options)
    out = Path(video.get_stream_source())
    assert list(comfy.temp.iterdir()) == [out] and out.suffix == ".mkv"
    assert Path(film).read_bytes() == before
    assert probe(out).seconds == probe(film).seconds and probe(out).has_sound
    for was, now in zip(read_frames(probe(film)), read_frames(probe(out)), strict=True):
        assert np.array_equal(was.pixels[:, 240:], now.pixels[:, 240:])
        assert not np.array_equal(was.pixels[:, :240], now.pixels[:, :240])
    assert json.loads(report)["faces"] == 1


@pytest.mark.parametrize("kind", ["trimmed", "bytes", "components"])
def test_a_video_without_a_file_of_its_own(comfy: Comfy, film: str, pixels: Any, tmp_path: Path, kind: str) -> None:
    num = NUM
    if kind == "trimmed":
        video, num = VideoFromFile(film, start_time=0.2, duration=0.2), 5
    elif kind == "bytes":
        video = VideoFromFile(io.BytesIO(Path(film).read_bytes()))
    else:
        video = VideoFromComponents(torch.tensor(pixels / 255), Fraction(25), tmp_path)
    made, report = node(comfy, "UniSyncDubVideo", video=video, speech=audio(0.56), method="echo")
    assert json.loads(report)["frames"] == num
    assert list(comfy.temp.iterdir()) == [Path(made.get_stream_source())]


def test_faces_are_shown_and_their_plan_is_used(comfy: Comfy, film: str) -> None:
    found = comfy.nodes["UniSyncFindFaces"]().find(video=VideoFromFile(film))
    faces, table, plan = found["result"]
    assert faces.shape[0] == 1 and faces.shape[3] == 3 and 0.05 < float(faces.mean()) < 0.95
    assert table.splitlines()[0].startswith("face1") and len(table.splitlines()) == 2
    shown = found["ui"]["images"][0]
    assert (comfy.temp / shown["filename"]).is_file() and shown["type"] == "temp"
    comfy.bars.clear()
    given = {"video": VideoFromFile(film), "speech": audio(0.56), "plan": plan, "method": "echo", "face": "face2"}
    _, report = node(comfy, "UniSyncDubVideo", **given)
    assert [track["name"] for track in json.loads(report)["tracks"]] == ["face2"]
    assert len(comfy.bars) == 1, "the film was looked at again"


@pytest.mark.parametrize("at", [1, 4])
def test_an_interruption_leaves_nothing(comfy: Comfy, film: str, pixels: Any, at: int) -> None:
    comfy.interrupt_at = at
    with pytest.raises(InterruptProcessingException):
        node(comfy, "UniSyncDubVideo", video=VideoFromFile(film), speech=audio(0.56), method="echo")
    assert list(comfy.temp.iterdir()) == []
    comfy.interrupt_at, images = comfy._asked + at, torch.tensor(pixels / 255)
    with pytest.raises(InterruptProcessingException):
        node(comfy, "UniSyncDubFrames", images=images, fps=25.0, speech=audio(0.56), method="echo")


def test_speech_that_is_none_is_told(comfy: Comfy, film: str) -> None:
    for speech, words in (
        (None, "there is no speech"),
        ({"waveform": torch.zeros(2, 1, 9000), "sample_rate": 16000}, r"not \(2, 1, 9000\)"),
    ):
        with pytest.raises(unisync.OptionError, match=words):
            node(comfy, "UniSyncDubVideo", video=VideoFromFile(film), speech=speech)
    assert list(comfy.temp.iterdir()) == []


def test_the_example_workflow_is_current_and_runs(comfy: Comfy, film: str) -> None:
    from make_comfyui_workflow import PAGE, page

    assert PAGE.read_text("utf-8") == page(), "run: make docs"
    saved: list[Any] = []

    def theirs(required: dict[str, Any], returns: tuple[str, ...], work: Any) -> type:
        kinds = classmethod(lambda cls: {"required": {name: (kind, {}) for name, kind in required.items()}})
        return type("Theirs", (), {"INPUT_TYPES": kinds, "RETURN_TYPES": returns, "FUNCTION": "work", "work": work})

    comfy.nodes |= {
        "LoadVideo": theirs({"file": ["film.mp4"]}, ("VIDEO",), lambda self, file: (VideoFromFile(film),)),
        "LoadAudio": theirs({"audio": ["speech.wav"]}, ("AUDIO",), lambda self, audio: (sound,)),
        "SaveVideo": theirs({"video": "VIDEO"}, (), lambda self, video: saved.append(video) or ()),
        "PreviewAny": theirs({"source": "*"}, (), lambda self, source: saved.append(source) or ()),
    }
    sound = audio(0.56)
    prompt = as_prompt(json.loads(PAGE.read_text("utf-8")), comfy.nodes)
    prompt["4"]["inputs"]["method"] = "echo"
    assert comfy.check(prompt) == []
    comfy.run(prompt)
    assert probe(saved[0].get_stream_source()).has_sound and json.loads(saved[1])["frames"] == NUM
