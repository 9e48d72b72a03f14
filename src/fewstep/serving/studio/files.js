// @ts-check
/** Pictures as files: out with everything that made them, in with everything that is inside. */

import { STRENGTHS } from "./controls.js";
import { fingerprint } from "./history.js";
import { say } from "./page.js";
import { nothing } from "./surface.js";
import { isPng, texts, withText } from "./png.js";

/** @typedef {import("./history.js").Frame} Frame */
/** @typedef {import("./history.js").Settings} Settings */
/** @typedef {import("./results.js").Shown} Shown */
/** @typedef {{ picture: Blob, mask: Blob }} Drawing */

const STATE = "fewstep.studio"; // the PNG text that holds the settings and the drawing

/** @param {Blob} blob */
async function base64(blob) {
  let text = "";
  for (const byte of new Uint8Array(await blob.arrayBuffer())) text += String.fromCharCode(byte);
  return btoa(text);
}

/** @param {string} text @returns {Blob} */
export const fromBase64 = (text) => new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type: "image/png" });

/**
 * Save what is shown: each result a file, its record, the settings and the drawing inside.
 * @param {Shown} shown
 * @param {Drawing} drawing
 */
export async function download({ answer, settings }, { picture, mask }) {
  const drawing = { picture: await base64(picture), mask: await base64(mask) };
  answer.pictures.forEach(async (result, i) => {
    const seed = answer.head.parts?.[i].seed ?? settings.seed;
    const inside = JSON.stringify({ version: 1, settings: { ...settings, seed, images: 1 }, ...drawing });
    const ascii = inside.replace(/[\u007f-\uffff]/g, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
    const whole = withText(new Uint8Array(await result.arrayBuffer()), STATE, ascii);
    const url = URL.createObjectURL(new Blob([whole], { type: "image/png" }));
    const name = (settings.prompt || "sketch").replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40);
    Object.assign(document.createElement("a"), { href: url, download: `${name}-${seed}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  });
}

/**
 * What a file from outside brings back: a frame, and whether it is whole; null for any other picture.
 * @param {Blob} blob
 * @param {Settings} settings for what a record does not say
 * @param {string[]} styles
 * @returns {Promise<{ frame: Frame, drawn: boolean, said: string } | null>}
 */
export async function opened(blob, settings, styles) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const inside = texts(bytes), state = inside.get(STATE), record = inside.get("fewstep");
  if (state !== undefined) return { frame: await fromState(blob, JSON.parse(state), settings), drawn: true, said: "Settings and drawing are restored." };
  if (!isPng(bytes) || record === undefined) return null;
  const told = JSON.parse(record);
  const said = told.parents.length ? "Settings are restored; the picture it was made from is not inside." : "Settings are restored.";
  return { frame: await fromRecord(blob, told, settings, styles, await nothing()), drawn: false, said };
}

/**
 * @param {Blob} blob
 * @param {{ settings: Settings, picture: string, mask: string }} state
 * @param {Settings} usual what settings look like
 * @returns {Promise<Frame>}
 */
async function fromState(blob, { settings: told, picture, mask }, usual) {
  const settings = { ...usual, images: 1 };
  for (const name of /** @type {(keyof Settings)[]} */ (Object.keys(usual))) {
    if (typeof told[name] !== typeof usual[name]) throw new TypeError(`no ${name} that can be read`);
    if (name !== "images") Object.assign(settings, { [name]: told[name] });
  }
  if (!Object.hasOwn(STRENGTHS, settings.mode)) throw new TypeError(`no mode ${settings.mode}`);
  const files = { picture: fromBase64(picture), mask: fromBase64(mask) };
  return frame(blob, settings, files, "", `restored · ${settings.prompt || "sketch"}`);
}

/** @param {Blob} blob @param {any} record @param {Settings} settings @param {string[]} styles @param {Drawing} files @returns {Promise<Frame>} */
async function fromRecord(blob, record, settings, styles, files) {
  const style = styles.find((name) => record.prompt.startsWith(`${name} `)) ?? "";
  const state = {
    ...settings, style, prompt: record.prompt.slice(style ? style.length + 1 : 0), seed: record.seed, steps: record.steps, images: 1,
    ...(record.guidance === null ? {} : { guidance: record.guidance }),
  };
  return frame(blob, state, files, record.id, state.prompt);
}

/** @param {Blob} blob @param {Settings} settings @param {Drawing} files @param {string} id @param {string} title @returns {Promise<Frame>} */
async function frame(blob, settings, files, id, title) {
  const part = { bytes: 0, id, seed: settings.seed, recognised: null, confidence: null };
  return { settings, files, drawn: await fingerprint([files.picture, files.mask]), results: [blob], head: { seq: 0, parts: [part] }, title };
}
