// Shows the film as it was and as it is now, in step: one wiped over the other, beside it, or the new one alone.

const BEHIND_SECONDS = 0.06; // how far the old film may be off before it is put right

function make(tag, properties = {}, ...inside) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...inside);
  return element;
}

function clock(seconds) {
  const whole = Math.floor(seconds || 0);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export function showPlayer(place, made, source, still) {
  const now = make("video", { src: made, playsInline: true, preload: "auto" });
  const was = still
    ? make("img", { src: source, alt: "The picture as it was", className: "was" })
    : make("video", { src: source, playsInline: true, preload: "auto", muted: true, className: "was", tabIndex: -1 });
  const edge = make("div", { className: "edge" });
  const screen = make("div", { className: "screen wipe" }, now, was, edge,
    make("b", { className: "left", textContent: "before" }), make("b", { className: "right", textContent: "dubbed" }));

  const play = make("button", { type: "button", textContent: "Play", className: "main" });
  const seek = make("input", { type: "range", min: 0, max: 1, step: "any", value: 0 });
  seek.setAttribute("aria-label", "Where in the film");
  const time = make("span", { className: "time" });
  const wipe = make("input", { type: "range", min: 0, max: 100, step: 1, value: 50 });
  const wiper = make("label", {}, "Wipe", wipe);
  const modes = make("select", {}, ...[["wipe", "Wipe"], ["beside", "Side by side"], ["alone", "Dubbed alone"]]
    .map(([value, textContent]) => make("option", { value, textContent })));
  modes.setAttribute("aria-label", "How both films are shown");
  modes.style.width = "auto";
  place.replaceChildren(screen, make("div", { className: "line controls" }, play, seek, time),
    make("div", { className: "line controls" }, wiper, modes));

  const cut = () => {
    was.style.clipPath = modes.value === "wipe" ? `inset(0 ${100 - wipe.value}% 0 0)` : "none";
    edge.style.left = `${wipe.value}%`;
  };
  modes.addEventListener("change", () => {
    screen.className = `screen ${modes.value}`;
    wiper.hidden = modes.value !== "wipe";
    cut();
  });
  wipe.addEventListener("input", cut);
  const drag = (event) => {
    if (modes.value !== "wipe") return;
    const box = screen.getBoundingClientRect();
    wipe.value = 100 * (event.clientX - box.left) / box.width;
    cut();
  };
  screen.addEventListener("pointerdown", (event) => {
    screen.setPointerCapture(event.pointerId);
    drag(event);
  });
  screen.addEventListener("pointermove", (event) => event.buttons && drag(event));

  const inStep = () => {
    const length = was.duration;
    if (still || !length) return;
    const wanted = Math.min(now.currentTime, length);
    if (Math.abs(was.currentTime - wanted) > BEHIND_SECONDS) was.currentTime = wanted;
    if (now.paused !== was.paused && !was.ended) now.paused ? was.pause() : was.play().catch(() => {});
  };
  const told = () => {
    seek.max = now.duration || 1;
    if (document.activeElement !== seek || !now.paused) seek.value = now.currentTime;
    time.textContent = `${clock(now.currentTime)} / ${clock(now.duration)}`;
    play.textContent = now.paused ? "Play" : "Pause";
    inStep();
  };
  for (const name of ["timeupdate", "play", "pause", "seeked", "loadedmetadata", "ended"]) now.addEventListener(name, told);
  play.addEventListener("click", () => (now.paused ? now.play() : now.pause()));
  seek.addEventListener("input", () => { now.currentTime = seek.value; });
  was.addEventListener("error", () => { // a kind of film that browsers do not play
    modes.value = "alone";
    modes.dispatchEvent(new Event("change"));
    modes.hidden = true;
  });
  cut();
  told();
}
