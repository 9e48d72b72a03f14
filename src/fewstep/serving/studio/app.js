// @ts-check
/** The studio: the page's parts, put together. */

import { Chat } from "./chat.js";
import { Comparison } from "./compare.js";
import { fingerprint, History } from "./history.js";
import { Meter } from "./meter.js";
import { Pace } from "./pace.js";
import { isPng, texts, withText } from "./png.js";
import { Race } from "./race.js";
import { Surface } from "./surface.js";
import { Wire } from "./wire.js";

/** @typedef {import("./frames.js").Answer} Answer */
/** @typedef {import("./frames.js").Picture} Picture */
/** @typedef {import("./history.js").Frame} Frame */
/** @typedef {import("./history.js").Settings} Settings */

const KEEP_AFTER = 900; // milliseconds without a change after which a frame is kept
const STATE = "fewstep.studio"; // the PNG text that holds the settings and the drawing
const STRENGTHS = { sketch: { max: 2, value: 1 }, paint: { max: 1, value: 0.6 }, mask: { max: 1, value: 1 } };

/** @param {string} id @returns {HTMLElement} */
const find = (id) => {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no '${id}'`);
  return found;
};
/** @param {string} id @returns {HTMLInputElement} */
const input = (id) => /** @type {HTMLInputElement} */ (find(id));
/** @param {string} id @returns {HTMLSelectElement} */
const select = (id) => /** @type {HTMLSelectElement} */ (find(id));

/** @type {any} what the server can be asked for */
let about = null;
/** @type {{ answer: Answer, settings: Settings, bitmaps: ImageBitmap[] } | null} the frame on the screen */
let shown = null;
let floor = 0; // answers to frames up to this one came too late: something newer is on the screen
let fresh = false; // whether the next change gets a new seed, unless the seed is locked
let kept = ""; // what the last kept frame was made from
/** @type {number | undefined} */
let keeping;

const wire = new Wire(connected);
const meter = new Meter(find("latency"), find("stages"), /** @type {HTMLDetailsElement} */ (find("meter")));
const pace = new Pace(wire, capture, show, (message) => say(message, true));
const surface = new Surface(
  /** @type {HTMLCanvasElement} */ (find("picture")), /** @type {HTMLCanvasElement} */ (find("mask")), find("cursor"), touch, () => {},
);
const history = new History(find("history"), restore);
const comparison = new Comparison(find, history);
const race = new Race(find, capture);
const chat = new Chat(find, () => ({ colours: Object.keys(about?.palette ?? {}), styles: about?.styles ?? [], headers: wire.headers() }), take);

/** @param {string} text @param {boolean} [wrong] */
function say(text, wrong = false) {
  find("said").textContent = text;
  find("said").classList.toggle("wrong", wrong);
}

/** @param {import("./wire.js").State} state */
async function connected(state) {
  const chip = find("wire");
  chip.dataset.state = state;
  chip.textContent = { connecting: "connecting", socket: "live", http: "live (without WebSocket)", offline: "reconnecting …", locked: "locked" }[state];
  const locked = /** @type {HTMLDialogElement} */ (find("locked"));
  if (state === "locked" && !locked.open) locked.showModal();
  if (!wire.ready) return;
  try {
    offer(await wire.about());
  } catch {
    return wire.later();
  }
  pace.touch(); // what was said or drawn before the server was there
}

/**
 * Show what this model can be asked for.
 * @param {any} now
 */
function offer(now) {
  const first = about === null;
  about = now;
  find("model").textContent = about.model;
  find("race").hidden = !about.teacher;
  find("chat").hidden = !about.prompt;
  select("style").parentElement?.toggleAttribute("hidden", !about.styles.length);
  if (select("style").options.length === 1) for (const style of about.styles) select("style").add(new Option(style));
  /** @type {HTMLOptionElement} */ (select("mode").options[0]).disabled = !about.control;
  if (!about.control && select("mode").value === "sketch") select("mode").value = "paint";
  input("steps").max = about.steps.most;
  Object.assign(input("guidance"), { min: about.guidance.low, max: about.guidance.high });
  find("guidance").parentElement?.toggleAttribute("hidden", about.guidance.low === about.guidance.high);
  find("prompt").parentElement?.toggleAttribute("hidden", !about.prompt);
  if (!first) return;
  input("steps").value = about.steps.default;
  if (about.guidance.default !== null) input("guidance").value = about.guidance.default;
  colours(Object.entries(about.palette));
  shownValues();
}

/** @param {[string, string][]} palette */
function colours(palette) {
  const all = palette.length ? palette : [["black", "#1e1e21"], ["red", "#db2626"], ["green", "#33a842"], ["blue", "#296be0"], ["white", "#ebebed"]];
  const buttons = all.map(([name, value]) => {
    const button = Object.assign(document.createElement("button"), { type: "button", title: name });
    button.setAttribute("role", "radio");
    button.setAttribute("aria-label", name);
    button.style.background = value;
    button.addEventListener("click", () => {
      surface.colour = value;
      for (const each of buttons) each.setAttribute("aria-checked", String(each === button));
      if (surface.tool === "eraser" || surface.tool === "mask") choose("pen");
    });
    return button;
  });
  find("palette").replaceChildren(...buttons);
  (buttons.find(({ title }) => title === "black") ?? buttons[0]).click();
}

/** @returns {Settings} */
function settings() {
  return {
    prompt: input("prompt").value.trim(),
    style: select("style").value,
    mode: select("mode").value,
    strength: Number(input("strength").value),
    steps: Number(input("steps").value),
    guidance: Number(input("guidance").value),
    seed: Math.max(0, Math.floor(Number(input("seed").value) || 0)),
    images: find("four").getAttribute("aria-pressed") === "true" ? 4 : 1,
  };
}

/** @param {Partial<Settings>} now */
function put(now) {
  for (const [name, value] of Object.entries(now)) {
    if (name === "images") find("four").setAttribute("aria-pressed", String(Number(value) > 1));
    else if (name === "mode") mode(String(value));
    else if (name !== "strength") input(name).value = String(value);
  }
  if (now.strength !== undefined) input("strength").value = String(now.strength);
  shownValues();
}

function shownValues() {
  for (const id of ["strength", "steps", "guidance"]) find(`${id}Shown`).textContent = input(id).value;
  const { mode: chosen } = settings();
  surface.masking = chosen === "mask";
  input("strength").disabled = chosen === "mask";
}

/** @param {string} name of a mode */
function mode(name) {
  select("mode").value = name;
  const { max, value } = STRENGTHS[/** @type {keyof typeof STRENGTHS} */ (name)];
  Object.assign(input("strength"), { max, value });
  shownValues();
}

/**
 * Something changed.
 * @param {number} [at]
 */
function touch(at) {
  if (fresh && find("lock").getAttribute("aria-pressed") === "false") input("seed").value = String(Math.floor(Math.random() * 2 ** 32));
  fresh = false;
  find("hint").hidden = true;
  history.mark(null);
  pace.touch(at);
  clearTimeout(keeping);
  keeping = setTimeout(settle, KEEP_AFTER);
}

/** Keep a frame once nothing changes any more. */
async function settle() {
  if (surface.stroke || !pace.settled) {
    keeping = setTimeout(settle, 150);
    return;
  }
  fresh = true;
  if (!pace.paused) await keep();
}

/** The newest state as a frame. */
function capture() {
  if (!about) return null;
  const now = settings();
  const [width, height] = about.native_size;
  const drawing = surface.pixels("picture", width, height);
  const prompt = [now.style, now.prompt].filter(Boolean).join(" ");
  /** @type {Picture[]} */
  const pictures = [];
  /** @type {Record<string, unknown>} */
  const head = { seed: now.seed, steps: now.steps, n: Math.min(now.images, about.images) };
  if (about.prompt) head.prompt = prompt;
  if (about.guidance.low < about.guidance.high) head.guidance = now.guidance;
  /** @param {string} name @param {Uint8Array} data */
  const add = (name, data) => pictures.push({ name, kind: "rgba", width, height, data });
  if (now.mode === "mask") {
    const mask = surface.pixels("mask", width, height);
    if (!mask || !drawing) {
      say(drawing ? "Paint with the mask tool where the picture may change." : "Draw or import a picture, then mask what may change.");
      return null;
    }
    for (let i = 3; i < mask.length; i += 4) mask[i] = mask[i] > 32 ? 0 : 255;
    add("image", drawing);
    add("mask", mask);
  } else if (drawing && now.mode === "paint") {
    add("image", drawing);
    head.strength = Math.max(0.05, now.strength);
  } else if (drawing && about.control) {
    add("control", drawing);
    if (now.strength !== 1) head.control_strength = now.strength;
  } else if (!prompt) {
    find("hint").hidden = false;
    empty();
    return null;
  }
  return { head, pictures, state: now };
}

function empty() {
  shown = null;
  floor = wire.sent;
  tiles([]);
  say("");
}

/** @param {Answer} answer @param {import("./pace.js").Frame} frame @param {import("./pace.js").Times} times */
async function show(answer, frame, times) {
  const bitmaps = await Promise.all(answer.pictures.map((picture) => createImageBitmap(picture)));
  if (answer.head.seq <= floor) return;
  floor = answer.head.seq;
  present(answer, frame.state, bitmaps);
  requestAnimationFrame(() => {
    const channel = new MessageChannel(); // its message comes after the frame was painted
    channel.port1.onmessage = () => meter.note(answer, times, performance.now());
    channel.port2.postMessage(0);
  });
}

/** @param {Answer} answer @param {Settings} state @param {ImageBitmap[]} bitmaps */
function present(answer, state, bitmaps) {
  for (const bitmap of shown?.bitmaps ?? []) bitmap.close();
  shown = { answer, settings: state, bitmaps };
  tiles(bitmaps);
  find("tiles").dataset.seq = String(answer.head.seq);
  const { parts = [], unknown_words: unknown = [], nearest_captions: nearest = [] } = answer.head;
  const seen = parts.length === 1 && parts[0].recognised ? `looks like ${parts[0].recognised} (${Math.round(100 * (parts[0].confidence ?? 0))} %)` : "";
  const strange = unknown.length ? `never seen: ${unknown.join(", ")}; nearest: ${nearest.map(([caption]) => caption).join(", ")}` : "";
  say([seen, strange].filter(Boolean).join(" · "));
}

/**
 * Draw results in place.
 * @param {ImageBitmap[]} bitmaps
 */
function tiles(bitmaps) {
  const stage = find("tiles");
  while (stage.children.length > bitmaps.length) stage.lastElementChild?.remove();
  while (stage.children.length < bitmaps.length) stage.append(tile(stage.children.length));
  stage.dataset.count = String(bitmaps.length);
  const side = bitmaps.length > 1 ? 256 : 512;
  bitmaps.forEach((bitmap, i) => {
    const canvas = /** @type {HTMLCanvasElement} */ (stage.children[i].firstElementChild);
    if (canvas.width !== side) Object.assign(canvas, { width: side, height: side });
    const context = canvas.getContext("2d");
    if (!context) return;
    context.imageSmoothingEnabled = input("smooth").checked;
    context.imageSmoothingQuality = "high";
    context.globalCompositeOperation = "copy"; // in one stroke: never empty in between
    context.drawImage(bitmap, 0, 0, side, side);
  });
}

/** @param {number} index */
function tile(index) {
  const button = Object.assign(document.createElement("button"), { type: "button", title: "Go on with this one" });
  button.setAttribute("aria-label", `Result ${index + 1}: go on with this one`);
  button.append(document.createElement("canvas"));
  button.addEventListener("click", () => {
    const part = shown?.answer.head.parts?.[index];
    if (!part || settings().images === 1) return;
    put({ seed: part.seed, images: 1 });
    touch();
  });
  return button;
}

/** Keep the frame on the screen, unless it is kept already. */
async function keep() {
  if (!shown) return;
  const { answer, settings: state } = shown;
  const files = await surface.files();
  const drawn = await fingerprint([files.picture, files.mask]);
  const made = JSON.stringify([state, drawn]);
  if (made === kept) return;
  kept = made;
  const title = [state.style, state.prompt || "sketch", `seed ${state.seed}`].filter(Boolean).join(" · ");
  history.add({ settings: state, files, drawn, results: answer.pictures, head: answer.head, title });
}

/**
 * Bring a kept frame back: settings, drawing and result.
 * @param {Frame} frame
 */
async function restore(frame) {
  clearTimeout(keeping);
  floor = wire.sent; // what is still on its way is older than this click
  pace.changed = null;
  put(frame.settings);
  await surface.restore(frame.files);
  const bitmaps = await Promise.all(frame.results.map((result) => createImageBitmap(result)));
  present({ head: frame.head, pictures: frame.results }, frame.settings, bitmaps);
  find("hint").hidden = true;
  kept = JSON.stringify([frame.settings, frame.drawn]);
}

/** @param {Blob} blob */
async function base64(blob) {
  let text = "";
  for (const byte of new Uint8Array(await blob.arrayBuffer())) text += String.fromCharCode(byte);
  return btoa(text);
}

/** @param {string} text @returns {Blob} */
const fromBase64 = (text) => new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type: "image/png" });

/** The result as a file: its record, the settings and the drawing inside. */
async function download() {
  if (!shown) return say("There is nothing to download yet.");
  const { answer, settings: state } = shown;
  const { picture, mask } = await surface.files();
  const inside = JSON.stringify({ version: 1, settings: state, picture: await base64(picture), mask: await base64(mask) });
  const ascii = inside.replace(/[\u007f-\uffff]/g, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
  answer.pictures.forEach(async (result, i) => {
    const whole = withText(new Uint8Array(await result.arrayBuffer()), STATE, ascii);
    const url = URL.createObjectURL(new Blob([whole], { type: "image/png" }));
    const name = (state.prompt || "sketch").replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40);
    Object.assign(document.createElement("a"), { href: url, download: `${name}-${answer.head.parts?.[i].seed ?? state.seed}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  });
}

/**
 * A picture from outside: one of ours brings its settings back, any other goes onto the canvas.
 * @param {Blob} blob
 */
async function take(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const inside = texts(bytes);
  let broken = false;
  try {
    if (inside.has(STATE)) return await takeState(blob, JSON.parse(/** @type {string} */ (inside.get(STATE))));
    if (isPng(bytes) && inside.has("fewstep")) return await takeRecord(blob, JSON.parse(/** @type {string} */ (inside.get("fewstep"))));
  } catch (error) {
    console.info("settings that cannot be read", error);
    broken = true;
  }
  try {
    const bitmap = await createImageBitmap(blob);
    surface.put(bitmap);
    bitmap.close();
    if (broken) say("Its settings cannot be read: it is on the canvas as a picture.", true);
  } catch {
    say("That is no picture this browser can read.", true);
  }
}

/** @param {Blob} blob @param {{ settings: Settings, picture: string, mask: string }} state */
async function takeState(blob, { settings: state, picture, mask }) {
  const files = { picture: fromBase64(picture), mask: fromBase64(mask) };
  const drawn = await fingerprint([files.picture, files.mask]);
  const head = { seq: floor, parts: [{ bytes: 0, id: "", seed: state.seed, recognised: null, confidence: null }] };
  const frame = { settings: { ...state, images: 1 }, files, drawn, results: [blob], head, title: `restored · ${state.prompt || "sketch"}` };
  await restore(frame);
  history.add(frame);
  say("Settings and drawing are restored.");
}

/** @param {Blob} blob @param {any} record */
async function takeRecord(blob, record) {
  const style = about?.styles.find((/** @type {string} */ name) => record.prompt.startsWith(`${name} `)) ?? "";
  const state = {
    ...settings(), style, prompt: record.prompt.slice(style ? style.length + 1 : 0), seed: record.seed, steps: record.steps, images: 1,
    ...(record.guidance === null ? {} : { guidance: record.guidance }),
  };
  surface.clear();
  const files = await surface.files();
  const drawn = await fingerprint([files.picture, files.mask]);
  const head = { seq: floor, parts: [{ bytes: 0, id: record.id, seed: record.seed, recognised: null, confidence: null }] };
  await restore({ settings: state, files, drawn, results: [blob], head, title: state.prompt });
  say(record.parents.length ? "Settings are restored; the picture it was made from is not inside." : "Settings are restored.");
}

/** @param {import("./surface.js").Tool} tool */
function choose(tool) {
  surface.tool = tool;
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", String(button.getAttribute("data-tool") === tool));
  }
  if (tool === "mask" && select("mode").value !== "mask") mode("mask");
}

/** @param {string} id @returns {boolean} now */
function toggle(id) {
  const on = find(id).getAttribute("aria-pressed") !== "true";
  find(id).setAttribute("aria-pressed", String(on));
  return on;
}

const actions = {
  undo: () => surface.undo(),
  redo: () => surface.redo(),
  clear: () => (surface.masking && surface.tool === "mask" ? surface.clearMask() : surface.clear()),
  import: () => find("file").click(),
  keep: () => keep(),
  download: () => download(),
  take: () => {
    if (shown) surface.put(shown.bitmaps[0]);
  },
  dice: () => {
    input("seed").value = String(Math.floor(Math.random() * 2 ** 32));
    touch();
  },
  lock: () => toggle("lock"),
  four: () => {
    toggle("four");
    touch();
  },
  play: () => {
    const live = toggle("play");
    find("play").textContent = live ? "Live" : "Paused";
    pace.pause(!live);
  },
  compare: () => comparison.open() || say("Keep two frames first, then compare them."),
  race: () => (about?.teacher ? race.open(about) : say("This model's teacher is not here.")),
  chat: () => {
    find("talking").hidden = !toggle("chat");
    if (!find("talking").hidden) find("message").focus();
  },
  theme: () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
  help: () => /** @type {HTMLDialogElement} */ (find("helping")).showModal(),
};

/** @param {string} name */
function theme(name) {
  document.documentElement.dataset.theme = name;
  localStorage.setItem("fewstep.theme", name);
}

/** @type {[string, string, () => void][]} a key, what it does, how */
const KEYS = [
  ["B", "pen", () => choose("pen")],
  ["E", "eraser", () => choose("eraser")],
  ["F", "fill", () => choose("fill")],
  ["M", "mask: what may change", () => choose("mask")],
  ["[", "thinner", () => size(-6)],
  ["]", "thicker", () => size(6)],
  ["Delete", "clear", actions.clear],
  ["I", "import a picture", actions.import],
  ["1 … 4", "steps", () => {}],
  ["R", "another seed", actions.dice],
  ["L", "lock the seed", actions.lock],
  ["V", "four variations", actions.four],
  ["P", "pause, go on", actions.play],
  ["K", "keep this frame", actions.keep],
  ["S", "download", actions.download],
  ["T", "result to canvas", actions.take],
  ["C", "compare", actions.compare],
  ["G", "teacher against student", actions.race],
  ["H", "chat", actions.chat],
  ["D", "dark, light", actions.theme],
  ["/", "to the prompt", () => find("prompt").focus()],
  ["?", "this list", actions.help],
];

/** @param {number} by */
function size(by) {
  const next = Math.min(96, Math.max(4, surface.size + by));
  surface.size = next;
  input("size").value = String(next);
}

/** @param {KeyboardEvent} event */
function shortcut(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  if (document.querySelector("dialog[open]")) return;
  if ((event.ctrlKey || event.metaKey) && /^[zy]$/i.test(event.key) && !target.matches('input[type="text"]')) {
    event.preventDefault();
    return event.shiftKey || event.key.toLowerCase() === "y" ? surface.redo() : surface.undo();
  }
  if (event.ctrlKey || event.metaKey || event.altKey || target.matches('input:not([type="range"]):not([type="checkbox"]), select, textarea')) return;
  const found = KEYS.find(([key]) => key.toLowerCase() === event.key.toLowerCase());
  if (found) {
    event.preventDefault();
    found[2]();
  } else if (/^[1-4]$/.test(event.key) && Number(event.key) <= Number(input("steps").max)) {
    put({ steps: Number(event.key) });
    touch(event.timeStamp);
  }
}

function listen() {
  for (const [id, act] of Object.entries(actions)) find(id).addEventListener("click", () => act());
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => choose(/** @type {import("./surface.js").Tool} */ (button.getAttribute("data-tool"))));
  }
  for (const id of ["prompt", "strength", "steps", "guidance", "seed"]) {
    find(id).addEventListener("input", (event) => {
      shownValues();
      touch(event.timeStamp);
    });
  }
  for (const id of ["style", "mode"]) {
    find(id).addEventListener("change", (event) => {
      if (id === "mode") mode(select("mode").value);
      touch(event.timeStamp);
    });
  }
  find("ask").addEventListener("submit", (event) => event.preventDefault());
  find("size").addEventListener("input", () => (surface.size = Number(input("size").value)));
  find("smooth").addEventListener("change", () => shown && tiles(shown.bitmaps));
  find("unlock").addEventListener("submit", () => wire.unlock(input("key").value));
  find("file").addEventListener("change", () => {
    const chosen = input("file").files?.[0];
    if (chosen) take(chosen);
    input("file").value = "";
  });
  document.addEventListener("keydown", shortcut);
  document.addEventListener("paste", (event) => {
    const pasted = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    if (pasted) take(pasted);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    find("paper").classList.add("drop");
  });
  document.addEventListener("dragleave", () => find("paper").classList.remove("drop"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    find("paper").classList.remove("drop");
    const dropped = event.dataTransfer?.files[0];
    if (dropped) take(dropped);
  });
  find("keys").replaceChildren(
    ...[...KEYS, ["Ctrl Z", "undo"], ["Ctrl Shift Z", "redo"], ["arrows, space", "on the canvas: move the pen, set it down and lift it"]].flatMap(([key, does]) => [
      Object.assign(document.createElement("dt"), { textContent: key }),
      Object.assign(document.createElement("dd"), { textContent: does }),
    ]),
  );
}

theme(localStorage.getItem("fewstep.theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
listen();
wire.connect();
Object.assign(window, { studio: { wire, pace, surface, meter, history, chat, shown: () => shown } }); // for the console, and for tests
