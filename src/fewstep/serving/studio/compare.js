// @ts-check
/** Two kept frames against each other: as pictures, in words and in numbers. */

/** @typedef {import("./history.js").Frame} Frame */

const NAMES = { prompt: "prompt", style: "style", mode: "mode", strength: "strength", steps: "steps", guidance: "guidance", seed: "seed", images: "pictures" };

/**
 * What differs between two frames, in words.
 * @param {Frame} a @param {Frame} b @param {Uint8ClampedArray} pixelsA straight RGBA @param {Uint8ClampedArray} pixelsB
 * @returns {string[]}
 */
export function changes(a, b, pixelsA, pixelsB) {
  const said = [];
  for (const [key, name] of Object.entries(NAMES)) {
    const [from, to] = [a.settings, b.settings].map((settings) => /** @type {any} */ (settings)[key]);
    if (from !== to) said.push(`${name}: ${from === "" ? "none" : from} → ${to === "" ? "none" : to}`);
  }
  if (a.drawn !== b.drawn) said.push("the drawing is another");
  if (a.head.model !== b.head.model) said.push(`model: ${a.head.model} → ${b.head.model}`);
  const [seenA, seenB] = [a, b].map(({ head }) => head.parts?.[0].recognised ?? "nothing known");
  if (seenA !== seenB) said.push(`seen as: ${seenA} → ${seenB}`);
  if (!said.length) said.push("nothing that was asked for");
  const { difference, overlap } = measured(pixelsA, pixelsB);
  said.push(`pixels: ${difference.toFixed(1)} of 255 apart on average; shapes overlap by ${(100 * overlap).toFixed(0)} % (intersection over union)`);
  const [evaluationsA, evaluationsB] = [a, b].map(({ head }) => head.network_evaluations ?? 0);
  const [modelA, modelB] = [a, b].map(({ head }) => head.timings?.model ?? 0);
  said.push(`cost: ${evaluationsA} → ${evaluationsB} network evaluations, ${modelA.toFixed(1)} → ${modelB.toFixed(1)} ms in the model`);
  return said;
}

/**
 * How far two pictures are apart, each laid on nothing (premultiplied), and how much their shapes overlap.
 * @param {Uint8ClampedArray} a @param {Uint8ClampedArray} b
 */
export function measured(a, b) {
  let sum = 0, both = 0, either = 0;
  for (let i = 0; i < a.length; i += 4) {
    for (let c = 0; c < 3; c++) sum += Math.abs(a[i + c] * a[i + 3] - b[i + c] * b[i + 3]) / 255;
    sum += Math.abs(a[i + 3] - b[i + 3]);
    const [inA, inB] = [a[i + 3] > 127, b[i + 3] > 127];
    both += inA && inB ? 1 : 0;
    either += inA || inB ? 1 : 0;
  }
  return { difference: sum / a.length, overlap: either ? both / either : 1 };
}

export class Comparison {
  /** @param {(id: string) => HTMLElement} find @param {import("./history.js").History} history */
  constructor(find, history) {
    this.history = history;
    this.dialog = /** @type {HTMLDialogElement} */ (find("comparing"));
    this.left = /** @type {HTMLSelectElement} */ (find("left"));
    this.right = /** @type {HTMLSelectElement} */ (find("right"));
    this.view = /** @type {HTMLSelectElement} */ (find("view"));
    this.wipe = /** @type {HTMLInputElement} */ (find("wipe"));
    this.split = find("split");
    this.stage = find("comparison");
    this.list = find("changes");
    for (const control of [this.left, this.right, this.view]) control.addEventListener("change", () => this.show());
    this.wipe.addEventListener("input", () => this.show());
  }

  /** @returns {boolean} whether there are two frames to compare */
  open() {
    const { frames } = this.history;
    if (frames.length < 2) return false;
    for (const [select, chosen] of /** @type {[HTMLSelectElement, number][]} */ ([[this.left, frames.length - 2], [this.right, frames.length - 1]])) {
      select.replaceChildren(...frames.map((frame, i) => new Option(`${i + 1} ${frame.title}`, String(i), false, i === chosen)));
    }
    this.dialog.showModal();
    this.show();
    return true;
  }

  async show() {
    const [a, b] = [this.left, this.right].map(({ value }) => this.history.frames[Number(value)]);
    const [imageA, imageB] = await Promise.all([a, b].map(({ results }) => createImageBitmap(results[0])));
    const [width, height] = [Math.max(imageA.width, imageB.width), Math.max(imageA.height, imageB.height)];
    const [pixelsA, pixelsB] = [imageA, imageB].map((image) => pixels(image, width, height));
    this.split.hidden = this.view.value !== "slider";
    if (this.view.value === "side") {
      this.stage.replaceChildren(shown(pixelsA, width, "A"), shown(pixelsB, width, "B"));
    } else if (this.view.value === "difference") {
      const apart = new Uint8ClampedArray(pixelsA.length);
      for (let i = 0; i < apart.length; i += 4) {
        for (let c = 0; c < 3; c++) apart[i + c] = Math.abs(pixelsA[i + c] * pixelsA[i + 3] - pixelsB[i + c] * pixelsB[i + 3]) / 255 + Math.abs(pixelsA[i + 3] - pixelsB[i + 3]) / 2;
        apart[i + 3] = 255;
      }
      this.stage.replaceChildren(shown(apart, width, "Difference of A and B"));
    } else {
      const border = Math.round((width * Number(this.wipe.value)) / 100);
      const mixed = pixelsB.slice();
      for (let y = 0; y < height; y++) mixed.set(pixelsA.subarray(4 * y * width, 4 * (y * width + border)), 4 * y * width);
      this.stage.replaceChildren(shown(mixed, width, "A on the left of the slider, B on its right"));
    }
    this.list.replaceChildren(...changes(a, b, pixelsA, pixelsB).map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  }
}

/** @param {ImageBitmap} image @param {number} width @param {number} height */
function pixels(image, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.drawImage(image, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}

/** @param {Uint8ClampedArray} data @param {number} width @param {string} label */
function shown(data, width, label) {
  const height = data.length / 4 / width;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.style.imageRendering = "pixelated";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  canvas.getContext("2d")?.putImageData(new ImageData(new Uint8ClampedArray(data), width, height), 0, 0);
  return canvas;
}
