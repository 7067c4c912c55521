// What is chosen for a film: its faces, and options in plain words.

import { $, seconds } from "/words.js";

// What has a place of its own and plain words; everything else stands under "All options" in the words of its help.
export const PLAIN = {
  strength: { label: "Lip movement", range: [0.5, 1.5, 0.05], note: "More opens the mouth wider than the speech asks for." },
  detail: { label: "Fineness of the lips", range: [0, 1.5, 0.05], note: "How much of the film's own grain painted lips get back." },
  when_longer: { label: "If the speech is longer", words: {
    cut: "cut the speech", loop: "start the film again", bounce: "run it back and forth", hold: "hold its last picture" } },
  when_shorter: { label: "If the film is longer", words: {
    silence: "close the mouth", cut: "end the film there", loop: "start the speech again" } },
  method: { label: "What paints the lips", words: {
    unisync: "unisync: the mouth alone", omnisync: "omnisync: the whole face", echo: "echo: nothing, to try it out" } },
};
export const ELSEWHERE = "face"; // chosen among the faces

export function showFaces(film, changed) {
  const sheet = $("#sheet"), faces = film.faces, columns = Math.min(6, faces.length), rows = Math.ceil(faces.length / columns);
  $("#faces fieldset").hidden = faces.length < 2;
  $("[name=who][value=largest]").checked = true;
  sheet.classList.toggle("only", faces.length < 2);
  $("#faces-note").textContent = faces.length
    ? (faces.length > 1 ? `${faces.length} faces; somebody who comes back in a later shot is listed again.` : "")
    : "No face was found in this film: choose another one, or give its place as x,y,w,h@seconds under “box” in all options.";
  const cell = new Image();
  cell.src = `/api/films/${film.id}/faces.png`;
  sheet.replaceChildren(...faces.map((face, at) => {
    const label = document.createElement("label"), box = document.createElement("input");
    const picture = document.createElement("i"), words = document.createElement("span"), name = document.createElement("b");
    label.className = "face";
    Object.assign(box, { type: "checkbox", value: face.name });
    name.textContent = face.name;
    words.append(name, `${face.from.toFixed(1)} to ${seconds(face.to)}`);
    box.addEventListener("change", () => {
      if (box.checked) $("[name=who][value=these]").checked = true;
      changed();
    });
    cell.addEventListener("load", () => { // the cells of one picture, without the words under them
      picture.style.backgroundImage = `url(${cell.src})`;
      const wide = cell.naturalWidth / columns, tall = cell.naturalHeight / rows;
      picture.style.backgroundSize = `${100 * columns}% ${100 * rows * tall / wide}%`;
      const down = rows * tall - wide;
      picture.style.backgroundPosition = `${columns > 1 ? 100 * (at % columns) / (columns - 1) : 0}% ${down ? 100 * Math.floor(at / columns) * tall / down : 0}%`;
    });
    label.append(box, picture, words);
    return label;
  }));
}

export function hideFaces() {
  $("#sheet").replaceChildren();
  $("#faces fieldset").hidden = true;
  $("#faces-note").textContent = "The faces are shown here once a film was looked at.";
}

export function face() {
  const who = $("[name=who]:checked").value;
  return who === "these" ? [...document.querySelectorAll("#sheet :checked")].map((box) => box.value).join(",") : who;
}

export function field(option) {
  const plain = PLAIN[option.name] || {}, label = document.createElement("label");
  let input;
  if (plain.range) {
    const [min, max, step] = plain.range, value = document.createElement("output");
    input = Object.assign(document.createElement("input"), { type: "range", min, max, step, value: option.default });
    value.textContent = option.default;
    input.addEventListener("input", () => { value.textContent = input.value; });
    label.append(value);
  } else if (option.choices) {
    input = document.createElement("select");
    if (option.default === null) input.append(new Option("by itself", ""));
    for (const choice of option.choices) input.append(new Option((plain.words || option.words || {})[choice] || choice, choice));
    input.value = option.default ?? "";
  } else {
    input = Object.assign(document.createElement("input"), { type: option.kind === "text" ? "text" : "number", step: "any", value: option.default ?? "" });
    if (option.default === null) input.placeholder = "by itself";
  }
  input.id = label.htmlFor = `option-${option.name}`; // an output within would be taken for what is labelled
  input.dataset.option = option.name;
  input.dataset.kind = option.kind;
  input.dataset.default = input.value;
  label.prepend(plain.label || option.name.replaceAll("_", " "));
  label.append(input);
  if (plain.note || !PLAIN[option.name]) label.append(Object.assign(document.createElement("small"), { textContent: plain.note || option.help }));
  return label;
}

export function values() {
  const found = {};
  for (const input of document.querySelectorAll("[data-option]")) {
    if (input.value === input.dataset.default || input.value === "") continue;
    const { option, kind } = input.dataset;
    found[option] = kind === "number" ? Number(input.value) : kind === "flag" ? input.value === "true" : input.value;
  }
  if (!found.box) found.face = face();
  return found;
}

// Puts the labels of this page in the place of the command line's flags.
export function plainly(words) {
  return words.replace(/--([a-z-]+)/g, (flag, name) => {
    const label = PLAIN[name.replaceAll("-", "_")]?.label;
    return label ? `“${label}”:` : flag;
  });
}
