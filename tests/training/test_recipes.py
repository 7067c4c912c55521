"""Every recipe in the repository, for a few steps with small networks, from films to a dubbed film."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open
from test_teacher import tiny_teacher

from faces import frames, lay
from unisync import api
from unisync.demo import demo_speech
from unisync.errors import MediaError, OptionError, WeightsError
from unisync.media import EncodeOptions, Speech, drawn, probe, write_film
from unisync.nets.audio import AudioConfig
from unisync.nets.transformer import TransformerConfig
from unisync.nets.vae import VaeConfig
from unisync.nets.wan.families import TEXT_WIDTH
from unisync.nets.weights import read_weights, write_tensors
from unisync.options import DubOptions, PrepareOptions, TrainOptions
from unisync.training.audio import AudioRecipe
from unisync.training.recipe import Networks, Recipe, read_recipe
from unisync.training.run import train_by
from wan_folders import write_whisper

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for path in (ROOT / "recipes").glob("*.toml") if path.stem != "ablation")  # a suite
OTHERS = [path for path in RECIPES if path.stem != "embedded" and not path.stem.startswith("wan-")]  # these: test_large
SMALL = Networks(
    vae=VaeConfig(latent_channels=4, width=16, deep_width=16),
    audio=AudioConfig(width=16),
    transformer=TransformerConfig(
        channels=4, width=24, layers=2, heads=2, ffn=48, frequencies=32, audio_width=16, audio_layers=(1,),
        pose_grid=(2, 4, 4), prediction="data",
    ),
)  # fmt: skip
ENDS = {"steps": 3, "minutes": 0.0, "log_every": 2, "look_every": 2, "save_every": 2}


def talk(path: Path, zoom: float, step: float, num: int = 40) -> Path:
    """Write a film of a face that is moved about while words are heard."""
    pictures = [lay([(210 + step * i, 170 + 5 * np.sin(i / 4), zoom)]) for i in range(num)]
    quick = EncodeOptions("h264", 20, "ultrafast")
    write_film(frames(pictures), path, drawn("x", 480, 360, 25, num), Speech(demo_speech()), quick)
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for name, zoom, step in (("one", 1.4, 1.0), ("two", 1.2, -0.6), ("three", 1.5, 0.3)):
        talk(folder / f"{name}.mp4", zoom, step)
    out = tmp_path_factory.mktemp("dataset") / "set"
    names = out.parent / "speakers.jsonl"
    names.write_text("".join(f'{{"file": "{name}.mp4", "speaker": "{name}"}}\n' for name in ("one", "two", "three")))
    kept = PrepareOptions(
        speakers=str(names),
        canvas=64,
        held=0.3,
        min_lips=0,
        min_sharpness=0,
        min_speech=0,
        max_alike=1,
        min_seconds=0.5,
        min_sync=0,
    )
    made = api.prepare(folder, out, options=kept)
    assert made.samples == 3 and made.held_speakers == 1
    return out


def small(path: Path, dataset: Path, work: Path, weights: Path | None = None) -> Recipe:
    """Return a recipe of the repository that ends after three steps."""
    work.mkdir(parents=True, exist_ok=True)
    options = TrainOptions(
        dataset=str(dataset),
        work=str(work),
        out=str(work / "out.safetensors"),
        weights=str(weights) if weights else None,
    )
    recipe = read_recipe(path, options)
    return replace(
        recipe,
        networks=SMALL,
        vae=replace(recipe.vae, batch=2, frames_per_clip=6, **ENDS),
        audio=small_audio(recipe.audio, work),
        transformer=replace(recipe.transformer, batch=2, frames=5, **ENDS),
        distil=replace(recipe.distil, batch=2, frames=5, **ENDS),
        expert=replace(recipe.expert, batch=2, frames=12, **ENDS),
    )


def small_audio(recipe: AudioRecipe, work: Path) -> AudioRecipe:
    """Return the audio recipe with a tiny teacher, if it has one, and a few seconds of speech."""
    if recipe.teacher:
        (work / "speech" / "ann").mkdir(parents=True)
        samples = np.random.default_rng(0).normal(0, 0.1, 8 * 16000)
        soundfile.write(work / "speech" / "ann" / "one.flac", samples, 16000)
        head = replace(recipe.lessons.head, batch=2, widths=(8, 12), **ENDS)
        lessons = replace(recipe.lessons, batch=3, components=5, head=head)
        teacher = str(tiny_teacher(work / "teacher.onnx"))
        recipe = replace(recipe, teacher=teacher, speech=str(work / "speech"), lessons=lessons)
    return replace(recipe, batch=2, min_motion=0.0, **ENDS)


@pytest.fixture(scope="module")
def weights(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_by(small(ROOT / "recipes" / "embedded.toml", dataset, tmp_path_factory.mktemp("embedded")))


@pytest.fixture(autouse=True)
def quiet(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    capsys.readouterr()


def dubbed(folder: Path, **options: str) -> bytes:
    """Return the bytes of a small film dubbed with the weights."""
    film = talk(folder / "film.mp4", 1.3, 0.5, 8)
    out = folder / "dubbed.mkv"
    report = api.dub(film, demo_speech(), out, options=DubOptions(codec="ffv1", steps=2, **options))  # type: ignore[arg-type]
    assert report.frames == len(probe(out)) == 8 and report.faces == 1
    return out.read_bytes()


def test_the_whole_way_leaves_weights_that_dub(weights: Path, tmp_path: Path) -> None:
    spec = read_weights(weights)[1]
    assert (spec["canvas"], spec["length"], spec["steps"]) == (64, 5, 4) and spec["lip_gain"] > 0
    work = weights.parent
    assert {"vae.safetensors", "audio.safetensors", "vae", "audio", "transformer"} <= {p.name for p in work.iterdir()}
    (last,) = work.glob("transformer/step-*")
    with safe_open(last / "weights.safetensors", framework="pt") as file:
        assert '"kind": "transformer"' in file.metadata()["unisync"]
    (board,) = work.glob("transformer/board/events*")
    assert all(name in board.read_bytes() for name in (b"train/velocity", b"held/mouth", b"held/loss", b"painted"))
    (board,) = work.glob("vae/board/events*")
    assert b"held/psnr" in board.read_bytes()
    dubbed(tmp_path, weights=str(weights))


@pytest.mark.parametrize("path", OTHERS, ids=lambda p: p.stem)
def test_a_recipe_trains(path: Path, dataset: Path, weights: Path, tmp_path: Path) -> None:
    recipe = small(path, dataset, tmp_path / "work", weights)
    out = train_by(recipe)
    tensors, spec = read_weights(out)
    before = read_weights(weights)[0]
    if recipe.lora:
        dubbed(tmp_path, weights=str(weights), lora=f"{out}:1,{out}:0.5")
    elif recipe.kind in ("vae", "audio", "expert"):
        assert spec["kind"].removeprefix("unisync-") == recipe.kind
    else:
        assert any(not torch.equal(tensors[k], before[k]) for k in tensors if k.startswith("transformer."))
        assert all(torch.equal(tensors[k], before[k]) for k in tensors if not k.startswith("transformer."))
        dubbed(tmp_path, weights=str(out))


def test_lora_of_the_other_networks(dataset: Path, weights: Path, tmp_path: Path) -> None:
    for kind, target in (("vae", "decoder.3"), ("audio", "layers.0")):
        path = tmp_path / f"{kind}.toml"
        path.write_text(f'kind = "{kind}"\nout = "x"\n[lora]\nrank = 2\ntargets = ["{target}"]\n')
        out = train_by(small(path, dataset, tmp_path / kind, weights))
        assert read_weights(out)[1]["part"] == kind
        dubbed(tmp_path, weights=str(weights), lora=str(out))


def test_lessons_are_given_once_and_the_whole_way_takes_the_pupil(dataset: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    recipe = small(ROOT / "recipes" / "audio-taught.toml", dataset, tmp_path)
    recipe = replace(recipe, work=str(work), out=str(work / "audio.safetensors"))
    pupil = read_weights(train_by(recipe))[0]
    (lessons,) = work.glob("lessons-*.pt")
    made = torch.load(lessons, weights_only=True)
    assert {name: value.shape[1:] for name, value in made.items()} == {
        "mel": (300, 80), "features": (150, 5), "lips": (150, 6),
    }  # fmt: skip
    spread = made["features"].float().flatten(0, 1)
    assert (spread.std(0) > 0.3).all() and (spread.std(0) < 3).all()
    (board,) = work.glob("audio/board/events*")
    assert all(name in board.read_bytes() for name in (b"train/features", b"train/lips", b"train/truth"))
    written = lessons.stat().st_mtime_ns
    (work / "audio.safetensors").unlink()
    again = read_weights(train_by(recipe))[0]
    assert lessons.stat().st_mtime_ns == written and all(torch.equal(again[name], pupil[name]) for name in pupil)
    other = replace(recipe, audio=replace(recipe.audio, lessons=replace(recipe.audio.lessons, layers=(1,))))
    with pytest.raises(WeightsError, match="another lessons; take another work folder"):
        train_by(other)
    whole = small(ROOT / "recipes" / "embedded.toml", dataset, tmp_path / "whole")
    taken = read_weights(train_by(replace(whole, work=str(work))))[0]
    assert all(torch.equal(taken[name], pupil[name]) for name in pupil)


def test_a_wrong_teacher_is_refused_before_anything_is_trained(dataset: Path, tmp_path: Path) -> None:
    recipe = small(ROOT / "recipes" / "audio-taught.toml", dataset, tmp_path)
    wrong = {"teacher": "none.onnx", "speech": str(tmp_path / "none"), "rows": 139}
    for (name, value), words in zip(wrong.items(), ("none.onnx: the teacher cannot", "no sound", "138"), strict=True):
        for kind in ("audio", "embedded"):
            with pytest.raises(OptionError, match=words):
                train_by(replace(recipe, kind=kind, audio=replace(recipe.audio, **{name: value})))  # type: ignore[arg-type]
    assert not (tmp_path / "vae").exists() and not (tmp_path / "audio").exists()


def test_a_stopped_run_goes_on_and_another_recipe_is_refused(dataset: Path, weights: Path, tmp_path: Path) -> None:
    recipe = small(ROOT / "recipes" / "masked.toml", dataset, tmp_path, weights)
    train_by(recipe)
    (checkpoint,) = tmp_path.glob("transformer/step-*")
    assert checkpoint.name == "step-00000003"
    train_by(replace(recipe, transformer=replace(recipe.transformer, steps=5)))
    (checkpoint,) = tmp_path.glob("transformer/step-*")
    assert checkpoint.name == "step-00000005"
    with pytest.raises(WeightsError, match="another begin; take another work folder"):
        train_by(replace(recipe, go_on=True))
    wider = replace(SMALL, transformer=replace(SMALL.transformer, ffn=64))
    with pytest.raises(WeightsError, match="another transformer; take another work folder"):
        train_by(replace(recipe, networks=wider))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "kind is missing"),
        ('kind = "vea"', "did you mean 'vae'"),
        ('kind = "vae"', "out is missing"),
        ('kind = "vae"\nout = "x"\n[vae]\nbtach = 3', r"no 'vae\.btach'; did you mean 'batch'"),
        ('kind = "vae"\nout = "x"\n[vea]\nbatch = 3', "did you mean 'vae'"),
        ('kind = "vae"\nout = "x"\n[vae]\nbatch = "many"', r"vae\.batch must be a whole number"),
        ('kind = "vae"\nout = "x"\n[vae]\nminutes = 0', "give steps or minutes"),
        ('kind = "vae"\nout = "x"\n[vae]\nbetas = [1]', "a list of 2"),
        ('kind = "transformer"\nout = "x"\n[transformer]\nmasked = 0.9', "together at most 1"),
        ('kind = "transformer"\nout = "x"\n[transformer]\npaired = 2.0', "paired is a probability"),
        ('kind = "wan"\nout = "x"\n[lora]\n[wan]\npaired = -0.5', "paired is a probability"),
        ('kind = "wan"\nout = "x"\n[lora]\n[wan]\npaired_above = 850.0', "paired_above is a noise level, from 0 to 1"),
        ('kind = "transformer"\nout = "x"\n[transformer.extra]\npixel = -1', "weight of a loss"),
        ('kind = "distil"\nout = "x"\n[distil]\nstudent_steps = 4', "multiple"),
        ('kind = "embedded"\nout = "x"\n[lora]\nrank = 4', "lora changes one network"),
        ('kind = "audio"\nout = "x"\n[audio]\nspeech = "sounds"', "name the teacher's file"),
        ("kind = ", "is not TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(text)
    with pytest.raises(OptionError, match=rf"my\.toml: .*{words}"):
        read_recipe(path, TrainOptions())


def test_options_take_the_place_of_the_recipes_words() -> None:
    given = TrainOptions(dataset="films", steps=7, go_on=True)
    recipe = read_recipe(ROOT / "recipes" / "embedded.toml", given)
    assert (recipe.dataset, recipe.go_on, recipe.transformer.steps, recipe.transformer.minutes) == (
        "films",
        True,
        7,
        0.0,
    )
    assert recipe.vae.minutes == 25


def test_what_would_fail_late_fails_at_once(dataset: Path, tmp_path: Path) -> None:
    recipe = small(ROOT / "recipes" / "vae.toml", tmp_path / "none", tmp_path)
    with pytest.raises(MediaError, match="no finished dataset"):
        train_by(recipe)
    with pytest.raises(OptionError, match="nowhere"):
        train_by(replace(recipe, dataset=str(dataset), out="nowhere/x.safetensors"))


def test_training_needs_no_ffmpeg(dataset: Path, weights: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from unisync import api; from unisync.options import TrainOptions\n"
        "d, w, o = sys.argv[2:]\n"
        "api.train(sys.argv[1], options=TrainOptions(dataset=d, weights=w, work=o, out=o + '/x.safetensors', steps=1))"
    )
    path = tmp_path / "r.toml"
    path.write_text('kind = "transformer"\ngo_on = true\nout = "x"\n[transformer]\nbatch = 1\nframes = 4\n')
    call = [sys.executable, "-c", code, path, dataset, weights, tmp_path]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.safetensors").is_file()


def test_a_transformer_may_hear_by_whisper_and_read(weights: Path, dataset: Path, tmp_path: Path) -> None:
    write_whisper(tmp_path / "whisper", 12)
    write_whisper(tmp_path / "wider", 14)
    words = {name: torch.randn(3, TEXT_WIDTH) for name in ("prompt", "negative")}
    write_tensors(tmp_path / "text.safetensors", words, {"kind": "text", "prompt": "a person speaks"})
    encoder, text = str(tmp_path / "whisper"), str(tmp_path / "text.safetensors")
    recipe = small(ROOT / "recipes" / "masked.toml", dataset, tmp_path / "work", weights)
    reader = replace(SMALL.transformer, audio_width=12, text_width=TEXT_WIDTH)
    fast = replace(recipe.transformer, learning_rate=0.05, warmup=1, ema=0.0)  # else three steps leave no trace
    networks = replace(SMALL, transformer=reader)
    recipe = replace(recipe, audio_encoder=encoder, text=text, networks=networks, transformer=fast)
    made = str(train_by(recipe))
    assert read_weights(Path(made))[1]["hearing"] == {"kind": "whisper", "width": 12}
    told = dubbed(tmp_path, weights=made, audio_encoder=encoder, text=text)
    assert told != dubbed(tmp_path, weights=made, audio_encoder=encoder)
    lora = small(ROOT / "recipes" / "omnisync.toml", dataset, tmp_path / "lora", Path(made))
    lora = replace(lora, audio_encoder=encoder, text=text, transformer=replace(fast, paired=1.0))
    added = f"{train_by(lora)}:1"
    assert told != dubbed(tmp_path, weights=made, audio_encoder=encoder, text=text, lora=added)
    for options, wrong in (
        ({"weights": made}, "name its folder by audio_encoder"),
        ({"weights": made, "audio_encoder": str(tmp_path / "wider")}, "14 wide, does not do"),
        ({"weights": str(weights), "audio_encoder": encoder}, "encoder of its own; leave it out"),
        ({"weights": str(weights), "text": text}, "reads none; leave it out"),
    ):
        with pytest.raises((OptionError, WeightsError), match=wrong):
            dubbed(tmp_path, **options)
    with pytest.raises(OptionError, match="text_width of 4096"):
        train_by(replace(lora, weights=str(weights), audio_encoder=""))
    with pytest.raises(WeightsError, match="14 wide, does not do"):
        train_by(replace(recipe, audio_encoder=str(tmp_path / "wider")))
