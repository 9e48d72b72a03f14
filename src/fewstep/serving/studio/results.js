// @ts-check
/** The pictures on the right, swapped in place. */

import { find, input, say } from "./page.js";

/** @typedef {import("./frames.js").Answer} Answer */
/** @typedef {import("./history.js").Settings} Settings */
/** @typedef {{ answer: Answer, settings: Settings, revision: number, bitmaps: ImageBitmap[] }} Shown of which settings, and of which state of the drawing */

export class Results {
  /** @param {(index: number) => void} chosen one of several was clicked */
  constructor(chosen) {
    this.chosen = chosen;
    /** @type {Shown | null} */
    this.shown = null;
  }

  /** @param {Answer} answer @param {Settings} settings @param {number} revision of the drawing @param {ImageBitmap[]} bitmaps */
  present(answer, settings, revision, bitmaps) {
    for (const bitmap of this.shown?.bitmaps ?? []) bitmap.close();
    this.shown = { answer, settings, revision, bitmaps };
    this.draw();
    find("tiles").dataset.seq = String(answer.head.seq);
    const { parts = [], unknown_words: unknown = [], nearest_captions: nearest = [] } = answer.head;
    const seen = parts.length === 1 && parts[0].recognised ? `looks like ${parts[0].recognised} (${Math.round(100 * (parts[0].confidence ?? 0))} %)` : "";
    const strange = unknown.length ? `never seen: ${unknown.join(", ")}; nearest: ${nearest.map(([caption]) => caption).join(", ")}` : "";
    const unread = answer.head.unread_prompt ? `too long, not read: ${answer.head.unread_prompt.slice(0, 80)}` : "";
    say([seen, strange, unread].filter(Boolean).join(" · "));
  }

  empty() {
    this.shown = null;
    this.draw();
    say("");
  }

  /** Draw what is shown, as smoothly as is asked for. */
  draw() {
    const stage = find("tiles"), bitmaps = this.shown?.bitmaps ?? [];
    while (stage.children.length > bitmaps.length) stage.lastElementChild?.remove();
    while (stage.children.length < bitmaps.length) stage.append(this.#tile(stage.children.length));
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
  #tile(index) {
    const button = Object.assign(document.createElement("button"), { type: "button", title: "Go on with this one" });
    button.setAttribute("aria-label", `Result ${index + 1}: go on with this one`);
    button.append(document.createElement("canvas"));
    button.addEventListener("click", () => this.chosen(index));
    return button;
  }
}
