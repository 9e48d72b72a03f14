// @ts-check
/** The studio: the page's parts, put together. */

import { Chat } from "./chat.js";
import { Comparison } from "./compare.js";
import { Controls } from "./controls.js";
import { download, opened } from "./files.js";
import { fingerprint, History } from "./history.js";
import { Meter } from "./meter.js";
import { Pace } from "./pace.js";
import { anySeed, find, input, pressed, recall, remember, say, select, speak, tell, toggle } from "./page.js";
import { Pointers } from "./pointers.js";
import { Race } from "./race.js";
import { Results } from "./results.js";
import { Shortcuts, TYPED } from "./shortcuts.js";
import { Surface } from "./surface.js";
import { Wire } from "./wire.js";

/** @typedef {import("./frames.js").Answer} Answer */
/** @typedef {import("./frames.js").Picture} Picture */
/** @typedef {import("./history.js").Frame} Frame */

const KEEP_AFTER = 900; // milliseconds without a change after which a frame is kept
const NOT_YET = "This picture was made from something else: it is kept and downloaded once what is on the canvas is drawn.";
const FINE = 2; // times the model's own size is what a sketch is sent at: small ones are magnified

let floor = 0; // answers to frames up to this one came too late: something newer is on the screen
let fresh = false; // whether the next change gets a new seed, unless the seed is locked
let kept = ""; // what the last kept frame was made from
let restoring = 0; // which of the frames that were asked back is the latest
/** @type {number | undefined} */
let keeping;

const wire = new Wire(connected);
const meter = new Meter(find("latency"), find("stages"), /** @type {HTMLDetailsElement} */ (find("meter")));
const pace = new Pace(wire, capture, show, (message) => say(message, true));
const surface = new Surface(
  /** @type {HTMLCanvasElement} */ (find("picture")), /** @type {HTMLCanvasElement} */ (find("mask")), find("cursor"), touch, () => {},
);
const pointers = new Pointers(
  find("mask"), find("paper"), surface,
  (fingersDraw) => { find("fingers").hidden = fingersDraw; },
  ({ scale }) => { find("whole").hidden = scale === 1; },
);
find("fingers").onclick = () => pointers.letFingersDraw();
find("whole").onclick = () => pointers.whole();
const controls = new Controls(surface);
const results = new Results(goOn);
const history = new History(find("history"), restore);
const comparison = new Comparison(find, history);
const race = new Race(find, capture);
const chat = new Chat(
  find, () => ({ colours: Object.keys(controls.about?.palette ?? {}), styles: controls.about?.styles ?? [], headers: wire.headers() }), take,
);

/** @param {import("./wire.js").State} state */
async function connected(state) {
  const chip = find("wire");
  chip.dataset.state = state;
  chip.textContent = { connecting: "connecting", socket: "live", http: "live (without WebSocket)", offline: "reconnecting …", locked: "locked" }[state];
  const locked = /** @type {HTMLDialogElement} */ (find("locked"));
  if (state === "locked" && !locked.open) locked.showModal();
  if (!wire.ready) return;
  const first = controls.about === null;
  try {
    controls.offer(await wire.about());
  } catch {
    return wire.later();
  }
  if (first) pace.touch(); // what was said or drawn before the server was there
  else pace.plan(); // what changed while it was away, and no more
}

/**
 * Something changed.
 * @param {number} [at]
 */
function touch(at) {
  if (fresh && !pressed("lock")) input("seed").value = String(anySeed());
  fresh = false;
  if (wire.state === "locked") connected("locked"); // its dialog was put away
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
  speak();
  if (!pace.paused && current()) await keep();
}

/** Whether the picture is what the settings and the drawing of this moment make: another may be on its way, refused, or never asked for. */
function current() {
  const { shown } = results;
  return shown?.revision === surface.revision && JSON.stringify(shown.settings) === JSON.stringify(controls.settings());
}

/** The newest state as a frame. */
function capture() {
  const { about } = controls;
  if (!about) return null;
  const now = controls.settings();
  const prompt = [now.style, now.prompt].filter(Boolean).join(" ");
  /** @type {Picture[]} */
  const pictures = [];
  /** @type {Record<string, unknown>} */
  const head = { seed: now.seed, steps: now.steps, n: Math.min(now.images, about.images) };
  if (about.prompt) head.prompt = prompt;
  if (about.guidance.low < about.guidance.high) head.guidance = now.guidance;
  const times = now.mode === "sketch" ? FINE : 1;
  const [width, height] = about.native_size.map((/** @type {number} */ side) => times * side);
  const drawing = surface.pixels("picture", width, height);
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
    floor = wire.sent;
    results.empty();
    return null;
  }
  return { head, pictures, state: { settings: now, revision: surface.revision } };
}

/** @param {Answer} answer @param {import("./pace.js").Frame} frame @param {import("./pace.js").Times} times */
async function show(answer, frame, times) {
  const bitmaps = await Promise.all(answer.pictures.map((picture) => createImageBitmap(picture)));
  if (answer.head.seq <= floor) return;
  floor = answer.head.seq;
  results.present(answer, frame.state.settings, frame.state.revision, bitmaps);
  requestAnimationFrame(() => {
    const channel = new MessageChannel(); // its message comes after the frame was painted
    channel.port1.onmessage = () => meter.note(answer, times, performance.now());
    channel.port2.postMessage(0);
  });
}

/**
 * Go on with one of several results.
 * @param {number} index
 */
function goOn(index) {
  const part = results.shown?.answer.head.parts?.[index];
  if (!part || controls.settings().images === 1) return;
  controls.put({ seed: part.seed, images: 1 });
  fresh = false;
  touch();
}

/** Keep the frame on the screen, unless it is kept already. */
async function keep() {
  if (!results.shown) return;
  if (!current()) return tell(NOT_YET, true);
  const { answer, settings } = results.shown;
  const files = await surface.files();
  const drawn = await fingerprint([files.picture, files.mask]);
  const made = JSON.stringify([settings, drawn]);
  if (made === kept) return;
  kept = made;
  const title = [settings.style, settings.prompt || "sketch", `seed ${settings.seed}`].filter(Boolean).join(" · ");
  history.add({ settings, files, drawn, results: answer.pictures, head: answer.head, title });
}

/**
 * Bring a kept frame back: settings, drawing and result.
 * @param {Frame} frame
 */
async function restore(frame) {
  const mine = ++restoring;
  const { files, results: pictures, settings, head } = frame;
  const [picture, mask, ...bitmaps] = await Promise.all([files.picture, files.mask, ...pictures].map((file) => createImageBitmap(file)));
  if (mine !== restoring) return [picture, mask, ...bitmaps].forEach((bitmap) => bitmap.close());
  surface.end(); // a stroke that is being drawn asks for a picture: no more, from here on
  clearTimeout(keeping);
  floor = wire.sent; // what is still on its way is older than this click
  pace.forget();
  controls.put(settings);
  surface.restore([picture, mask]);
  picture.close();
  mask.close();
  results.present({ head, pictures }, controls.settings(), surface.revision, bitmaps);
  find("hint").hidden = true;
  kept = JSON.stringify([controls.settings(), frame.drawn]);
}

/**
 * A picture from outside: one of ours brings its settings back, any other goes onto the canvas.
 * @param {Blob} blob
 */
async function take(blob) {
  let broken = false;
  try {
    const found = await opened(blob, controls.settings(), controls.about?.styles ?? []);
    if (found) {
      await restore(found.frame);
      if (found.drawn) history.add(found.frame);
      return tell(found.said);
    }
  } catch (error) {
    console.info("settings that cannot be read", error);
    broken = true;
  }
  try {
    const bitmap = await createImageBitmap(blob);
    surface.put(bitmap);
    bitmap.close();
    if (broken) tell("Its settings cannot be read: it is on the canvas as a picture.", true);
  } catch {
    tell("That is no picture this browser can read.", true);
  }
}

const actions = {
  undo: () => surface.undo(),
  redo: () => surface.redo(),
  clear: () => (surface.masking && surface.tool === "mask" ? surface.clearMask() : surface.clear()),
  import: () => find("file").click(),
  keep: () => keep(),
  download: async () => {
    if (!results.shown) tell("There is nothing to download yet.");
    else if (!current()) tell(NOT_YET, true);
    else await download(results.shown, await surface.files());
  },
  take: () => {
    if (results.shown) surface.put(results.shown.bitmaps[0]);
  },
  dice: () => {
    input("seed").value = String(anySeed());
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
  compare: () => comparison.open() || tell("Keep two frames first, then compare them."),
  race: () => (controls.about?.teacher ? race.open(controls.about) : tell("This model's teacher is not here.")),
  chat: () => {
    find("talking").hidden = !toggle("chat");
    if (!find("talking").hidden) find("message").focus();
  },
  theme: () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
  help: () => /** @type {HTMLDialogElement} */ (find("helping")).showModal(),
};

/** @type {import("./shortcuts.js").Key[]} */
const KEYS = [
  ["B", "pen", () => controls.choose("pen")],
  ["E", "eraser", () => controls.choose("eraser")],
  ["F", "fill", () => controls.choose("fill")],
  ["M", "mask: what may change", () => controls.choose("mask")],
  ["[", "thinner", () => controls.thicken(-6)],
  ["]", "thicker", () => controls.thicken(6)],
  ["Delete", "clear", actions.clear],
  ["I", "import a picture", actions.import],
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

/** @param {string} name */
function theme(name) {
  document.documentElement.dataset.theme = name;
  remember("localStorage", "fewstep.theme", name);
}

/** @param {number} steps @param {number} at */
function step(steps, at) {
  if (steps > Number(input("steps").max)) return;
  controls.put({ steps });
  touch(at);
}

function listen() {
  for (const [id, act] of Object.entries(actions)) find(id).addEventListener("click", () => act());
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => controls.choose(/** @type {import("./surface.js").Tool} */ (button.getAttribute("data-tool"))));
  }
  for (const id of ["prompt", "strength", "steps", "guidance", "seed"]) {
    find(id).addEventListener("input", (event) => {
      controls.shown();
      if (id === "seed") fresh = false; // this is the one that is wanted
      touch(event.timeStamp);
    });
  }
  for (const id of ["style", "mode"]) {
    find(id).addEventListener("change", (event) => {
      if (id === "mode") controls.mode(select("mode").value);
      touch(event.timeStamp);
    });
  }
  find("ask").addEventListener("submit", (event) => event.preventDefault());
  find("size").addEventListener("input", () => (surface.size = Number(input("size").value)));
  find("smooth").addEventListener("change", () => results.draw());
  find("unlock").addEventListener("submit", () => wire.unlock(input("key").value));
  new Shortcuts(KEYS, { undo: actions.undo, redo: actions.redo, steps: step });
  receive();
}

/** Take pictures that are chosen, pasted or dropped. */
function receive() {
  find("file").addEventListener("change", () => {
    const chosen = input("file").files?.[0];
    if (chosen) take(chosen);
    input("file").value = "";
  });
  document.addEventListener("paste", (event) => {
    const pasted = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    const words = event.clipboardData?.types.includes("text/plain") && /** @type {HTMLElement} */ (event.target).matches(TYPED);
    if (pasted && !words && !document.querySelector("dialog[open]")) take(pasted);
  });
  /** @param {DragEvent} event */
  const isFile = (event) => event.dataTransfer?.types.includes("Files"); // what else is dragged is words, into a field
  document.addEventListener("dragover", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    find("paper").classList.add("drop");
  });
  document.addEventListener("dragleave", () => find("paper").classList.remove("drop"));
  document.addEventListener("drop", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    find("paper").classList.remove("drop");
    const dropped = event.dataTransfer?.files[0];
    if (dropped) take(dropped);
  });
}

theme(recall("localStorage", "fewstep.theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
listen();
wire.connect();
Object.assign(window, { studio: { wire, pace, surface, pointers, meter, history, chat, shown: () => results.shown } }); // for the console, and for tests
