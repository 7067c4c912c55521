// The page of `unisync serve`: a film and a speech go up, faces are picked, a job is followed, the new film is shown.

import { ELSEWHERE, PLAIN, face, field, hideFaces, plainly, showFaces, values } from "/choices.js";
import { showPlayer } from "/player.js";
import { $, long, seconds, size } from "/words.js";

const PLURAL = { film: "films", speech: "speeches" };

const chosen = { film: null, speech: null };
let limits = {}, options = [], job = null, following = null;

async function ask(path, init = {}) {
  const answer = await fetch(path, init).catch(() => { throw new Error("The server does not answer: is it still running?"); });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error || `The server answers ${answer.status}.`);
  return body;
}

function send(path, values) {
  return ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(values) });
}

function problem(element, error) {
  element.hidden = !error;
  element.textContent = error ? error.message || String(error) : "";
}

// Calls `tell` with the state of a film, speech or job as it changes, until it ends.
function follow(path, tell) {
  const source = new EventSource(path);
  source.addEventListener("state", (event) => tell(JSON.parse(event.data)));
  source.addEventListener("end", () => source.close());
  return source;
}

// ---- what goes up

function upload(kind, file, tell) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/${PLURAL[kind]}?name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("content-type", "application/octet-stream");
    request.upload.addEventListener("progress", (event) => tell(event.loaded / event.total));
    request.addEventListener("error", () => failed(new Error("The server did not take the file: is it still running?")));
    request.addEventListener("load", () => {
      let body = {};
      try { body = JSON.parse(request.responseText); } catch { /* the status says it */ }
      if (request.status < 300) done(body);
      else failed(new Error(body.error || `The server answers ${request.status}.`));
    });
    request.send(file);
  });
}

function shown(kind, about, address) {
  const still = about.facts.still;
  const element = document.createElement(kind === "speech" ? "audio" : still ? "img" : "video");
  element.src = address;
  if (still) element.alt = about.title;
  else element.controls = true;
  if (kind === "film" && !still) Object.assign(element, { muted: true, playsInline: true, preload: "metadata" });
  return element;
}

async function take(kind, file) {
  const place = $(`#${kind}`), busy = $(".busy", place), bar = $("progress", busy), words = $("[role=status]", busy);
  problem($(".problem", place), null);
  if (file.size > limits.max_upload) {
    problem($(".problem", place), `The file has ${size(file.size)}, and this server takes ${size(limits.max_upload)} at most.`);
    return;
  }
  clear(kind);
  $(".drop", place).hidden = $(".limits", place).hidden = true;
  if (kind === "speech") $(".record", place).hidden = true;
  busy.hidden = false;
  try {
    const about = await upload(kind, file, (share) => {
      bar.value = share;
      words.textContent = share < 1 ? `Sending, ${Math.round(100 * share)} %` : "Sent";
    });
    await new Promise((done, failed) => follow(`/api/${PLURAL[kind]}/${about.id}/events`, (now) => {
      if (now.state === "ready") done(Object.assign(about, now));
      else if (now.state === "refused") failed(new Error(now.error));
      else if (now.total) {
        bar.value = now.done / now.total;
        words.textContent = `Looking for faces, frame ${now.done} of ${now.total}`;
      } else {
        bar.removeAttribute("value");
        words.textContent = kind === "film" ? "Looking at the film" : "Listening";
      }
    }));
    chosen[kind] = about;
    $(".stage", place).replaceChildren(shown(kind, about, `/api/${PLURAL[kind]}/${about.id}/file`));
    const facts = about.facts;
    $(".title", place).textContent = `${about.title} · ${facts.still ? "still" : seconds(facts.seconds)}${facts.width ? ` · ${facts.width}×${facts.height}` : ""}`;
    $(".shown", place).hidden = false;
    if (kind === "film") showFaces(about, lacks);
  } catch (error) {
    clear(kind);
    problem($(".problem", place), error);
  }
  busy.hidden = true;
  lacks();
}

function clear(kind) {
  const place = $(`#${kind}`);
  chosen[kind] = null;
  $(".drop", place).hidden = $(".limits", place).hidden = false;
  $(".shown", place).hidden = true;
  $(".stage", place).replaceChildren();
  $("input[type=file]", place).value = "";
  if (kind === "film") hideFaces();
  else $(".record", place).hidden = !navigator.mediaDevices?.getUserMedia;
  lacks();
}

function acceptFiles(kind) {
  const place = $(`#${kind}`);
  $("input[type=file]", place).addEventListener("change", (event) => event.target.files[0] && take(kind, event.target.files[0]));
  $(".again", place).addEventListener("click", () => { clear(kind); $("input[type=file]", place).focus(); });
  for (const name of ["dragenter", "dragover"]) place.addEventListener(name, (event) => {
    event.preventDefault();
    place.classList.add("over");
  });
  for (const name of ["dragleave", "drop"]) place.addEventListener(name, (event) => {
    event.preventDefault();
    if (name === "drop" || !place.contains(event.relatedTarget)) place.classList.remove("over");
    if (event.dataTransfer?.files[0] && name === "drop") take(kind, event.dataTransfer.files[0]);
  });
}

// ---- recording

let recorder = null;

async function record() {
  const button = $("#record"), words = $(".words", button), timer = $("#record-time");
  if (recorder) return recorder.stop();
  problem($("#speech .problem"), null);
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch {
    return problem($("#speech .problem"), "The microphone is not to be had: allow it for this page, or choose a file.");
  }
  const parts = [], begun = Date.now();
  recorder = new MediaRecorder(stream);
  const ticking = setInterval(() => { timer.textContent = seconds((Date.now() - begun) / 1000); }, 200);
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  recorder.addEventListener("stop", () => {
    clearInterval(ticking);
    stream.getTracks().forEach((track) => track.stop());
    const kind = recorder.mimeType.includes("mp4") ? "m4a" : recorder.mimeType.includes("ogg") ? "ogg" : "webm";
    recorder = null;
    button.classList.remove("recording");
    words.textContent = "Record";
    timer.textContent = "";
    take("speech", new File(parts, `recording.${kind}`));
  });
  recorder.start();
  button.classList.add("recording");
  words.textContent = "Stop";
}

// Says what is missing before a film can be made.
function lacks() {
  const missing = [];
  if (!chosen.film) missing.push("a film");
  if (!chosen.speech) missing.push("a speech");
  if (chosen.film && !face()) missing.push("a face");
  if (!$("#consent").checked) missing.push("the consent above");
  $("#dub").disabled = missing.length > 0;
  $("#lacks").textContent = missing.length ? `Still missing: ${missing.join(", ")}.` : "";
}

// ---- jobs

async function begin(event) {
  event.preventDefault();
  problem($("#go-problem"), null);
  $("#dub").disabled = true;
  try {
    const container = $("[data-container]").value;
    await show(await send("/api/jobs", { film: chosen.film.id, speech: chosen.speech.id, options: values(), container }));
    $("#work").scrollIntoView({ behavior: "smooth" });
    $("#work").focus({ preventScroll: true });
  } catch (error) {
    problem($("#go-problem"), error);
  }
  lacks();
  list();
}

const WAITS = { queued: "Others are before it", running: "Beginning" };
const STAGES = { scan: "Looking at the film", dub: "Painting" };
const STATES = { queued: "Waiting", running: "At work", interrupted: "Stopped in the middle", done: "Done", failed: "Failed", cancelled: "Cancelled" };

async function show(about) {
  following?.close();
  job = about;
  location.hash = `job=${about.id}`;
  $("#work").hidden = false;
  $("#preview").hidden = true;
  $("#player").hidden = true;
  $("#player").replaceChildren();
  tell(about);
  following = follow(`/api/jobs/${about.id}/events`, tell);
}

// Says how long a stage may still take, by its pace since we saw it first.
const first = {};
function left(stage, done, total) {
  const key = `${job.id} ${stage}`, now = Date.now() / 1000;
  first[key] ??= { done, now };
  const did = done - first[key].done;
  return did > 0 && done < total ? `, about ${long((total - done) * (now - first[key].now) / did)} left` : "";
}

function tell(about) {
  const ended = !["queued", "running"].includes(about.state), was = job?.state;
  job = about;
  const bar = $("#bar"), { stage, done, total } = about.progress;
  $("#work-title").textContent = `${STATES[about.state]}: ${about.title}`;
  $("#at-work").hidden = ended;
  if (about.state === "running" && total) bar.value = done / total;
  else bar.removeAttribute("value");
  $("#stage").textContent = about.state === "running" && total ? `${STAGES[stage] || stage}, frame ${done} of ${total}${left(stage, done, total)}` : WAITS[about.state] || "";
  if (about.state === "running" && about.preview) {
    $("#preview").src = `/api/jobs/${about.id}/preview.jpg?at=${about.preview}`;
    $("#preview").hidden = false;
  }
  problem($("#work-problem"), about.state === "failed" || about.state === "interrupted" ? plainly(about.error || "The worker was ended: try again.") : null);
  $("#warnings").replaceChildren(...about.warnings.map((words) => Object.assign(document.createElement("li"), { textContent: plainly(words) })));
  $("#after").hidden = !ended;
  $("#download").hidden = about.state !== "done";
  $("#retry").hidden = about.state === "done";
  $("#outcome").textContent = about.line;
  if (about.state === "done") {
    $("#download").href = `/api/jobs/${about.id}/result?download=1`;
    if ($("#player").hidden) {
      $("#player").hidden = false;
      showPlayer($("#player"), `/api/jobs/${about.id}/result`, `/api/films/${about.film}/file`, about.still);
    }
  }
  if (was !== about.state) list();
}

async function list() {
  const { jobs } = await ask("/api/jobs");
  $("#past").hidden = !jobs.length;
  $("#jobs").replaceChildren(...jobs.reverse().map((about) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const title = Object.assign(document.createElement("span"), { className: "title grow", textContent: about.title });
    const bad = ["failed", "interrupted"].includes(about.state) ? " bad" : "";
    const state = Object.assign(document.createElement("span"), { className: `state${bad}`, textContent: `${about.state}, ${new Date(about.created).toLocaleString()}` });
    button.append(title, state);
    button.addEventListener("click", () => show(about).then(() => $("#work").scrollIntoView({ behavior: "smooth" })));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}

async function change(path, method = "POST") {
  try {
    return await ask(path, { method });
  } catch (error) {
    problem($("#work-problem"), error);
    return null;
  }
}

// ---- beginning

async function open() {
  ({ limits } = await ask("/api/session"));
  ({ options } = await ask("/api/options"));
  $("#login").hidden = true;
  $("#studio").hidden = false;
  const most = `At most ${size(limits.max_upload)} and ${long(limits.max_seconds)}`;
  $("#film-note").textContent = `${most}; up to ${(limits.max_pixels / 1e6).toFixed(1)} megapixels.`;
  $("#speech-note").textContent = `${most}.`;
  for (const option of options) {
    if (option.name !== ELSEWHERE) $(PLAIN[option.name] ? "#plain" : "#all").append(field(option));
  }
  const container = document.createElement("label"), kinds = document.createElement("select");
  for (const [kind, words] of Object.entries({ mp4: "mp4: plays everywhere", mov: "mov", mkv: "mkv", webm: "webm" })) kinds.append(new Option(words, kind));
  kinds.dataset.container = "";
  container.append("Kind of file", kinds);
  $("#plain").append(container);
  clear("film");
  clear("speech");
  list();
  const known = /job=([\w.-]+)/.exec(location.hash);
  if (known) ask(`/api/jobs/${known[1]}`).then(show).catch(() => { location.hash = ""; });
}

async function main() {
  acceptFiles("film");
  acceptFiles("speech");
  $("#record").addEventListener("click", record);
  $("#consent").addEventListener("change", lacks);
  $("#faces").addEventListener("change", lacks);
  $("#go").addEventListener("submit", begin);
  $("#cancel").addEventListener("click", () => change(`/api/jobs/${job.id}/cancel`));
  $("#retry").addEventListener("click", async () => { const again = await change(`/api/jobs/${job.id}/retry`); if (again) show(again); });
  $("#remove").addEventListener("click", async () => {
    if (!await change(`/api/jobs/${job.id}`, "DELETE")) return;
    location.hash = "";
    $("#work").hidden = true;
    list();
  });
  $("#login").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await send("/api/session", { token: $("#token").value });
      await open();
    } catch (error) {
      problem($("#login-problem"), error);
    }
  });
  const session = await ask("/api/session");
  $("#version").textContent = `UniSync ${session.version}.`;
  if (session.known) await open();
  else $("#login").hidden = false;
}

main();
