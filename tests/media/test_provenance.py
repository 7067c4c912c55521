"""Provenance: what a film says of its making, and that a change to the film is noticed."""

from __future__ import annotations

import json
import os
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
from typer.testing import CliRunner

from films import make_film, make_sound, steady
from unisync import __version__
from unisync.cli import app
from unisync.errors import MediaError, OptionError
from unisync.media import EncodeOptions, probe, read_frames, write_film
from unisync.media.inspect import inspect
from unisync.media.provenance import CERT, KEY, Origin, find_signer
from unisync.options import DubOptions

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
FAST = EncodeOptions("h264", preset="ultrafast")
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


@pytest.fixture(autouse=True)
def _nobody_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CERT, raising=False)
    monkeypatch.delenv(KEY, raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    from make_test_certificate import make

    chain, key, authority = make(tmp_path_factory.mktemp("certificate"))
    return str(chain), str(key), authority


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("source") / "source.mp4", steady(25, 0.4))


def write(source: Path, out: Path, origin: Origin | None, encode: EncodeOptions = FAST) -> Path:
    film = probe(source)
    write_film(read_frames(film), out, film, None, encode, origin)
    return out


CONTAINERS = {
    "mp4": FAST,
    "mov": EncodeOptions("prores"),
    "mkv": FAST,
    "webm": EncodeOptions("vp9", preset="ultrafast"),
}


@pytest.mark.parametrize(("suffix", "encode"), CONTAINERS.items(), ids=CONTAINERS)
def test_every_container_has_the_plain_tag(suffix: str, encode: EncodeOptions, source: Path, tmp_path: Path) -> None:
    out = write(source, tmp_path / f"out.{suffix}", Origin("unisync"), encode)
    with av.open(str(out)) as container:
        names = {name.lower(): value for name, value in container.metadata.items()}
    assert names["comment"].startswith("The lips and the sound of this film were changed by UniSync. {")
    found = inspect(out)
    assert found.state == "present" and found.manifest is None
    assert found.tag == {
        "unisync": __version__,
        "method": "unisync",
        "lips_changed": True,
        "digital_source_type": COMPOSITE,
    }


def test_lips_that_were_not_changed_are_not_said_to_be(source: Path, tmp_path: Path) -> None:
    found = inspect(write(source, tmp_path / "out.mp4", Origin("echo", painted=False)))
    assert found.tag is not None and found.tag["lips_changed"] is False
    assert found.tag["digital_source_type"].endswith("/composite")
    assert inspect(write(source, tmp_path / "plain.mp4", None)).state == "absent"


def test_a_signed_film_is_verified_and_its_source_is_named(
    source: Path, tmp_path: Path, certificate: tuple[str, str, Path]
) -> None:
    signer = find_signer(*certificate[:2])
    assert signer is not None and "TEST" in signer.name
    out = write(source, tmp_path / "out.mp4", Origin("unisync", signer=signer))
    assert os.listdir(tmp_path) == ["out.mp4"]
    assert probe(out).seconds == probe(source).seconds
    found = inspect(out)
    assert found.state == "verified" and found.manifest is not None and found.manifest.trusted is None
    assert found.manifest.facts == found.tag
    assert found.manifest.actions[0] == "c2pa.opened" and "compositeWith" in found.manifest.actions[1]
    trusted = inspect(out, certificate[2])
    assert trusted.manifest is not None and trusted.manifest.trusted is True and trusted.state == "verified"
    again = inspect(write(out, tmp_path / "again.mov", Origin("omnisync", signer=signer), EncodeOptions("prores")))
    assert again.state == "verified"


def test_an_authority_that_does_not_vouch_is_told(
    source: Path, tmp_path: Path, certificate: tuple[str, str, Path]
) -> None:
    from make_test_certificate import make

    out = write(source, tmp_path / "out.mp4", Origin("unisync", signer=find_signer(*certificate[:2])))
    other = make(tmp_path / "other")[2]
    found = inspect(out, other)
    assert found.state == "present" and "vouches" in found.why
    (tmp_path / "none.pem").write_text("nothing")
    with pytest.raises(OptionError, match=r"none\.pem: is not a certificate"):
        inspect(out, tmp_path / "none.pem")


def test_a_film_changed_after_signing_is_damaged(
    source: Path, tmp_path: Path, certificate: tuple[str, str, Path]
) -> None:
    out = write(source, tmp_path / "out.mp4", Origin("unisync", signer=find_signer(*certificate[:2])))
    whole = out.read_bytes()
    picture = whole.index(b"mdat") + 200
    manifest = whole.index(b"jumb")
    for at in (picture, manifest + 12, manifest + 400):
        out.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        found = inspect(out)
        assert found.state == "damaged" and found.why.endswith(found.manifest.problem if found.manifest else "?")
    out.write_bytes(whole[:-500])
    assert inspect(out).state == "damaged"


def test_a_matroska_source_is_an_ingredient_too_and_cannot_hold_a_manifest(
    tmp_path: Path, certificate: tuple[str, str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    source = make_film(tmp_path / "source.mkv", steady(Fraction(25), 0.4))
    origin = Origin("unisync", signer=find_signer(*certificate[:2]))
    assert inspect(write(source, tmp_path / "out.mp4", origin)).state == "verified"
    assert not caplog.messages
    assert inspect(write(source, tmp_path / "out.mkv", origin)).state == "present"
    assert caplog.messages == ["out.mkv cannot hold a C2PA manifest: it has the plain tag alone; mp4 and mov hold one."]
    assert origin.kept("matroska")["c2pa"] == "none: matroska cannot hold it"
    assert origin.kept("mp4")["c2pa"].startswith("signed by UniSync TEST")


def test_a_certificate_is_checked_before_any_work(
    tmp_path: Path, certificate: tuple[str, str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from make_test_certificate import make

    chain, key, _ = certificate
    old, other_key, _ = make(tmp_path / "old", days=-30)
    text = tmp_path / "text.pem"
    text.write_text("a shopping list")
    assert find_signer(None, None) is None
    for given, words in (
        ((chain, None), "c2pa_key or UNISYNC_C2PA_KEY"),
        ((None, key), "c2pa_cert or UNISYNC_C2PA_CERT"),
        ((chain, str(other_key)), "is not the key of"),
        ((str(old), str(other_key)), "is valid from"),
        ((str(text), key), r"text\.pem: is not a certificate"),
        ((chain, str(text)), r"text\.pem: is not a private key"),
        ((str(tmp_path / "no.pem"), key), r"no\.pem: cannot be read"),
    ):
        with pytest.raises(OptionError, match=words):
            find_signer(*given)
    with pytest.raises(OptionError, match="no-provenance"):
        DubOptions(provenance=False, c2pa_cert=chain)
    monkeypatch.setenv(CERT, chain)
    monkeypatch.setenv(KEY, key)
    assert find_signer(None, None) is not None


def test_without_the_library_nothing_is_claimed(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tagged = write(source, tmp_path / "out.mp4", Origin("unisync"))
    monkeypatch.setitem(sys.modules, "c2pa", None)
    found = inspect(tagged)
    assert found.state == "present" and "unisync[c2pa]" in found.why
    with pytest.raises(OptionError, match=r"unisync\[c2pa\]"):
        inspect(source)
    with pytest.raises(OptionError, match="missing to sign with"):
        find_signer("a", "b")


def run(*args: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    return done.exit_code, done.stdout + done.stderr


def test_inspect_says_it_by_words_and_exit_codes(
    source: Path, tmp_path: Path, certificate: tuple[str, str, Path]
) -> None:
    speech, out, report = make_sound(tmp_path / "a.wav", [0], 0.4), tmp_path / "out.mp4", tmp_path / "report.json"
    chain, key, authority = certificate
    dub = "dub", source, speech, "-o", out, "--method", "echo", "--box", "40,30,60,60@0", "--report", report
    code, said = run(*dub, "--c2pa-cert", chain, "--c2pa-key", key)
    assert code == 0, said
    assert json.loads(report.read_text())["facts"]["provenance"]["c2pa"].startswith("signed by UniSync TEST")
    code, said = run("inspect", out, "--trust", authority)
    assert code == 0 and f"{out}: verified" in said and "method echo" in said and "lips_changed False" in said
    code, said = run("inspect", out, "--json")
    assert code == 0 and json.loads(said)["manifest"]["facts"]["method"] == "echo"
    data = bytearray(out.read_bytes())
    data[-1] ^= 0xFF
    out.write_bytes(data)
    assert run("inspect", out)[0] == 4
    assert run(*dub)[0] == 0
    assert run("inspect", out)[0] == 3
    assert json.loads(report.read_text())["facts"]["provenance"]["c2pa"] == "none: no certificate was given"
    assert run(*dub, "--no-provenance")[0] == 0
    code, said = run("inspect", out)
    assert code == 5 and "absent" in said
    assert json.loads(report.read_text())["facts"]["provenance"] == "none: --no-provenance"
    code, said = run("inspect", tmp_path / "no.mp4")
    assert code == 2 and "no.mp4 does not exist" in said


def test_what_is_no_film_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("This is a shopping list.\n" * 50)
    with pytest.raises(MediaError, match=r"text\.mp4"):
        inspect(tmp_path / "text.mp4")
