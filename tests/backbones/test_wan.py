"""Public models that paint: every family dubs a film end to end in small, and what must hold whatever the weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from faces import lay
from opening import SIZE, face
from unisync import api
from unisync.backbones.base import Given, Guide, Part, chosen_backbone
from unisync.backbones.wan import backbone as wan
from unisync.backbones.wan import together
from unisync.backbones.wan.backbone import Wan
from unisync.backbones.wan.habits import USAGE, power, staircase
from unisync.backbones.wan.parts import gather
from unisync.cli import app
from unisync.dubbing import dub_frames
from unisync.errors import OptionError, WeightsError
from unisync.media import EncodeOptions, drawn, probe, read_frames, read_sound, write_film
from unisync.methods.unisync import Unisync
from unisync.nets.storage import Fp8Linear
from unisync.nets.transformer import Condition
from unisync.nets.wan.families import FAMILIES
from unisync.nets.wan.memory import Work
from unisync.nets.wan.names import to_diffusers
from unisync.options import DubOptions
from unisync.scanning import load_plan, save_plan, scan_film
from unisync.types import ArrayPicture, Frame, Pixels, Reference, Sound, Track, Window
from wan_folders import CANVAS, WHISPER, small_families, write_model, write_parts

NUM, LENGTH = 11, 9
HEARING = [key for key, family in FAMILIES.items() if family.audio]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, str]]]:
    """The flags of every family in small."""
    with small_families():
        parts = write_parts(tmp_path_factory.mktemp("models"))
        yield {key: write_model(key, parts) for key in FAMILIES}


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, voice(1).samples[: int(NUM / 25 * 16000)], 16000)
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face in a film of 23.976 frames a second, and its plan beside it."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    rate = Fraction(24000, 1001)
    shown = (Frame(i, i / rate, ArrayPicture(lay([(160 + i, 130, 1.2)], (320, 240)))) for i in range(NUM))
    write_film(shown, path, drawn("x", 320, 240, rate, NUM), None, EncodeOptions("h264", 16, "ultrafast"))
    save_plan(scan_film(probe(path)), path.with_suffix(".plan"))
    return path


def options(flags: dict[str, str], **changes: object) -> DubOptions:
    given = {"canvas": CANVAS, "length": LENGTH, "steps": 2, "threads": 1, "device": "cpu"}
    return DubOptions.from_dict({**flags, **given, **changes})


@cache
def _made(*flags: tuple[str, str]) -> Wan:
    return Wan(options(dict(flags)))


def made_once(models: dict[str, dict[str, str]], key: str) -> Wan:
    """Return a family's backbone, put together once for all tests that change nothing in it."""
    return _made(*models[key].items())


def voice(seconds: float, seed: int = 0) -> Sound:
    """Return a noise; whether the detector takes it for voice matters only where that is said."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 0.2, round(16000 * seconds)).astype(np.float32)
    return Sound(samples, 16000)


@pytest.fixture
def everything_is_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "unisync.backbones.speech_encoders.voice_activity",
        lambda sound: np.ones(int(np.ceil(sound.seconds * 100)) + 1, np.float32),
    )


def window(sound: Sound, num: int = LENGTH, start: int = 0, rate: float = 25) -> Window:
    rng = np.random.default_rng(0)
    small = rng.integers(60, 200, (num, 8, 8, 3)).astype(np.uint8)
    pixels = np.stack([cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for image in small])
    landmarks = np.stack([face(0.05 * (i % 3)) for i in range(num)])
    seconds = (start + np.arange(num)) / rate
    return Window(start, pixels, seconds, landmarks, sound, Reference(pixels[0], landmarks[0]))


def track(num: int = LENGTH) -> Track:
    marks, ones = np.stack([face()] * num), np.ones(num, np.float32)
    return Track("face1", 0, num, marks, np.zeros((num, 4), np.float32), ones, ones)


def render(backbone: Wan, given: list[Window], **changes: object) -> list[Pixels]:
    chosen = Unisync(DubOptions.from_dict({"steps": 2, "detail": 0, **changes}), backbone)
    return [made for _, made in chosen.begin(track()).render(given)]


@pytest.mark.parametrize(
    ("key", "method"), [*((key, "unisync") for key in FAMILIES), ("multitalk", "omnisync"), ("x-dub-5b", "omnisync")]
)
def test_every_family_dubs_a_film(
    models: dict[str, dict[str, str]], key: str, method: str, film: Path, speech: Path, tmp_path: Path
) -> None:
    given = options(
        models[key], method=method, steps=1, plan=str(film.with_suffix(".plan")), codec="ffv1", composite="gaussian"
    )
    report = api.dub(film, speech, tmp_path / "out.mkv", options=given)
    family = FAMILIES[key]
    assert report.faces == 1 and report.facts["backbone"] == family.title and report.facts["licence"] == family.licence
    assert len(report.facts["parts"]) >= 3
    assert any("hears no speech" in each for each in report.warnings) is (family.audio is None)
    source, out = probe(film), probe(tmp_path / "out.mkv")
    assert out.seconds == source.seconds
    pairs = list(zip(read_frames(source), read_frames(out), strict=True))
    changed = np.stack([(was.pixels != now.pixels).any(-1) for was, now in pairs])
    assert all(0.002 < each.mean() < 0.3 for each in changed)
    rows, columns = np.flatnonzero(changed.any((0, 2))), np.flatnonzero(changed.any((0, 1)))
    assert rows[0] > 100 and columns[0] > 80 and columns[-1] < 260  # the mouth and its surroundings


def test_outside_the_masks_every_bit_is_the_films(models: dict[str, dict[str, str]], film: Path, speech: Path) -> None:
    method, source = Unisync(options(models["fantasytalking"])), probe(film)
    plan = load_plan(film.with_suffix(".plan"))
    painted = dub_frames(source, plan, {each.name: read_sound(speech) for each in plan.tracks}, method)
    for was, now in zip(read_frames(source), painted, strict=True):
        mask = np.zeros((240, 320), bool)
        for edit in now.edits:
            rows, columns = edit.mask.shape
            mask[edit.y : edit.y + rows, edit.x : edit.x + columns] |= edit.mask > 0
        assert 0.005 < mask.mean() < 0.3 and np.array_equal(was.pixels[~mask], now.pixels[~mask])
        assert np.abs(was.pixels[mask].astype(int) - now.pixels[mask]).mean() > 1


@pytest.mark.usefixtures("everything_is_voice")
@pytest.mark.parametrize("key", HEARING)
def test_other_words_give_another_picture_where_they_are_spoken(models: dict[str, dict[str, str]], key: str) -> None:
    backbone = made_once(models, key)
    one = voice(3)
    late = Sound(np.concatenate([one.samples[: 2 * 16000], voice(1, 1).samples]), 16000)
    here = Sound(np.concatenate([voice(1, 1).samples, one.samples[16000:]]), 16000)
    given = [window(sound) for sound in (one, late, here)]
    heard = [backbone.listen(each.sound) for each in given]
    assert all(each is not None and torch.isfinite(each.rows[0]).all() for each in heard)
    plain, far, near = (
        backbone.condition(Given(each, torch.zeros(1)), speech).audio for each, speech in zip(given, heard, strict=True)
    )
    # Their transformers hear all of a piece, the farther off the fainter; what is spoken here must weigh most.
    assert plain is not None and far is not None and near is not None
    assert float((plain - near).norm()) > 2 * float((plain - far).norm())
    if key in ("wan2.2-s2v-14b", "multitalk"):
        assert not np.array_equal(*(render(backbone, [each], steps=1)[0] for each in (given[0], given[2])))


def test_what_is_painted_back_is_what_the_autoencoder_keeps(
    models: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, given = made_once(models, "wan2.2-s2v-14b"), window(voice(1))
    monkeypatch.setattr(backbone, "velocity", lambda z, sigma, condition: (z - condition.source) / sigma)
    back = backbone.decode(backbone.encode(given.pixels))
    assert back.shape == given.pixels.shape
    for more in ({}, {"start": 0.01, "steps": 1}, {"solver": "euler", "shift": 1.0, "tau_inj": 0.0}):
        (made,) = render(backbone, [given], source_lips="as_is", **more)
        assert np.abs(made.astype(int) - back).max() <= 1
    assert np.array_equal(render(backbone, [given], steps=0, source_lips="as_is")[0], given.pixels)


def test_windows_share_noise_and_go_on_from_one_another(
    models: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, sound = made_once(models, "multitalk"), voice(1)
    assert (backbone.geometry.length, backbone.geometry.overlap) == (9, 5)
    first, second = window(sound), window(sound, start=4)
    performer = Unisync(DubOptions(steps=2), backbone).begin(track())
    like = torch.zeros(1, 16, 3, 8, 8)
    side = backbone.geometry.canvas
    early, late = (performer.noise(at, like, Part(0, side, 0, side)) for at in (0, 4))  # type: ignore[attr-defined]
    assert torch.equal(early[:, :, 1:], late[:, :, :2])
    ends, before = list[torch.Tensor](), list[Pixels | None]()
    decode, condition = backbone.decode, backbone.condition

    def noted(given: Given, speech: object) -> object:
        before.append(given.before)
        return condition(given, speech)  # type: ignore[arg-type]

    monkeypatch.setattr(backbone, "decode", lambda z: decode(ends.append(z) or z))
    monkeypatch.setattr(backbone, "condition", noted)
    one, _ = render(backbone, [first, second])
    assert torch.allclose(ends[1][:, :, :2], backbone.encode(one[4:]), atol=1e-4)
    assert before[0] is None and before[1] is not None and np.array_equal(before[1], one[4:])


def test_time_is_the_films_own(models: dict[str, dict[str, str]]) -> None:
    backbone, rate = made_once(models, "x-dub-5b"), 24000 / 1001
    sound = voice(2)
    heard = backbone.listen(sound)
    given = window(sound, rate=rate)
    told = backbone.condition(Given(given, torch.zeros(1)), heard)
    assert torch.allclose(told.seconds, torch.tensor([[0, 4 / rate, 8 / rate]]))
    assert heard is not None and told.audio is not None and told.audio.shape == (1, 3, 8, WHISPER + 768)
    moment = torch.tensor([5 / rate])  # the first film frame of the third latent frame
    assert torch.allclose(told.audio[0, 2, 0], heard.at(moment)[0, 0], atol=1e-5)


def test_short_tracks_are_not_filled_up_to_whole_windows(models: dict[str, dict[str, str]]) -> None:
    spec = Unisync(options(models["multitalk"], length=81)).spec
    assert [spec.filled(num) for num in (1, 5, 6, 40)] == [5, 5, 9, 41]
    assert (spec.canvas, spec.length, spec.overlap) == (CANVAS, 81, 9)


def test_guidance_is_told_link_by_link(models: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, given = made_once(models, "multitalk"), window(voice(1))
    calls: list[tuple[bool, bool]] = []
    paint = backbone.velocity

    def noted(z: torch.Tensor, sigma: float, condition: wan.Condition) -> torch.Tensor:
        assert condition.text is not None
        calls.append((condition.keep_audio is None, bool(torch.equal(condition.text, backbone.text.prompt))))
        return paint(z, sigma, condition)

    monkeypatch.setattr(backbone, "velocity", noted)
    z = torch.randn(1, 16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    guided, whole = [], Part(0, backbone.geometry.canvas, 0, backbone.geometry.canvas)
    for scales in ({}, {"guidance": 4.0, "text_guidance": 1.0}, {"guidance": 1.0, "text_guidance": 1.0}):
        performer = Unisync(DubOptions.from_dict(scales), backbone).begin(track())
        guided.append(performer.velocity(given, z, None, whole)(z, 0.7))  # type: ignore[attr-defined]
    assert calls == [(False, False), (True, False), (True, True), (False, True), (True, True), (True, True)]
    condition = backbone.condition(Given(given, z), backbone.listen(given.sound))
    none, heard, read, both = backbone.velocities(
        z, 0.7, condition, [frozenset(), frozenset({"audio"}), frozenset({"text"}), frozenset({"audio", "text"})]
    )
    assert torch.allclose(guided[0], none + 4 * (heard - none) + 5 * (both - heard), atol=1e-4)
    assert torch.allclose(guided[1], read + 4 * (both - read), atol=1e-4) and torch.equal(guided[2], both)


def test_xdubs_scales_fall_with_the_noise() -> None:
    reference, audio = USAGE["x-dub-5b"].guides
    assert (reference.scale, audio.scale) == (2.5, 10.0)
    assert [staircase(sigma) for sigma in (1.0, 0.86, 0.6, 0.3)] == pytest.approx([1, 1, 0.6, 0.3])
    assert staircase(0.8) == pytest.approx(0.8) and power(0.25) == 0.125


def test_every_family_is_used_somehow() -> None:
    assert USAGE.keys() == FAMILIES.keys()
    for key, usage in USAGE.items():
        assert usage.length % 4 == 1 and usage.overlap % 4 == 1 and usage.canvas % 32 == 0
        told = {each for guide in usage.guides for each in guide.tells}
        assert ("audio" in told) == (FAMILIES[key].audio is not None)
        assert isinstance(usage.guides[0], Guide)


def test_text_can_be_left_out_if_that_is_said(
    models: dict[str, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    backbone = Wan(options(models["wan2.2-s2v-14b"], text="zero"))
    assert [guide.tells for guide in backbone.guides] == [{"audio"}]
    assert "no text, as --text zero asks" in caplog.text
    assert Wan(options(models["wan2.1-t2v-14b"], text="zero")).guides == ()
    with pytest.raises(OptionError, match=r"reads text: give --text FILE.*--text zero"):
        Wan(replace(options(models["multitalk"]), text=None))


def test_a_lora_changes_what_is_painted(models: dict[str, dict[str, str]], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    draw = torch.Generator().manual_seed(3)
    low = {"lora_A": (4, 384), "lora_B": (384, 4)}
    lora = {f"diffusion_model.blocks.0.ffn.2.{part}.weight": torch.randn(4, 64, generator=draw) for part in ("lora_A",)}
    lora["diffusion_model.blocks.0.ffn.2.lora_B.weight"] = torch.randn(low["lora_B"], generator=draw)
    save_file(lora, tmp_path / "style.safetensors")
    flags, weight = models["x-dub-5b"], "blocks.0.ffn.2.weight"
    plain, none, half = (
        Wan(options(flags, **({} if scale is None else {"lora": f"{tmp_path / 'style.safetensors'}:{scale}"})))
        for scale in (None, 0, 0.5)
    )
    states = [each.transformer.state_dict()[weight] for each in (plain, none, half)]
    delta = lora["diffusion_model.blocks.0.ffn.2.lora_B.weight"] @ lora["diffusion_model.blocks.0.ffn.2.lora_A.weight"]
    assert torch.equal(states[0], states[1])
    assert torch.allclose(states[2].float() - states[0].float(), 0.5 * delta, atol=0.05)


def test_a_backbone_without_lips_says_what_it_cannot(models: dict[str, dict[str, str]]) -> None:
    backbone = made_once(models, "fantasytalking")
    manner = Unisync(DubOptions(), backbone).manner
    assert manner.source_lips == "neutral" and manner.carry and manner.tau_inj == 0.8
    assert not Unisync(DubOptions(carry=False), backbone).manner.carry
    for wrong, told in (
        ({"source_lips": "nearest"}, "only the embedded model says which lips"),
        ({"strength": 2.0}, "give --guidance instead"),
        ({"pose": True}, "no place for one"),
    ):
        with pytest.raises(OptionError, match=told):
            Unisync(DubOptions.from_dict(wrong), backbone)
    for key, wrong, told in (
        ("wan2.1-t2v-1.3b", {"guidance": 2.0}, "which this backbone does not hear"),
        ("wan2.2-s2v-14b", {"text_guidance": 2.0}, "give --guidance alone"),
    ):
        with pytest.raises(OptionError, match=told):
            Unisync(DubOptions.from_dict(wrong), made_once(models, key))
    assert Unisync(DubOptions(pose=True), made_once(models, "wan2.2-s2v-14b")).pose


def test_what_does_not_go_together_is_told_before_any_film(models: dict[str, dict[str, str]], tmp_path: Path) -> None:
    fantasy, xdub = models["fantasytalking"], models["x-dub-5b"]
    vae = str(Path(fantasy["backbone"]).parent / "Wan2.1_VAE.safetensors")
    cases = [
        ({**fantasy, "vae": str(Path(xdub["backbone"]).parent / "vae")}, "48 channels does not go with Wan2.1 I2V"),
        ({**fantasy, "adapter": models["talkverse-5b"]["adapter"]}, "is for Wan2.2 TI2V 5B and does not go with"),
        ({**fantasy, "backbone": fantasy["adapter"]}, "no transformer by itself"),
        ({**fantasy, "audio_encoder": models["wan2.2-s2v-14b"]["audio_encoder"]}, "hears with wav2vec2-base-960h"),
        ({**xdub, "audio_encoder": fantasy["audio_encoder"]}, "hears with whisper-large-v2: give --audio-encoder"),
        ({**models["wan2.1-t2v-14b"], "audio_encoder": fantasy["audio_encoder"]}, "hears no speech; leave it out"),
        ({**xdub, "text": vae}, "these are not UniSync weights"),
        ({**xdub, "text": str(tmp_path / "none")}, "no such file of encoded text"),
        ({**xdub, "audio_encoder": str(tmp_path)}, "no config.json in it"),
        ({**xdub, "image_encoder": str(tmp_path)}, "sees with none"),
        ({**xdub, "canvas": 80}, "a multiple of 32 for X-Dub 5B, such as 64"),
    ]
    for flags, told in cases:
        given = {"canvas": CANVAS, "length": LENGTH, **flags}
        with pytest.raises((OptionError, WeightsError), match=told):
            chosen_backbone(DubOptions.from_dict(given))
    arguments = ["dub", "no film", "no speech", "-o", str(tmp_path / "out.mp4")]
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in cases[0][0].items()]
    done = CliRunner().invoke(app, [*arguments, *flags])
    assert done.exit_code == 2 and "48 channels does not go with" in done.output and not list(tmp_path.iterdir())


def test_parts_are_found_in_a_pipelines_folder(models: dict[str, dict[str, str]], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    flags = models["wan2.1-i2v-14b"]
    place = Path(flags["backbone"]).parent
    (tmp_path / "vae").symlink_to(place.parent / "wan22" / "vae")
    (tmp_path / "image_encoder").symlink_to(place / "image_encoder")
    (tmp_path / "transformer").mkdir()
    named = {to_diffusers(name): value for name, value in load_file(flags["backbone"]).items()}
    save_file(named, tmp_path / "transformer" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(WeightsError, match=r"48 channels does not go with Wan2\.1 I2V"):  # so it was found
        gather(DubOptions.from_dict({**flags, "backbone": str(tmp_path)}))
    vae = {"vae": str(place / "Wan2.1_VAE.safetensors")}
    parts = gather(DubOptions.from_dict({**flags, **vae, "backbone": str(tmp_path)}))
    assert parts.files.layout == "diffusers" and parts.image_encoder == tmp_path / "image_encoder"
    with pytest.raises(OptionError, match=r"needs its autoencoder.*give --vae"):
        gather(DubOptions.from_dict({**flags, "backbone": str(tmp_path / "transformer")}))


def test_options_of_public_models_need_one() -> None:
    with pytest.raises(OptionError, match="canvas goes with a public model, not with the embedded one"):
        chosen_backbone(DubOptions(backbone="mini", canvas=256))
    for wrong, told in (
        ({"vae": "x"}, "vae goes with a public model"),
        ({"backbone": "x", "weights": "y"}, "give only one of them"),
        ({"backbone": "x", "length": 80}, "4n \\+ 1"),
    ):
        with pytest.raises(OptionError, match=told):
            DubOptions.from_dict(wrong)


def test_what_is_used_is_printed(models: dict[str, dict[str, str]], film: Path, speech: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    arguments = ["dub", str(film), str(speech), "-o", str(tmp_path / "out.mkv"), "--report", str(report)]
    flags = {**models["talkverse-5b"], "canvas": CANVAS, "length": LENGTH, "steps": 1, "text": "zero"}
    flags["plan"] = film.with_suffix(".plan")
    done = CliRunner().invoke(app, [*arguments, *(f"--{n.replace('_', '-')}={v}" for n, v in flags.items())])
    assert done.exit_code == 0, done.output
    assert "TalkVerse 5B" in done.output and "licence Snap Inc. Non-Commercial License" in done.output
    assert "no text: zeros in its place" in done.output and "an autoencoder of 48 channels" in done.output
    assert json.loads(report.read_text())["facts"]["backbone"] == "TalkVerse 5B"


def test_two_processes_dub_what_one_does(
    models: dict[str, dict[str, str]], film: Path, speech: Path, tmp_path: Path
) -> None:
    given = options(models["multitalk"], plan=str(film.with_suffix(".plan")), codec="ffv1", steps=2)
    api.dub(film, speech, tmp_path / "alone.mkv", options=given)
    (tmp_path / "together").mkdir()
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    launch += [str(Path(__file__).parent / "dubbing_together.py"), "dub", str(film), str(speech)]
    launch += ["-o", str(tmp_path / "together" / "out.mkv")]
    said = {name: value for name, value in given.to_dict().items() if value != getattr(DubOptions(), name)}
    launch += [f"--{name.replace('_', '-')}={value}" for name, value in said.items()]
    done = subprocess.run(
        launch, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("MultiTalk") == 1 and [each.name for each in (tmp_path / "together").iterdir()] == [
        "out.mkv"
    ]
    one, two = (
        [frame.pixels.astype(int) for frame in read_frames(probe(tmp_path / name))]
        for name in ("alone.mkv", "together/out.mkv")
    )
    # A rounding's change is one level of a pixel here and there, which its colour makes up to four in RGB.
    differences = np.stack([np.abs(a - b) for a, b in zip(one, two, strict=True)])
    assert differences.max() <= 4 and differences.mean() < 1e-3
    # Two windows of two steps, each told nothing, the speech, and the text as well.
    assert {f"process {rank}: 12 forwards" for rank in (0, 1)} <= set(done.stderr.splitlines())
    was = [frame.pixels for frame in read_frames(probe(film))]
    assert max(np.abs(a - b).max() for a, b in zip(one, was, strict=True)) > 20


def test_what_several_processes_cannot_share_is_refused(
    models: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together.dist, "get_world_size", lambda: 2)
    with pytest.raises(OptionError, match="3 heads and 4 tokens a frame cannot be shared out over 2"):
        together.begin(Work("x-dub-5b", CANVAS), DubOptions())
    with pytest.raises(OptionError, match="compile: "):
        together.begin(Work("multitalk", CANVAS), options(models["multitalk"], compile=True))


def test_a_model_lies_as_it_is_told(models: dict[str, dict[str, str]]) -> None:
    flags = models["wan2.1-t2v-1.3b"]
    whole = Wan(DubOptions.from_dict({**flags, "length": LENGTH}))
    limit = whole.plan.peak / 1e9
    told = {"attention": "flash", "step_cache": 0.1, "storage": "fp8"}
    small = Wan(DubOptions.from_dict({**flags, "length": LENGTH, **told}))
    assert any(isinstance(module, Fp8Linear) for module in small.transformer.blocks.modules())
    assert small.plan.peak / 1e9 < limit and len(small.transformer.passages) == 1
    assert all(block.self_attn.attend.__module__ == "unisync.nets.kernels" for block in small.transformer.blocks)
    assert whole.facts["memory"][0].endswith("weights in bf16, all 2 blocks stay")


@pytest.mark.parametrize("key", FAMILIES)
def test_in_bf16_everything_is_kept_in_bf16_and_is_near_float32(models: dict[str, dict[str, str]], key: str) -> None:
    backbone = Wan(options(models[key], steps=1))
    given, sound = window(voice(1)), voice(1)
    z = torch.randn(1, backbone.geometry.channels, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    z = z[..., : CANVAS // backbone.geometry.spatial_stride, : CANVAS // backbone.geometry.spatial_stride]
    given = replace(given, pixels=given.pixels[:, :CANVAS, :CANVAS], reference=None)
    condition = backbone.condition(Given(given, z, pose=z), backbone.listen(sound))
    backbone.transformer.float()
    whole = backbone.velocity(z, 0.6, condition)
    backbone.transformer.bfloat16()
    kept = set[torch.dtype]()
    for module in backbone.transformer.blocks.modules():
        module.register_forward_hook(lambda _, args, out: kept.add(out.dtype))
    half = backbone.velocity(z, 0.6, condition)
    assert kept == {torch.bfloat16} and half.dtype == torch.float32
    assert 0 < float((half - whole).norm() / whole.norm()) < 0.05


def test_memory_that_runs_out_is_said_with_what_fits(
    models: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = Wan(DubOptions.from_dict({**models["wan2.1-t2v-1.3b"], "length": LENGTH}))

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(backbone.transformer, "forward", full)
    monkeypatch.setattr(wan, "_free", lambda device: 0.999 * backbone.plan.peak)
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: 0)
    z = torch.zeros(1, backbone.geometry.channels, 3, 8, 8)
    with pytest.raises(OptionError, match="out of memory: 9 frames"):
        backbone.velocity(z, 0.5, Condition(source=z, seconds=torch.zeros(1, 3)))
