// @ts-check
/** Keys that do what a button does, and their list. */

import { find } from "./page.js";

/** @typedef {[key: string, does: string, act: () => unknown]} Key */

const ALSO = [["1 … 4", "steps"], ["Ctrl Z", "undo"], ["Ctrl Shift Z", "redo"], ["arrows, space", "on the canvas: move the pen, set it down and lift it"]];
export const TYPED = 'input:not([type="range"]):not([type="checkbox"]), select, textarea'; // where keys are letters

export class Shortcuts {
  /**
   * @param {Key[]} keys
   * @param {{ undo: () => void, redo: () => void, steps: (steps: number, at: number) => void }} acts
   */
  constructor(keys, acts) {
    this.keys = keys;
    this.acts = acts;
    const listed = [...keys, ...ALSO].flatMap(([key, does]) => [
      Object.assign(document.createElement("dt"), { textContent: key }),
      Object.assign(document.createElement("dd"), { textContent: does }),
    ]);
    find("keys").replaceChildren(...listed);
    document.addEventListener("keydown", (event) => this.#pressed(event));
  }

  /** @param {KeyboardEvent} event */
  #pressed(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    if (document.querySelector("dialog[open]")) return;
    if ((event.ctrlKey || event.metaKey) && /^[zy]$/i.test(event.key) && !target.matches(TYPED)) {
      event.preventDefault();
      return event.shiftKey || event.key.toLowerCase() === "y" ? this.acts.redo() : this.acts.undo();
    }
    if (event.ctrlKey || event.metaKey || event.altKey || target.matches(TYPED)) return;
    const found = this.keys.find(([key]) => key.toLowerCase() === event.key.toLowerCase());
    if (found) {
      event.preventDefault();
      found[2]();
    } else if (/^[1-4]$/.test(event.key)) this.acts.steps(Number(event.key), event.timeStamp);
  }
}
