"use strict";
const DATA = JSON.parse(document.getElementById("cells").textContent);
const $ = id => document.getElementById(id);
const keyOf = cell => JSON.stringify([cell.method, cell.protocol, cell.clip, cell.size]);
let rater = "", order = [], at = 0, answers = {};

// The order is the name's: its letters seed a generator (xorshift) that shuffles the films.
function shuffled(num, name) {
  let state = 1;
  const step = () => {
    state ^= state << 13; state ^= state >>> 17; state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  for (const letter of name) { state = (state + letter.codePointAt(0)) | 0 || 1; for (let i = 0; i < 8; i++) step(); }
  const order = [...Array(num).keys()];
  for (let i = num - 1; i > 0; i--) {
    const j = Math.floor(step() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

const place = () => "unisync-ratings " + JSON.stringify([DATA.suite, rater]);
const answerTo = cell => answers[keyOf(cell)] || [null, null];
const isDone = cell => answerTo(cell).every(each => each !== null);

function trouble(words) {
  $("trouble").textContent = words;
  $("trouble").hidden = !words;
}

function keep() {
  try { localStorage.setItem(place(), JSON.stringify(answers)); }
  catch { trouble("This browser does not keep your answers: save them before you close the page."); }
}

function recall() {
  try { return JSON.parse(localStorage.getItem(place())) || {}; } catch { return {}; }
}

function mark() {
  const answer = answerTo(DATA.cells[order[at]]);
  for (const button of document.querySelectorAll("[data-question]")) {
    button.setAttribute("aria-pressed", String(answer[button.dataset.question] === (button.dataset.answer === "1")));
  }
  const num = DATA.cells.filter(isDone).length;
  $("bar").max = order.length;
  $("bar").value = num;
  $("progress").textContent = "film " + (at + 1) + ", " + num + " of " + order.length + " rated"
    + (num === order.length ? ": all done, save the answers" : "");
  $("back").disabled = at === 0;
  $("next").disabled = at === order.length - 1;
}

function show() {
  const cell = DATA.cells[order[at]];
  trouble("");
  $("source").parentNode.hidden = !cell.source;
  $("pair").classList.toggle("alone", !cell.source);
  if (cell.source) $("source").src = cell.source; else $("source").removeAttribute("src");
  $("film").src = cell.film;
  $("silent").hidden = cell.protocol !== "silent";
  mark();
  play();
}

function play() {
  $("film").currentTime = 0;
  $("film").play().catch(() => {});
}

function go(step) {
  at = Math.max(0, Math.min(order.length - 1, at + step));
  show();
}

function answer(question, yes) {
  const cell = DATA.cells[order[at]];
  const both = [...answerTo(cell)];
  both[question] = yes;
  answers[keyOf(cell)] = both;
  keep();
  mark();
}

function ratings() {
  const rated = DATA.cells.filter(isDone).map(cell => {
    const [inSync, acceptable] = answerTo(cell);
    return {method: cell.method, protocol: cell.protocol, clip: cell.clip, in_sync: inSync, acceptable: acceptable};
  });
  return {rater: rater, suite: DATA.suite, answers: rated};
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(ratings(), null, 1) + "\n"], {type: "application/json"}));
  link.download = "ratings-" + rater.replace(/[^\p{L}\p{N}._-]+/gu, "_") + ".json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

$("start").addEventListener("submit", event => {
  event.preventDefault();
  rater = $("name").value.trim();
  if (!rater) return;
  if (!DATA.cells.length) return trouble("There is no film to rate.");
  answers = recall();
  order = shuffled(DATA.cells.length, rater);
  at = Math.max(0, order.findIndex(i => !isDone(DATA.cells[i])));
  $("start").hidden = true;
  $("rating").hidden = false;
  document.activeElement.blur();
  show();
});
for (const button of document.querySelectorAll("[data-question]")) {
  button.addEventListener("click", () => answer(Number(button.dataset.question), button.dataset.answer === "1"));
}
for (const [id, act] of [["back", () => go(-1)], ["next", () => go(1)], ["again", play], ["save", save]]) {
  $(id).addEventListener("click", act);
}
$("film").addEventListener("play", () => {
  $("source").currentTime = $("film").currentTime;
  $("source").play().catch(() => {});
});
$("film").addEventListener("pause", () => $("source").pause());
$("film").addEventListener("seeked", () => { $("source").currentTime = $("film").currentTime; });
$("film").addEventListener("error", () => trouble("This film cannot be played here: go on to the next."));
const KEYS = {
  1: () => answer(0, true), 2: () => answer(0, false), 3: () => answer(1, true), 4: () => answer(1, false),
  ArrowLeft: () => go(-1), ArrowRight: () => go(1), " ": play, s: save,
};
document.addEventListener("keydown", event => {
  const act = KEYS[event.key];
  if ($("rating").hidden || !act || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  event.preventDefault();
  act();
}, true);
