"use strict";
const all = (root, what) => [...root.querySelectorAll(what)];
const sections = all(document, "details.clip");
const playing = new Map();
const films = section => all(section, "video").filter(film => !film.closest("figure").hidden);

function hear(section) {
  const who = section.querySelector(".bar select").value;
  for (const film of all(section, "video")) film.muted = film.dataset.who !== who;
}

function stop(section) {
  clearInterval(playing.get(section));
  playing.delete(section);
  for (const film of all(section, "video")) { film.pause(); film.playbackRate = 1; }
  section.querySelector(".play").textContent = "Play all from the start";
}

function ready(film) {
  return new Promise(done => {
    const look = () => { if (film.error || (film.readyState > 2 && !film.seeking)) done(); };
    for (const what of ["canplay", "seeked", "error"]) film.addEventListener(what, look);
    setTimeout(done, 5000);
    look();
  });
}

// The film that is heard leads; others run a little faster or slower until they are with it.
function keepInStep(section, shown) {
  const running = shown.filter(film => !film.paused && !film.ended);
  const lead = running.find(film => !film.muted) || running[0];
  if (!lead) return stop(section);
  for (const film of running) {
    const late = lead.currentTime - film.currentTime;
    if (Math.abs(late) > 0.5) film.currentTime = lead.currentTime;
    film.playbackRate = 1 + Math.max(-0.2, Math.min(0.2, late));
  }
}

async function playAll(section) {
  if (playing.has(section)) return stop(section);
  for (const other of [...playing.keys()]) stop(other);
  playing.set(section, 0);
  section.querySelector(".play").textContent = "Stop";
  const shown = films(section);
  for (const film of shown) {
    film.pause();
    film.preload = "auto";
    if (film.readyState) film.currentTime = 0; else film.load();
  }
  await Promise.all(shown.map(ready));
  if (!playing.has(section)) return;
  await Promise.allSettled(shown.map(film => film.play()));
  if (playing.has(section)) playing.set(section, setInterval(keepInStep, 200, section, shown));
}

function hide(section) {
  const method = document.getElementById("by-method").value;
  for (const figure of all(section, "figure[data-method]")) {
    figure.hidden = Boolean(method) && figure.dataset.method !== method;
  }
}

function choose() {
  const [protocol, tag, method] = ["protocol", "tag", "method"].map(what => document.getElementById("by-" + what).value);
  const fitting = new Set();
  for (const section of sections) {
    const fits = (!protocol || section.dataset.protocol === protocol)
      && (!tag || JSON.parse(section.dataset.tags).includes(tag))
      && (!method || JSON.parse(section.dataset.methods).includes(method));
    if (playing.has(section)) stop(section);
    section.hidden = !fits;
    if (fits) fitting.add("#" + section.id);
    hide(section);
  }
  for (const link of all(document, "nav ul ul a")) link.parentNode.hidden = !fitting.has(link.getAttribute("href"));
  document.getElementById("shown").textContent = fitting.size + " of " + sections.length + " shown";
}

// What is in a section becomes part of the page when it is opened for the first time.
function fill(section) {
  const template = section.querySelector("template");
  if (!template) return;
  template.replaceWith(template.content);
  section.querySelector(".play").addEventListener("click", () => playAll(section));
  section.querySelector(".bar select").addEventListener("change", () => hear(section));
  hear(section);
  hide(section);
}

function reveal() {
  const section = document.getElementById(location.hash.slice(1));
  if (section && section.matches("details.clip")) {
    if (section.hidden) { for (const what of all(document, "[id^=by-]")) what.value = ""; choose(); }
    section.open = true;
    section.scrollIntoView();
  }
}

for (const section of sections) {
  section.addEventListener("toggle", () => {
    if (section.open) fill(section); else if (playing.has(section)) stop(section);
    for (const film of all(section, "video")) {
      film.preload = section.open ? "metadata" : "none";
      film.load();
    }
  });
}
for (const what of all(document, "[id^=by-]")) what.addEventListener("change", choose);
addEventListener("hashchange", reveal);
choose();
reveal();
