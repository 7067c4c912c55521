"""The report and the page for raters, of made-up evaluations: every film, curve and failure is in them, and well-formed."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

from films import make_film, steady
from unisync.bench.report import read_ratings, write_report
from unisync.bench.sheet import Sheet
from unisync.errors import OptionError

NASTY = 'a<b>&"c #1?%2'
SCRIPT = "</script><script>alert(1)</script>"
METHODS = ("copy", NASTY, SCRIPT[2:8])
VOID = ("meta", "input")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SHEET = Sheet("Sync <all>", ("method", "sync", "why"), ((NASTY, "0.912", "– (weights missing: x)"),), "Read & compare.")
NUM = 40


class Page(HTMLParser):
    """A page taken apart; raises where an element is closed that is not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[tuple[str, ...], str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"{tag}: an attribute twice"
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.words.append((tuple(self.open), data))

    def each(self, name: str, **wanted: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of that name."""
        return [a for tag, a in self.found if tag == name and all(a.get(k) == v for k, v in wanted.items())]

    def said(self) -> str:
        return "".join(words for inside, words in self.words if not {"script", "style"} & set(inside))


def cell(protocol: str, clip: str, method: str, **more: Any) -> dict[str, Any]:
    """Return a result as an evaluation writes it."""
    return {
        "protocol": protocol, "clip": clip, "method": method, "tags": ["profile", "a&b"], "speech": "x&y.wav",
        "status": "finished", "problem": "", "out": f"films/{method}/{protocol}/{clip}.mp4",
        "figures": {"lip_correlation": 0.91234, "csim": "weights missing: arcface", "expert_offset": 1.0},
        "facts": {"frames": NUM, "frames_exact": True, "length_exact": False},
    } | more  # fmt: skip


def curve(**more: Any) -> dict[str, Any]:
    seconds = [i / 25 for i in range(NUM)]
    lips = [0.06 - 0.05 * math.cos(9 * s) for s in seconds]
    return {"seconds": seconds, "opening": lips, "source": [0.02] * NUM, "spoken": None, "loudness": None} | more


def put(path: Path, data: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An evaluation of two clips: some films there, one missing, one failed, one skipped."""
    results = [cell(protocol, clip, m) for protocol in ("self", "silent") for clip in ("one", NASTY) for m in METHODS]
    results[1] |= {"status": "failed", "out": "", "problem": "fell <over> & out", "figures": {}, "facts": {}}
    results[2] |= {"status": "skipped", "out": "", "problem": "no sound of its own", "figures": {}, "facts": {}}
    together = {
        "protocol": "self",
        "clip": "*",
        "method": "copy",
        "figures": {"fid": "weights missing: <i>"},
        "clips": 2,
    }
    write_results(tmp_path, [*results, together])
    for each in results:
        if each["status"] == "finished":
            put(tmp_path / "curves" / each["method"] / each["protocol"] / f"{each['clip']}.json", json.dumps(curve()))
            put(tmp_path / each["out"], b"film")
    (tmp_path / results[3]["out"]).unlink()
    put(tmp_path / f"films/source/{NASTY}.mp4", b"film")
    about = {"suite": NASTY, "seed": 3, "version": "1.0", "python": "3.11", "torch": "2.6", "weights": {}}
    weights = {"b.safetensors": "ab" * 32, "a<.pt": "missing"}
    put(tmp_path / "about.json", json.dumps(about | {"weights": weights}))
    return tmp_path


def write_results(out: Path, results: list[dict[str, Any]]) -> None:
    put(out / "results.jsonl", "".join(json.dumps(each) + "\n" for each in results))


def results_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def pages(out: Path, tables: tuple[Sheet, ...] = (SHEET,)) -> tuple[Page, Page]:
    path = write_report(out, tables)
    assert path == out / "report.html"
    return Page(path.read_text("utf-8")), Page((out / "rate.html").read_text("utf-8"))


def lines_of(page: Page, name: str) -> list[int]:
    """Return how many points each polyline of that class has."""
    return [len((a["points"] or "").split()) for a in page.each("polyline", **{"class": name})]


def rated(out: Path) -> dict[str, Any]:
    """Return what the page for raters knows."""
    _, page = pages(out)
    words = "".join(words for inside, words in page.words if inside[-1:] == ("script",) and words.startswith("{"))
    found: dict[str, Any] = json.loads(words)
    return found


def test_pages_are_well_formed_and_escaped(out: Path) -> None:
    for page in pages(out):
        assert page.open == []
        names = {name for name, _ in page.found}
        assert not names & {"b>", "i>", "over", "all", "link", "iframe"}
        assert len(page.each("script")) == len([1 for inside, _ in page.words if inside[-1:] == ("script",)])
        ids = [a["id"] for _, a in page.found if a.get("id")]
        assert [name for name, num in Counter(ids).items() if num > 1] == []
        assert not any(" " in (name or "") for name in ids)
        for _, attributes in page.found:
            for name in ("src", "href"):
                assert not (attributes.get(name) or "").startswith(("http:", "https:", "//", "/"))
    report, rate = pages(out)
    assert f"Evaluation: {NASTY}" in report.said()
    assert f"Rate: {NASTY}" in rate.said()
    for words in ("fell <over> & out", "Sync <all>", "Read & compare.", "weights missing: <i>", "a<.pt", "ab" * 32):
        assert words in report.said()
    assert len(rate.each("script")) == 2
    assert len(report.each("script")) == 1


def test_films_are_linked_or_said_to_be_missing(out: Path) -> None:
    report, _ = pages(out)
    linked = Counter(unquote(a["src"] or "") for a in report.each("video"))
    finished = [each for each in results_of(out) if each.get("status") == "finished"]
    there = {each["out"] for each in finished if (out / each["out"]).is_file()}
    assert len(there) == 9
    assert linked == Counter([*there, *[f"films/source/{NASTY}.mp4"] * 2])
    assert all((out / place).is_file() for place in linked)
    assert all(a["preload"] == "none" and "muted" in a for a in report.each("video"))
    missing = [each["out"] for each in finished if each["out"] not in there]
    assert len(missing) == 1 and f"The film is missing: {missing[0]}" in report.said()


def test_anchors_lead_somewhere(out: Path) -> None:
    report, _ = pages(out)
    ids = {a["id"] for _, a in report.found if a.get("id")}
    links = [a["href"] or "" for name in ("a", "use") for a in report.each(name)]
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    sections = [a["id"] for a in report.each("details", **{"class": "clip"})]
    assert sections == [quote(f"{protocol}/{clip}") for protocol in ("self", "silent") for clip in ("one", NASTY)]
    assert {f"#{name}" for name in sections} <= set(links)
    assert [json.loads(a["data-tags"] or "") for a in report.each("details", **{"class": "clip"})] == [
        ["profile", "a&b"]
    ] * 4


def test_failures_are_listed_and_counted(out: Path) -> None:
    report, _ = pages(out)
    assert "10 of 12 films were made, 1 failed, 1 were skipped." in report.said()
    assert f"{NASTY}, self, one: fell <over> & out" in report.said()
    assert f"{METHODS[2]}, self, one: no sound of its own" in report.said()
    results = results_of(out)
    whole = [each | {"status": "finished"} for each in results]
    write_results(out, whole)
    report, _ = pages(out)
    assert "12 of 12 films were made, 0 failed, 0 were skipped." in report.said()
    assert "fell" not in report.said()


def test_curves_become_polylines_with_as_many_points(out: Path) -> None:
    report, _ = pages(out)
    assert lines_of(report, "made") == [NUM] * 10
    assert lines_of(report, "source") == [NUM] * 4  # once in each section, shown by each plot
    assert lines_of(report, "spoken") == [] and report.each("polygon") == []
    place = out / f"curves/{METHODS[1]}/self/{NASTY}.json"
    gaps = [None if i in (5, 6) else math.nan if i == 20 else 0.03 for i in range(NUM)]
    put(place, json.dumps(curve(opening=gaps, spoken=[0.04] * NUM, loudness=[None, *[2.0] * (NUM - 1)])))
    report, _ = pages(out)
    assert sorted(lines_of(report, "made")) == [5, 13, 19, *[NUM] * 9]
    assert lines_of(report, "spoken") == [NUM]
    assert [len((a["points"] or "").split()) for a in report.each("polygon")] == [NUM + 2]
    assert not re.search(r"points=\"[^\"]*(nan|None)", (out / "report.html").read_text())


def test_points_lie_where_the_axes_say(out: Path) -> None:
    seconds = [0.0, 1.0, 2.0, 0.5]  # the last is another face's
    flat = [0.0] * 4
    for each in results_of(out):
        if each.get("status") == "finished":
            made = curve(seconds=seconds, opening=[0.0, 0.05, 0.1, 0.1], source=flat)
            put(out / "curves" / each["method"] / each["protocol"] / f"{each['clip']}.json", json.dumps(made))
    report, _ = pages(out)
    first, second = (a["points"] for a in report.each("polyline", **{"class": "made"})[:2])
    assert first == "36.0,98.0 164.0,58.0 292.0,18.0"
    assert second == "100.0,18.0"
    ticks = re.findall(r'text-anchor="(\w+)" x="([\d.]+)" y="[\d.]+">([\d.]+)<', (out / "report.html").read_text())
    assert ("end", "32.0", "0.1") in ticks and ("middle", "292.0", "2") in ticks


def test_figures_stand_below_films_and_in_a_table(out: Path) -> None:
    report, _ = pages(out)
    said = report.said()
    assert "lip_correlation0.912" in said
    assert "Figures of this clip: 3" in said and "weights missing: arcface" in said
    assert f"{NUM} frames, exact; length not exact" in said and "Figures of all clips, self: 1" in said
    text = (out / "report.html").read_text()
    for entry in ("<td>0.912</td>", "<td>–</td>", '<td class="words">– (weights missing: x)</td>'):
        assert entry in text


def test_same_bytes_again(out: Path) -> None:
    write_report(out, [SHEET])
    first = [(out / name).read_bytes() for name in ("report.html", "rate.html")]
    about = json.loads((out / "about.json").read_text())
    about["weights"] = dict(reversed(about["weights"].items()))
    put(out / "about.json", json.dumps(about))
    write_report(out, [SHEET])
    assert [(out / name).read_bytes() for name in ("report.html", "rate.html")] == first


def test_raters_are_shown_every_finished_film_once(out: Path) -> None:
    results = results_of(out)
    write_results(out, [*results, results[0]])  # a line twice is one cell
    known = rated(out)
    assert known["suite"] == NASTY
    shown = [(each["protocol"], each["clip"], each["method"]) for each in known["cells"]]
    finished = [each for each in results if each.get("status") == "finished"]
    wanted = [(e["protocol"], e["clip"], e["method"]) for e in finished if (out / e["out"]).is_file()]
    assert shown == wanted and len(shown) == 9
    assert all((out / unquote(each["film"])).is_file() for each in known["cells"])
    sources = {each["clip"]: unquote(each["source"]) for each in known["cells"]}
    assert sources == {"one": "", NASTY: f"films/source/{NASTY}.mp4"}
    _, page = pages(out)
    assert "Missing, and not to be rated: 1 film" in page.said()
    assert not any(name in page.said() for name in METHODS if name != NASTY)


def test_empty_evaluation(out: Path) -> None:
    put(out / "results.jsonl", "")
    report, rate = pages(out, ())
    assert report.open == [] and "0 of 0 films" in report.said()
    assert rated(out)["cells"] == [] and rate.open == []


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("results.jsonl", '{"protocol": "self"', "line 1"),
        ("results.jsonl", '{"protocol": "sung", "clip": "a", "method": "b"}', "protocol must be one of"),
        ("results.jsonl", "[1]\n", "line 1"),
        ("about.json", '{"suite": "x"}', "seed is missing"),
        ("about.json", b"\xff", "cannot be read"),
        ("curves/copy/self/one.json", json.dumps(curve(source=[0.1])), "source is not as long"),
        ("curves/copy/self/one.json", json.dumps(curve(seconds=[None] * NUM)), "seconds must be"),
        ("curves/copy/self/one.json", json.dumps({"seconds": []}), "opening must be a list"),
        ("curves/copy/self/one.json", json.dumps(curve(opening="x")), "opening must be a list"),
    ],
)
def test_damaged_evaluations_are_named(out: Path, name: str, data: str | bytes, words: str) -> None:
    put(out / name, data)
    with pytest.raises(OptionError, match=re.escape(words)) as caught:
        write_report(out, ())
    assert str(out / name) in str(caught.value)


def test_missing_evaluation_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"about\.json: cannot be read"):
        write_report(tmp_path, ())


def test_uneven_sheets_are_refused() -> None:
    with pytest.raises(ValueError, match="1 cells under 2 headings"):
        Sheet("title", ("a", "b"), (("x",),), "")


def ratings(rater: str, *votes: tuple[str, bool, bool], suite: str = "s") -> str:
    answers = [
        {"method": name, "protocol": "self", "clip": "one", "in_sync": a, "acceptable": b} for name, a, b in votes
    ]
    return json.dumps({"rater": rater, "suite": suite, "answers": answers})


def test_ratings_are_counted_by_rater(tmp_path: Path) -> None:
    put(tmp_path / "a", ratings("ann", ("x", True, True), ("y", True, False)))
    put(tmp_path / "b", ratings("bob", ("x", True, True), ("y", False, True)))
    put(tmp_path / "c", ratings("cyd", ("x", False, False)))
    put(tmp_path / "d", ratings("ann", ("y", True, True)))
    found = read_ratings(tmp_path / name for name in "abcd")
    assert found == {("x", "self", "one"): (2, 3), ("y", "self", "one"): (1, 2)}
    assert read_ratings([]) == {}


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "[]",
        '{"rater": "x", "suite": "s"}',
        ratings("x", ("m", True, True)).replace("true", '"yes"'),
        ratings("x", ("m", True, True)).replace('"clip"', '"film"'),
        b"\xff\xfe",
    ],
)
def test_damaged_ratings_are_named(tmp_path: Path, data: str | bytes) -> None:
    put(tmp_path / "good", ratings("ann", ("m", True, True)))
    put(tmp_path / "bad", data)
    with pytest.raises(OptionError, match="bad"):
        read_ratings([tmp_path / "good", tmp_path / "bad"])


def test_ratings_of_two_suites_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "a", ratings("ann"))
    put(tmp_path / "b", ratings("bob", suite="t"))
    with pytest.raises(OptionError, match="/b: rates the suite 't'"):
        read_ratings([tmp_path / "a", tmp_path / "b"])


RATER = """
<script>
localStorage.clear();
const press = key => document.dispatchEvent(new KeyboardEvent("keydown", {key: key}));
const begin = name => { $("name").value = name; $("start").requestSubmit(); };
const seen = [];
begin("Ann Ö");
for (let i = 0; i < DATA.cells.length; i++) { seen.push(order[at]); press("1"); press(i ? "3" : "4"); press("ArrowRight"); }
const first = {ratings: ratings(), seen: seen, order: order, progress: $("progress").textContent};
delete answers[keyOf(DATA.cells[order[3]])];
keep();
begin("Ann Ö");
first.again = [at, order.join()];
begin("Bob");
first.other = [at, order.join(), Object.keys(answers).length];
const said = document.createElement("pre");
said.id = "said";
said.textContent = JSON.stringify(first);
document.body.append(said);
</script>
"""


def shown(path: Path, folder: Path, place: str = "") -> tuple[str, list[str]]:
    """Return a page as a browser has it once its scripts ran, and what they complained of."""
    call = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={folder}", "--enable-logging=stderr", "--autoplay-policy=no-user-gesture-required",
            "--virtual-time-budget=1000", "--dump-dom", path.as_uri() + place]  # fmt: skip
    done = subprocess.run(call, capture_output=True, text=True, timeout=60)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def complaints(folder: Path) -> Iterator[str]:
    put(folder / "broken.html", "<!doctype html><title>x</title><script>nothing.there()</script>")
    yield from shown(folder / "broken.html", folder / "browser")[1]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium to open the pages with")
def test_pages_run_in_a_browser(out: Path, tmp_path: Path) -> None:
    film = make_film(tmp_path / "small.mp4", steady(25, 1), (64, 48)).read_bytes()
    for place in out.glob("films/*/*/*.mp4"):
        put(place, film)
    assert list(complaints(tmp_path)), "the browser tells no errors"
    path = write_report(out, (SHEET,))
    place = quote(f"silent/{NASTY}")
    dom, errors = shown(path, tmp_path / "browser", f"#{place}")
    assert errors == []
    assert "4 of 4 shown" in dom
    assert re.search(rf'<details class="clip" id="{re.escape(place)}"[^>]* open=""', dom)
    assert dom.count('preload="metadata"') == 4
    rate = out / "tried.html"
    put(rate, (out / "rate.html").read_text().replace("</body>", RATER + "</body>"))
    dom, errors = shown(rate, tmp_path / "browser")
    assert errors == []
    said = json.loads(html.unescape(dom.split('<pre id="said">')[1].split("</pre>")[0]))
    cells = rated(out)["cells"]
    assert said["seen"] == said["order"] and sorted(said["seen"]) == list(range(9)) != said["seen"]
    assert "9 of 9 rated" in said["progress"]
    put(tmp_path / "ratings.json", json.dumps(said["ratings"]))
    worst = cells[said["order"][0]]
    assert read_ratings([tmp_path / "ratings.json"]) == {
        (each["method"], each["protocol"], each["clip"]): (int(each != worst), 1) for each in cells
    }
    assert said["again"] == [3, ",".join(map(str, said["order"]))]
    assert said["other"][0] == 0 and said["other"][1] != said["again"][1] and said["other"][2] == 0
