// The page of labels: shows what the command asks about, sends answers in their order, and shows the next one meanwhile.
"use strict";

const TOKEN = document.querySelector("meta[name=token]").content;
const SHEET = 16;
const SIDES = { single: 768, sheet: 320 }; // pixels of an image
const AHEAD = 8; // images that are loaded before they are asked about
const REMEMBERED = 8; // names of this window, the last ones
const KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "0"];

const $ = (id) => document.getElementById(id);

let begun = null; // question, answers, strategy
let state = null; // progress, as the command has said it last
let queue = []; // objects that are asked about after the shown ones
let shown = null; // the object that is shown alone
let sheet = []; // those of the sheet: {item, answer: number, "skip" or null}
let cursor = 0;
let inSheet = sessionStorage.getItem("sheet") === "true";
let sending = []; // what the command has not answered yet, in order
let isSending = false;
let isLeaving = false; // the page, which ends what is on its way
let operations = 0; // since the page was loaded
let isStopped = false; // by a notice that wants to be answered
let names = []; // of this window, as the command knows it: the last one is its present one
let poll = 0;

// --- what the command is asked

async function post(path, given) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      keepalive: true, // also when the page is left
      headers: { "Content-Type": "application/json", "X-Galaxyml-Token": TOKEN },
      body: JSON.stringify({ window: names.at(-1), shown: onDisplay().map((item) => item.row), ...given }),
    });
  } catch {
    throw { error: "The command does not answer. Is it still running? What it has answered is on the disk." };
  }
  const content = await response.json().catch(() => ({ error: `The command answered ${response.status}.` }));
  if (!response.ok) throw content;
  return content;
}

function onDisplay() {
  return inSheet ? sheet.map((entry) => entry.item) : shown ? [shown] : [];
}

// A new name each time that the page is loaded, so that a copy of a window is told from it; the ones before are known too,
// as the command may not have heard of the last one.
async function enter(take = false) {
  const before = JSON.parse(sessionStorage.getItem("names") ?? "[]");
  const name = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");
  names = [...before, name].slice(-REMEMBERED);
  sessionStorage.setItem("names", JSON.stringify(names));
  try {
    const content = await post("/open", { before, take });
    begun = content;
    build();
    hideNotice();
    shown = null;
    sheet = [];
    sending = JSON.parse(sessionStorage.getItem("sending") ?? "[]");
    takeIn(content);
    sendAll();
  } catch (problem) {
    tell(problem, () => enter());
  }
}

function send(path, given, item) {
  sending.push({ path, given: { ...given, operation: `${names.at(-1)} ${++operations}` }, item });
  keep();
  sendAll();
}

// What was not answered when the page was left is sent again when it is loaded; the command knows what it has done.
function keep() {
  sessionStorage.setItem("sending", JSON.stringify(sending));
}

// One at a time, so that answers are written in the order in which they were given.
async function sendAll() {
  if (isSending) return;
  isSending = true;
  while (sending.length && !isStopped) {
    try {
      const content = await post(sending[0].path, sending[0].given);
      const done = sending.shift();
      keep();
      takeIn(content, done.path === "/undo");
    } catch (problem) {
      if (isLeaving) break;
      takeBack();
      tell(problem, () => refresh());
    }
  }
  isSending = false;
}

async function refresh() {
  try {
    takeIn(await post("/state", {}));
  } catch (problem) {
    tell(problem, () => refresh());
  }
}

// What could not be written is asked about again, at once.
function takeBack() {
  const items = sending.map((operation) => operation.item).filter(Boolean);
  sending = [];
  keep();
  if (inSheet) {
    for (const entry of sheet) if (items.includes(entry.item)) entry.answer = entry.before ?? null;
  } else if (items.length) {
    queue = [...items.slice(1), ...(shown ? [shown] : []), ...queue];
    shown = items[0];
  }
  draw();
}

// --- what the command says

function takeIn(content, isUndone = false) {
  state = content;
  for (const news of content.shown) { // what is shown stays, with what is known of it now
    Object.assign(onDisplay().find((item) => item.row === news.row) ?? {}, news);
  }
  if (isUndone) putBack(content.undone);
  const pending = new Set(sending.map((operation) => operation.given.row));
  const here = new Set(onDisplay().map((item) => item.row));
  queue = content.items.filter((item) => !pending.has(item.row) && !here.has(item.row));
  if (inSheet && !sheet.length) fillSheet();
  if (!inSheet && !shown) shown = queue.shift() ?? null;
  draw();
  clearTimeout(poll);
  if (state.learning) poll = setTimeout(() => sending.length || isStopped || refresh(), 1000);
}

function putBack(item) {
  if (!item) {
    speak("There is nothing to take back.");
    return;
  }
  speak(`Taken back: ${item.id}`);
  if (!inSheet) {
    shown = item;
    return;
  }
  const index = sheet.findIndex((entry) => entry.item.row === item.row);
  if (index >= 0) {
    sheet[index].answer = null;
    cursor = index;
  } else {
    const open = sheet.filter((entry) => entry.answer === null).map((entry) => entry.item);
    sheet = [item, ...open].slice(0, SHEET).map((item) => ({ item, answer: null }));
    cursor = 0;
  }
}

function fillSheet() {
  sheet = queue.splice(0, SHEET).map((item) => ({ item, answer: null }));
  cursor = 0;
}

// --- what a person does

function answer(number) {
  if (number >= begun.answers.length) return;
  give("/label", number, begun.answers[number]);
}

function skip() {
  give("/skip", "skip", "skipped");
}

function give(path, value, name) {
  const entry = inSheet ? sheet[cursor] : null;
  const item = inSheet ? entry?.item : shown;
  if (isStopped || !item) return;
  if (path === "/label" && !isSeen(item)) return; // nobody answers about what they do not see
  if (entry && path === "/skip" && entry.answer !== null) return;
  const given = path === "/label" ? { row: item.row, answer: value } : { row: item.row };
  if (inSheet) {
    entry.before = entry.answer;
    entry.answer = value;
    const open = sheet.findIndex((other, index) => index > cursor && other.answer === null);
    cursor = open >= 0 ? open : Math.max(sheet.findIndex((other) => other.answer === null), 0);
    if (sheet.every((other) => other.answer !== null)) cursor = sheet.indexOf(entry);
  } else {
    shown = queue.shift() ?? null;
    flash(value);
  }
  speak(`${item.id}: ${name}.`);
  draw();
  send(path, given, item);
}

function undo() {
  if (!isStopped) send("/undo", {});
}

function nextSheet() {
  if (isStopped || sheet.some((entry) => entry.answer === null)) return;
  newSheet();
  draw();
}

// Of what is known, or else of what the command says.
function newSheet() {
  sheet = [];
  if (queue.length >= Math.min(SHEET, state.total - state.labelled)) fillSheet();
  else send("/state", {});
}

function toggle() {
  inSheet = !inSheet;
  sessionStorage.setItem("sheet", inSheet);
  if (inSheet) {
    queue = [...(shown ? [shown] : []), ...queue];
    shown = null;
    newSheet();
  } else {
    const open = sheet.filter((entry) => entry.answer === null).map((entry) => entry.item);
    queue = [...open, ...queue];
    sheet = [];
    shown = queue.shift() ?? null;
  }
  draw();
}

function move(steps) {
  const next = cursor + steps;
  if (next < 0 || next >= sheet.length) return;
  cursor = next;
  draw();
}

// --- images

const images = new Map(); // by address, the last ones

function image(item, mode) {
  const address = `/image/${item.row}/${SIDES[mode]}?${begun.version}`;
  let found = images.get(address);
  if (!found) {
    found = new Image();
    found.draggable = false;
    found.addEventListener("load", () => found.isConnected && draw());
    found.src = address;
  }
  images.delete(address);
  images.set(address, found);
  if (images.size > 96) images.delete(images.keys().next().value);
  found.alt = `Object ${item.id}`;
  return found;
}

function isSeen(item) {
  const found = image(item, inSheet ? "sheet" : "single");
  return found.isConnected && found.complete && found.naturalWidth > 0;
}

// --- drawing

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function build() {
  document.title = begun.question;
  $("question").textContent = begun.question;
  $("strategy").textContent = begun.strategy;
  $("answers").replaceChildren(
    ...begun.answers.map((name, number) => {
      const button = element("button");
      button.type = "button";
      button.setAttribute("aria-keyshortcuts", KEYS[number]);
      button.append(element("kbd", KEYS[number]), element("span", name, "name"), element("span", "", "count"));
      button.addEventListener("click", () => answer(number));
      return button;
    }),
  );
  $("help-answers").replaceChildren(
    ...begun.answers.map((name, number) => {
      const row = element("tr");
      const key = element("td");
      key.append(element("kbd", KEYS[number]));
      row.append(key, element("td", name));
      return row;
    }),
  );
  $("main").hidden = false;
}

function draw() {
  if (!state) return;
  const item = inSheet ? sheet[cursor]?.item : shown;
  drawProgress();
  $("single").hidden = inSheet || !item;
  $("sheet").hidden = !inSheet || !sheet.length;
  $("toggle").setAttribute("aria-pressed", inSheet);
  $("finished").hidden = Boolean(item) || sending.length > 0;
  if (!item && !sending.length) {
    $("finished").textContent =
      `All ${count(state.total, "object")} are labelled. Stop the command by Ctrl+C in its terminal: it says how to train on the labels.`;
  }
  if (inSheet) drawSheet();
  else if (item) drawSingle(item);
  const isAsked = Boolean(item) && !isStopped;
  for (const button of $("answers").children) button.disabled = !isAsked || !isSeen(item);
  $("skip").disabled = !isAsked;
  $("undo").disabled = isStopped;
  $("next").hidden = !inSheet || !sheet.length || sheet.some((entry) => entry.answer === null);
  drawAbout(item);
  const mode = inSheet ? "sheet" : "single";
  queue.slice(0, inSheet ? SHEET : AHEAD).forEach((next) => image(next, mode));
}

function drawProgress() {
  const parts = [`${number(state.labelled)} of ${number(state.total)} labelled`];
  if (state.skipped) parts.push(`${number(state.skipped)} skipped`);
  if (state.session) parts.push(`${number(state.session)} in this session`);
  if (state.per_minute) parts.push(`${Math.round(state.per_minute)} a minute`);
  $("progress-text").textContent = parts.join(" · ");
  $("progress").max = state.total;
  $("progress").value = state.labelled;
  [...$("answers").children].forEach((button, answer) => {
    button.querySelector(".count").textContent = number(state.counts[answer]);
    button.setAttribute("aria-label", `${begun.answers[answer]}, so far ${state.counts[answer]}`);
  });
}

function drawSingle(item) {
  const found = image(item, "single");
  if ($("picture").firstChild !== found) $("picture").replaceChildren(found);
  $("caption").replaceChildren(element("span", item.id));
}

function drawSheet() {
  $("sheet").replaceChildren(
    ...sheet.map((entry, index) => {
      const tile = element("button", undefined, entry.answer === null ? "tile" : "tile done");
      tile.type = "button";
      tile.tabIndex = index === cursor ? 0 : -1;
      tile.setAttribute("aria-current", index === cursor);
      tile.append(image(entry.item, "sheet"));
      const said = entry.answer === null ? "" : entry.answer === "skip" ? "skipped" : begun.answers[entry.answer];
      if (said) tile.append(element("span", said, entry.answer === "skip" ? "skipped" : ""));
      tile.setAttribute("aria-label", said ? `${entry.item.id}, ${said}` : entry.item.id);
      tile.addEventListener("click", () => {
        cursor = index;
        draw();
      });
      const row = element("li");
      row.append(tile);
      return row;
    }),
  );
  const active = document.activeElement;
  if (!active || active === document.body) $("sheet").children[cursor]?.firstChild.focus({ preventScroll: true });
}

function drawAbout(item) {
  const prediction = item?.prediction;
  $("prediction").hidden = !prediction;
  if (prediction) {
    const verdict = $("prediction").querySelector(".verdict");
    verdict.textContent = prediction.verdict;
    verdict.hidden = !prediction.verdict;
    if (prediction.confidence !== null && prediction.verdict) verdict.append(element("small", share(prediction.confidence)));
    const note = $("prediction").querySelector(".note");
    note.textContent = prediction.ood ? "Out of distribution: unlike what the run was trained on." : prediction.caption;
    bars($("prediction").querySelector(".bars"), prediction.bars);
    $("prediction").querySelector(".facts").replaceChildren(
      ...prediction.facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]),
    );
  }
  const suggested = item?.suggested;
  $("suggested").hidden = !suggested;
  if (suggested) bars($("suggested").querySelector(".bars"), begun.answers.map((name, answer) => [name, suggested[answer]]));
  const learnt = state.learnt_from ? `Learnt from ${count(state.learnt_from, "label")}, by ${begun.compared_by}.` : "Nothing is learnt yet.";
  $("learning").textContent = state.failure || (state.learning ? "Learning from your answers …" : learnt);
}

function bars(place, values) {
  place.replaceChildren(
    ...values.flatMap(([name, value]) => {
      const bar = element("span", undefined, "bar");
      const fill = element("i");
      fill.style.width = `${100 * Math.min(Math.max(value ?? 0, 0), 1)}%`;
      bar.append(fill);
      bar.setAttribute("aria-hidden", "true");
      return [element("span", name), bar, element("b", value === null ? "–" : share(value))];
    }),
  );
}

function flash(number) {
  const button = $("answers").children[number];
  if (!button) return;
  button.classList.add("pressed");
  setTimeout(() => button.classList.remove("pressed"), 160);
}

const number = (value) => value.toLocaleString("en");
const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
const share = (value) => `${Math.round(100 * value)} %`;

function speak(text) {
  $("spoken").textContent = text;
}

// --- notices

function tell(problem, retry) {
  isStopped = true;
  const [text, act] = problem.stale
    ? ["Go on here", () => enter(true)]
    : problem.ended
      ? ["Load again", () => location.reload()]
      : ["Try again", retry];
  $("notice").querySelector("p").textContent = problem.error;
  const button = $("notice").querySelector("button");
  button.textContent = text;
  button.onclick = () => {
    hideNotice();
    act();
  };
  $("notice").hidden = false;
  draw();
}

function hideNotice() {
  $("notice").hidden = true;
  isStopped = false;
}

// --- events

const ACTIONS = { u: undo, Backspace: undo, s: skip, " ": skip, g: toggle, "?": () => $("help").showModal(), Enter: nextSheet };
const ARROWS = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -4, ArrowDown: 4 };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open || !begun) return;
  const focused = document.activeElement;
  const isButton = focused?.matches("button:focus-visible") && !focused.classList.contains("tile");
  if (isButton && (event.key === " " || event.key === "Enter")) return; // which press it
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (inSheet && key in ARROWS) {
    event.preventDefault();
    move(ARROWS[key]);
  } else if (KEYS.includes(key)) {
    if (!event.repeat) answer(KEYS.indexOf(key));
  } else if (key in ACTIONS) {
    event.preventDefault();
    if (!event.repeat) ACTIONS[key]();
  }
});

for (const [id, act] of Object.entries({ undo, skip, toggle, next: nextSheet, "help-button": ACTIONS["?"] })) {
  $(id).addEventListener("click", act);
}
// A button that was pressed by a mouse or a finger gives the keys back.
document.addEventListener("click", (event) => event.detail && document.activeElement?.matches("button") && document.activeElement.blur());
addEventListener("pagehide", () => {
  isLeaving = true;
  if (begun && !isStopped) post("/close", {}).catch(() => {});
});
addEventListener("pageshow", (event) => {
  isLeaving = false;
  if (event.persisted) enter();
});
enter();
