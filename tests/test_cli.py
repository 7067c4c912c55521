"""The command line: quick to answer, clear about what is wrong, leaving nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from math import prod
from pathlib import Path

import pytest
from typer.testing import CliRunner

from unisync import __version__, api
from unisync.cli import app
from unisync.demo import demo_speech, make_demo_film

HEAVY = {"ai_edge_litert", "av", "cv2", "numpy", "rich.progress", "scipy", "torch", "unisync.api", "unisync.types"}


def unisync(*args: str | Path) -> tuple[int, str, str]:
    """Run the command line; return its exit code and what it said on stdout and stderr."""
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_film(tmp_path_factory.mktemp("film") / "a film.mp4", 0.6)


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["dub", "--help"], ["scan", "-h"], ["doctor", "--help"], ["evaluate", "-h"]]
)
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys; from unisync.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "unisync" in done.stdout
    assert not HEAVY & set(done.stderr.split())


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("e", ["evaluate"]),
        ("dub --when", ["--when-longer", "--when-shorter"]),
        ("dub --codec v", ["vp9"]),
        ("dub f", []),
    ],
)
def test_a_shell_completes(typed: str, words: list[str], tmp_path: Path) -> None:
    """In a real bash; where there is no word of ours it offers files by itself."""
    program = tmp_path / "unisync"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m unisync "$@"\n')
    program.chmod(0o755)
    line = ["unisync", *typed.split()]
    script = (
        'eval "$(_UNISYNC_COMPLETE=source_bash unisync)"; complete -p unisync | grep -q -- "-o default" || exit 1\n'
        'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _unisync_completion unisync; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    call = ["bash", "--norc", "-c", script, "bash", *line]
    done = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == words


def test_version() -> None:
    assert unisync("--version") == (0, f"unisync {__version__}\n", "")


def test_a_film_is_dubbed_with_one_line_and_a_report(film: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out.mkv", tmp_path / "report.json"
    args = "--method", "echo", "--codec", "ffv1", "--report", report
    code, said, warned = unisync("dub", film, demo_speech(), "-o", out, *args)
    assert code == 0
    assert said.startswith(f"{out}: 15 frames (0.60 s), 1 face, 0 skipped, ")
    assert said.count("\n") == 1
    assert "warning: the speech is 4.3" in warned
    facts = json.loads(report.read_text())
    assert (facts["frames"], facts["faces"], facts["skipped"]) == (15, 1, [])
    assert len(facts["warnings"]) == 1
    assert sorted(tmp_path.iterdir()) == [out, report]


def test_flags_go_before_the_file_of_options(film: Path, tmp_path: Path) -> None:
    config, out = tmp_path / "dub.toml", tmp_path / "out.mp4"
    config.write_text('[dub]\nmethod = "echo"\nface = "nobody"\n')
    code, _, warned = unisync("dub", film, demo_speech(), "-o", out, "--config", config)
    assert code == 2
    assert "nobody" in warned
    assert unisync("dub", film, demo_speech(), "-o", out, "--config", config, "--face", "all")[0] == 0
    config.write_text("steps = 4\nfaec = 1\n")
    code, _, warned = unisync("dub", film, demo_speech(), "-o", out, "--config", config)
    assert (code, warned) == (2, "unisync: there is no option 'faec'; did you mean 'face'?\n")


def test_scan_lists_draws_and_saves(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = tmp_path / "film.plan"
    code, said, _ = unisync("scan", film, "-o", plan)
    assert code == 0
    lines = said.splitlines()
    assert lines[0].split() == ["name", "from", "to", "frames", "size", "speaks"]
    assert lines[1].split()[:6] == ["face1", "0.00", "s", "0.56", "s", "15"]
    assert lines[2] == "15 frames, 1 shots, 1 faces"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a film-faces.png", "film.plan"]
    assert api.rows(api.load_plan(plan))[0]["name"] == "face1"
    args = "--method", "echo", "--plan", plan
    assert unisync("dub", film, demo_speech(), "-o", tmp_path / "out.mp4", *args)[0] == 0


BAD = {
    "missing film": (["no.mp4", "speech", "-o", "out.mp4"], "no.mp4"),
    "missing speech": (["film", "no.wav", "-o", "out.mp4"], "no.wav"),
    "zero bytes": (["empty.mp4", "speech", "-o", "out.mp4"], "empty.mp4"),
    "zero bytes of speech": (["film", "empty.mp4", "-o", "out.mp4"], "empty.mp4"),
    "text": (["text.mp4", "speech", "-o", "out.mp4"], "text.mp4"),
    "no picture": (["speech", "speech", "-o", "out.mp4"], "demo-speech.flac"),
    "no sound": (["film", "film", "-o", "out.mp4"], "a film.mp4"),
    "no folder": (["film", "speech", "-o", "nowhere/out.mp4"], "nowhere"),
    "a folder": (["film", "speech", "-o", "."], "."),
    "OUT = FILM": (["film", "speech", "-o", "film"], "a film.mp4"),
    "unknown kind": (["film", "speech", "-o", "out.xyz"], "out.xyz"),
    "unknown method": (["film", "speech", "-o", "out.mp4", "--method", "ehco"], "did you mean 'echo'"),
    "report nowhere": (["film", "speech", "-o", "out.mp4", "--report", "nowhere/r.json"], "nowhere"),
    "box": (["film", "speech", "-o", "out.mp4", "--box", "1,2"], "x,y,w,h@seconds"),
}


@pytest.mark.parametrize(("args", "words"), BAD.values(), ids=BAD)
def test_bad_input_gets_one_sentence_and_leaves_nothing(
    args: list[str], words: str, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.mp4").touch()
    Path("text.mp4").write_text("This is a shopping list and not a film.\n" * 50)
    before, film_bytes = sorted(tmp_path.iterdir()), film.read_bytes()
    paths = {"film": str(film), "speech": str(demo_speech())}
    code, said, warned = unisync("dub", "--method=echo", *(paths.get(arg, arg) for arg in args))
    assert (code, said) == (2, "")
    assert warned.startswith("unisync: ")
    assert words in warned
    assert warned.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
    assert film.read_bytes() == film_bytes


def test_verbose_shows_where(tmp_path: Path) -> None:
    code, _, warned = unisync("dub", "no.mp4", "no.wav", "-o", tmp_path / "out.mp4", "-v")
    assert code == 2
    assert "Traceback" in warned


def test_a_usage_error_is_bad_input_too() -> None:
    assert unisync("dub", "film.mp4")[0] == 2
    assert unisync("dub", "film.mp4", "a.wav", "-o", "b.mp4", "--when-longer", "silence")[0] == 2


KILLED = """
import os, signal, sys
from contextlib import contextmanager
from unisync.cli import films, main
number = getattr(signal, sys.argv.pop(1))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background commands are born ignoring it
@contextmanager
def bars():
    yield lambda progress: os.kill(os.getpid(), number) if progress.stage == "dub" else None
films.bars = bars
main()
"""


@pytest.mark.parametrize(("name", "exit_code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_in_the_middle_leaves_nothing_behind(name: str, exit_code: int, film: Path, tmp_path: Path) -> None:
    args = "dub", film, demo_speech(), "-o", tmp_path / "out.mp4", "--method", "echo"
    done = subprocess.run([sys.executable, "-c", KILLED, name, *args], capture_output=True, text=True)
    assert done.returncode == exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def sparse(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    """Write a safetensors file whose header is real and whose tensors take no room on the disk."""
    header, at = {}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "F8_E4M3", "shape": shape, "data_offsets": [at, at + prod(shape)]}
        at += prod(shape)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + at)
    return path


def test_doctor_says_what_a_public_model_is_and_what_does_not_go_with_it(tmp_path: Path) -> None:
    from unisync.nets.wan.families import family_shapes

    model = sparse(tmp_path / "model.safetensors", family_shapes("wan2.1-t2v-1.3b"))
    vae = sparse(tmp_path / "vae.safetensors", {"decoder.conv1.weight": (384, 16, 3, 3, 3)})
    name = "blocks.0.self_attn.q.lora_"
    lora = sparse(tmp_path / "lora.safetensors", {f"{name}A.weight": (4, 1536), f"{name}B.weight": (1536, 4)})
    little = ("--canvas", 128, "--length", 5)
    code, said, _ = unisync("doctor", "--backbone", model, "--vae", vae, "--lora", lora, *little, "--vram", 3)
    assert code == 0 and len(said.splitlines()) == 3 + 4
    assert "weights in fp8, all 30 blocks stay" in said and "TFLOP" in said
    assert (
        "Wan2.1 T2V 1.3B: 1.42 billion parameters" in said
        and "licence Apache-2.0" in said
        and "fp8" in said
        and "16 channels" in said
    )
    wide = sparse(tmp_path / "wide.safetensors", {f"{name}A.weight": (4, 5120), f"{name}B.weight": (5120, 4)})
    other = sparse(tmp_path / "other.safetensors", {"decoder.conv1.weight": (1024, 48, 3, 3, 3)})
    for given in (("--lora", wide), ("--vae", other), ("--adapter", model)):
        code, _, said = unisync("doctor", "--backbone", model, *given)
        assert code == 2 and said.startswith("unisync: ") and len(said.splitlines()) == 1
    code, _, said = unisync("doctor", "--backbone", model, "--canvas", 250)
    assert code == 2 and "canvas must be a multiple of 16" in said
    code, _, said = unisync("doctor", "--backbone", tmp_path / "none.safetensors")
    assert code == 2 and "no such weights file" in said


def test_doctor_fails_when_something_needed_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from unisync.doctor import Check

    lacks = Check("weights", False, "missing", mend="git checkout -- weights")
    monkeypatch.setattr(api, "doctor", lambda: iter([Check("Python", True, "3.11.7"), lacks]))
    code, said, _ = unisync("doctor")
    assert code == 1
    assert "mend it with: git checkout -- weights" in said
    monkeypatch.setattr(api, "doctor", lambda: iter([Check("disk", False, "0.1 GB", needed=False)]))
    assert unisync("doctor")[0] == 0


def test_a_suite_is_made_carried_out_and_compared(film: Path, tmp_path: Path) -> None:
    folder, suite, out = tmp_path / "films", tmp_path / "suite.toml", tmp_path / "out"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(film.read_bytes())
    code, said, _ = unisync("evaluate", "import", folder, "-o", suite)
    assert (code, said) == (0, f"{suite}: 1 clips\n")
    clip = f'[[clip]]\nname = "a"\nfilm = "{folder / "a.mp4"}"\n'
    head = 'protocols = ["silent"]\nmetrics = ["silence_share"]\n'
    suite.write_text(head + clip + '[[method]]\nname = "copy"\nkind = "copy"\n')
    code, said, _ = unisync("evaluate", suite, "-o", out)
    assert code == 0 and "| copy | 1/1 |" in said
    assert said.endswith(f"{out / 'report.html'}: 1 of 1 films made, 0 failed\n")
    assert (out / "rate.html").is_file() and (out / "table-silent.csv").is_file()
    code, said, _ = unisync("evaluate", "diff", out, out)
    assert code == 0 and "| silent | copy | silence_share |" in said
    code, _, said = unisync("evaluate", tmp_path / "none.toml", "-o", out)
    assert code == 2 and "none.toml: cannot be read" in said
    code, _, said = unisync("evaluate", "import", folder, "-o", suite, "--layout", "hdft")
    assert code == 2 and "did you mean 'hdtf'?" in said


def test_films_are_measured_and_arranged(film: Path, tmp_path: Path) -> None:
    code, said, _ = unisync("evaluate", "build", film.parent, "-o", tmp_path / "suite.toml")
    assert code == 0 and "a film" in said and (tmp_path / "suite.toml").is_file()
