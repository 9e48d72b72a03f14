// @ts-check
/** The frames that were kept, each with everything that made it. */

/**
 * @typedef {{ prompt: string, style: string, mode: string, strength: number, steps: number, guidance: number, seed: number, images: number }} Settings
 * @typedef {{
 *   settings: Settings, files: { picture: Blob, mask: Blob }, drawn: string, results: Blob[],
 *   head: import("./frames.js").Head, title: string
 * }} Frame
 */

const MOST = 200;

export class History {
  /** @param {HTMLElement} list @param {(frame: Frame) => void} chosen */
  constructor(list, chosen) {
    this.list = list;
    this.chosen = chosen;
    /** @type {Frame[]} */
    this.frames = [];
    /** @type {string[]} */
    this.urls = [];
  }

  /** @param {Frame} frame */
  add(frame) {
    if (!this.frames.length) this.list.replaceChildren();
    if (this.frames.length === MOST) {
      this.frames.shift();
      URL.revokeObjectURL(/** @type {string} */ (this.urls.shift()));
      this.list.lastElementChild?.remove();
    }
    const url = URL.createObjectURL(frame.results[0]);
    this.frames.push(frame);
    this.urls.push(url);
    const button = document.createElement("button");
    button.type = "button";
    button.title = frame.title;
    button.append(Object.assign(new Image(), { src: url, alt: frame.title }));
    button.addEventListener("click", () => {
      this.mark(button);
      this.chosen(frame);
    });
    const item = document.createElement("li");
    item.append(button);
    this.list.prepend(item);
    this.mark(button);
  }

  /**
   * Say which frame is shown.
   * @param {HTMLElement | null} button
   */
  mark(button) {
    for (const each of this.list.querySelectorAll("button")) each.removeAttribute("aria-current");
    button?.setAttribute("aria-current", "true");
  }
}

/**
 * A short fingerprint of files, to tell whether two drawings are one.
 * @param {Blob[]} files
 */
export async function fingerprint(files) {
  let hash = 0x811c9dc5;
  for (const file of files) {
    for (const byte of new Uint8Array(await file.arrayBuffer())) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  }
  return hash.toString(16);
}
