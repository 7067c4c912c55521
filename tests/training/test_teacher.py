"""What a teacher hears, against networks and spectra that are written out here, and what is made of it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper

from unisync.errors import OptionError
from unisync.nets.audio import AudioConfig, AudioEncoder
from unisync.training.audio import AudioRecipe, LessonsRecipe, lips_loss
from unisync.training.taught import Pupil, at_speed, taught_loss, whitened, windows_of
from unisync.training.teacher import Teacher
from unisync.types import Floats

WIDTH, ROWS = 6, 150
Weights = dict[str, Floats]


def drawn_weights() -> Weights:
    generator = np.random.default_rng(5)
    shapes = {"conv1": (WIDTH, 80, 3), "conv2": (WIDTH, WIDTH, 3), "place": (ROWS, WIDTH)}
    shapes |= {f"{kind}{layer}": (WIDTH, WIDTH) for layer in (0, 1) for kind in ("attend", "think")}
    return {name: generator.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def tiny_teacher(path: Path, bands: int = 80) -> Path:
    """Write an encoder with Whisper's layout: two convolutions, two layers that normalise first, one more norm."""
    weights = drawn_weights() | {"one": np.ones(WIDTH, np.float32), "none": np.zeros(WIDTH, np.float32)}
    nodes = [
        helper.make_node("Conv", ["mel", "conv1"], ["a"], pads=[1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "conv2"], ["c"], pads=[1, 1], strides=[2]),
        helper.make_node("Transpose", ["c"], ["d"], perm=[0, 2, 1]),
        helper.make_node("Add", ["d", "place"], ["x0"]),
    ]
    x = "x0"
    for num, name in enumerate(("attend0", "think0", "attend1", "think1"), 1):
        nodes += [
            helper.make_node("LayerNormalization", [x, "one", "none"], [f"n{num}"]),
            helper.make_node("MatMul", [f"n{num}", name], [f"m{num}"]),
            helper.make_node("Add", [x, f"m{num}"], [f"x{num}"]),
        ]
        x = f"x{num}"
    nodes += [
        helper.make_node("LayerNormalization", [x, "one", "none"], ["last"]),
        helper.make_node("ReduceMax", ["last"], ["logits"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "teacher",
        [helper.make_tensor_value_info("mel", onnx.TensorProto.FLOAT, ["batch", bands, 2 * ROWS])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.save(model, path)
    return path


def layers_written_out(mel: Floats) -> list[torch.Tensor]:
    """Return what leaves each layer of the tiny teacher, (rows, width)."""
    weights = {name: torch.from_numpy(value) for name, value in drawn_weights().items()}
    x = F.conv1d(
        F.relu(F.conv1d(torch.from_numpy(mel)[None], weights["conv1"], padding=1)), weights["conv2"], None, 2, 1
    )
    x, found = x[0].T + weights["place"], []
    for layer in (0, 1):
        for kind in ("attend", "think"):
            x = x + F.layer_norm(x, (WIDTH,)) @ weights[f"{kind}{layer}"]
        found.append(x)
    return found


def mel_written_out(samples: Floats) -> Floats:
    """Return Whisper's log-mel of samples by its definition, one frame, one frequency, one filter after another."""
    x = samples.astype(np.float64)
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-7)
    x = np.pad(x, 200, mode="reflect")
    moments = np.arange(400)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * moments / 400)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(201), moments) / 400)
    power = np.stack([np.abs(waves @ (window * x[at : at + 400])) ** 2 for at in range(0, len(samples), 160)], axis=1)

    def hertz(mel: float) -> float:  # linear to 1 kHz, then 27 steps for a factor of 6.4
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    top = 15 + 27 * np.log(8) / np.log(6.4)
    edges = [hertz(top * i / 81) for i in range(82)]
    mel = np.empty((80, power.shape[1]))
    for band, (low, middle, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        weight = [max(0, min((f - low) / (middle - low), (high - f) / (high - middle))) for f in np.arange(201) * 40.0]
        mel[band] = np.array(weight) * 2 / (high - low) @ power
    log = np.log10(np.maximum(mel, 1e-10))
    made: Floats = ((np.maximum(log, log.max() - 8) + 4) / 4).astype(np.float32)
    return made


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return Teacher(tiny_teacher(tmp_path_factory.mktemp("teacher") / "tiny.onnx"), (0, 1))


def noise(num: int, seed: int = 0) -> Floats:
    """Return sound that swells and fades, so that no two windows are alike."""
    generator = np.random.default_rng(seed)
    return (generator.normal(0, 0.1, num) * (1.1 + np.sin(np.arange(num) / 3000))).astype(np.float32)


def test_the_mel_bands_are_whispers(teacher: Teacher) -> None:
    samples = noise(teacher.samples)
    made = teacher.bands(samples)
    assert made.shape == (80, 2 * ROWS)
    assert np.allclose(made, mel_written_out(samples), atol=1e-4)
    quiet = samples * np.float32(0.01) + np.float32(0.2)
    assert np.allclose(teacher.bands(quiet), made, atol=2e-2)  # level and offset are taken out


def test_the_layers_are_found_by_their_place(teacher: Teacher, tmp_path: Path) -> None:
    samples = noise(teacher.samples)
    first, second = layers_written_out(teacher.bands(samples))
    assert np.allclose(teacher.window(samples), torch.cat([first, second], 1), atol=1e-4)
    only = Teacher(tiny_teacher(tmp_path / "tiny.onnx"), (1,))
    assert np.allclose(only.window(samples), second, atol=1e-4)


def test_long_speech_is_heard_in_windows_without_their_edges(teacher: Teacher) -> None:
    edge, hop = ROWS // 8, ROWS - 2 * (ROWS // 8)
    samples = (noise(3 * teacher.samples) * 32767).astype(np.int16)[: 320 * (ROWS + 2 * hop - 40)]
    heard = teacher.hear(samples)
    assert heard.shape == (len(samples) // 320 + 1, 2 * WIDTH)
    x = samples.astype(np.float32) / np.float32(32768)
    for start in (0, hop):
        own = teacher.window(x[320 * start : 320 * start + teacher.samples])
        begin = edge if start else 0
        assert np.array_equal(heard[start + begin : start + ROWS - edge], own[begin : ROWS - edge])
    assert teacher.hear(samples[:5000]).shape == (16, 2 * WIDTH)
    assert teacher.hear(samples[: 320 * ROWS]).shape == (ROWS + 1, 2 * WIDTH)


def test_what_is_no_teacher_is_refused_by_name(tmp_path: Path) -> None:
    good, other, text = tiny_teacher(tmp_path / "good.onnx"), tiny_teacher(tmp_path / "other.onnx", 64), tmp_path / "t"
    text.write_text("no network")
    for path, layers, words in (
        (tmp_path / "none", (0,), "none: the teacher cannot be read"),
        (text, (0,), "t: the teacher is no ONNX file"),
        (other, (0,), r"other\.onnx: the teacher takes .*64"),
        (good, (2,), r"good\.onnx: the teacher has layers 0 to 1"),
        (good, (-1,), "layers 0 to 1"),
        (good, (), "layers 0 to 1"),
    ):
        with pytest.raises(OptionError, match=words):
            Teacher(path, layers)


def test_whitened_features_have_no_correlation() -> None:
    torch.manual_seed(0)
    features = torch.randn(4000, 8) @ torch.randn(8, 8) + torch.randn(8)
    mean, matrix = whitened(features, 3)
    made = (features - mean) @ matrix
    assert torch.allclose(torch.cov(made.T), torch.eye(3), atol=1e-3)
    largest = torch.linalg.svd(features - features.mean(0), full_matrices=False)[2][0]
    assert abs(float(F.cosine_similarity(matrix[:, 0], largest, dim=0))) > 0.999


def test_a_pupil_is_told_apart_what_is_taught_and_what_is_true() -> None:
    torch.manual_seed(0)
    pupil, recipe = Pupil(AudioEncoder(AudioConfig(width=16)), 5).eval(), AudioRecipe()
    mel, truth, valid = torch.randn(5, 80, 80), torch.randn(2, 40, 6), torch.ones(2, 40, 1)
    with torch.no_grad():
        features, lips = pupil.encoder(mel)
        answers = {"features": pupil.told(features[:3]), "lips": lips[:3]}
        terms = taught_loss(pupil, {"mel": mel, "truth": truth, "valid": valid} | answers, recipe)
    assert terms["features"] == 0 and terms["lips"] == 0
    true = lips_loss(lips[3:], truth, valid, recipe.absolute_weight)
    assert torch.allclose(terms["truth"], recipe.lessons.truth_weight * true)


def test_a_folder_is_one_voice_and_no_more_than_its_minutes_is_heard(tmp_path: Path) -> None:
    for name, level, num in (("long", 0.5, 4), ("short", -0.5, 1), ("words", 0.9, 9)):
        (tmp_path / name).mkdir()
        for i in range(num):
            seconds = 0.2 if name == "words" else 3.0
            soundfile.write(tmp_path / name / f"{i}.wav", np.full(int(seconds * 16000), level), 16000)
    size, films = 16000, [np.full(24000, 8192, np.int16)]
    recipe = LessonsRecipe(minutes_per_folder=0.1)
    windows = list(windows_of(sorted(tmp_path.rglob("*.wav")), films, size, recipe, random.Random(0)))
    assert all(window.shape == (size,) and window.dtype == np.float32 for window in windows)
    levels = [round(float(window[np.abs(window).argmax()]), 2) for window in windows]
    assert levels == [0.5] * 6 + [-0.5] * 3 + [0.25] * 2  # words too short to be any are left out


def test_another_speed_raises_the_pitch_and_keeps_the_length() -> None:
    wave = (0.5 * np.sin(2 * np.pi * 200 * np.arange(16000) / 16000)).astype(np.float32)
    for twentieths in (17, 24):
        made = at_speed(wave, twentieths)
        assert made.shape == wave.shape and made.dtype == np.float32
        spectrum = np.abs(np.fft.rfft(made[: 16000 * 20 // 24]))
        assert abs(spectrum.argmax() / (16000 * 20 // 24) * 16000 - 200 * twentieths / 20) < 3
