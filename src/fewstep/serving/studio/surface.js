// @ts-check
/**
 * What is drawn on: a picture and a mask of SIZE × SIZE pixels, pen, eraser, fill, undo, the keyboard as a pen; mice, pens
 * and fingers are pointers.js.
 *
 * Nothing here waits for anything, so the pen never stutters: listeners are only told that something changed.
 */

export const SIZE = 512;
const MOST_UNDO = 100;
const WHOLE = { left: 0, top: 0, right: SIZE, bottom: SIZE };
const CURSOR_STEP = 8; // pixels that an arrow key moves the keyboard's pen

/** @typedef {"pen" | "eraser" | "fill" | "mask"} Tool */
/** @typedef {{ x: number, y: number, width: number }} Point */
/** @typedef {{ left: number, top: number, right: number, bottom: number }} Box */
/** @typedef {{ layer: CanvasRenderingContext2D, box: Box, before: HTMLCanvasElement, after: HTMLCanvasElement }} Patch */
/** @typedef {Patch[]} Change what is undone at once */

/** @param {number} width @param {number} height */
function blank(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

/** @param {HTMLCanvasElement} canvas */
function context(canvas) {
  const found = canvas.getContext("2d", { willReadFrequently: true });
  if (!found) throw new Error("this browser has no canvas");
  return found;
}

/**
 * A copy of part of a canvas, exact to the bit.
 * @param {HTMLCanvasElement} canvas
 * @param {Box} box
 */
function patch(canvas, { left, top, right, bottom }) {
  const copy = blank(right - left, bottom - top);
  context(copy).drawImage(canvas, -left, -top);
  return copy;
}

/** @param {HTMLCanvasElement} one @param {HTMLCanvasElement} other */
function same(one, other) {
  const [a, b] = [one, other].map((canvas) => new Uint32Array(context(canvas).getImageData(0, 0, SIZE, SIZE).data.buffer));
  return a.every((pixel, i) => pixel === b[i]);
}

export class Surface {
  /**
   * @param {HTMLCanvasElement} picture
   * @param {HTMLCanvasElement} mask
   * @param {HTMLElement} cursor of the keyboard's pen
   * @param {(at?: number) => void} changed told of each change, and of its event's time
   * @param {() => void} ended told of each finished stroke
   */
  constructor(picture, mask, cursor, changed, ended) {
    for (const canvas of [picture, mask]) Object.assign(canvas, { width: SIZE, height: SIZE });
    this.picture = context(picture);
    this.mask = context(mask);
    this.cursor = cursor;
    this.changed = changed;
    this.ended = ended;
    /** @type {Tool} */
    this.tool = "pen";
    this.colour = "#1e1e21";
    this.size = 28;
    this.masking = false; // whether the eraser takes from the mask
    this.revision = 0; // another one for each change
    /** @type {Change[]} */
    this.done = [];
    /** @type {Change[]} */
    this.undone = [];
    /** @type {{ layer: CanvasRenderingContext2D, before: HTMLCanvasElement, last: Point, box: Box, id: number, tool: Tool } | null} */
    this.stroke = null;
    this.place = { x: SIZE / 2, y: SIZE / 2 };
    this.small = new Map();
    this.listen(mask);
  }

  /** @param {HTMLCanvasElement} target the topmost canvas */
  listen(target) {
    target.addEventListener("keydown", (event) => this.key(event));
    target.addEventListener("blur", () => this.stroke?.id === -1 && this.end());
  }

  /** @param {PointerEvent} event @param {HTMLElement} target @returns {Point} */
  point(event, target) {
    const { left, top, width, height } = target.getBoundingClientRect();
    const pressure = event.pointerType === "pen" ? 0.25 + 1.1 * event.pressure : 1;
    return {
      x: ((event.clientX - left) * SIZE) / width,
      y: ((event.clientY - top) * SIZE) / height,
      width: Math.max(1, this.size * pressure),
    };
  }

  /** @param {number} [at] */
  change(at) {
    this.revision++;
    this.changed(at);
  }

  /** @param {Point} point @param {number} id @param {Tool} tool @param {number} [at] */
  begin(point, id, tool, at) {
    if (tool === "fill") return this.fill(point, at);
    const layer = tool === "mask" || (tool === "eraser" && this.masking) ? this.mask : this.picture;
    this.stroke = { layer, before: patch(layer.canvas, WHOLE), last: point, box: { left: SIZE, top: SIZE, right: 0, bottom: 0 }, id, tool };
    this.extend(point);
    this.change(at);
  }

  /** @param {Point} point */
  extend(point) {
    const stroke = this.stroke;
    if (!stroke) return;
    const { layer, last, box, tool } = stroke;
    layer.save();
    layer.globalCompositeOperation = tool === "eraser" ? "destination-out" : "source-over";
    layer.strokeStyle = tool === "mask" ? "#ff3b7f" : this.colour;
    layer.lineCap = layer.lineJoin = "round";
    layer.lineWidth = point.width;
    layer.beginPath();
    layer.moveTo(last.x, last.y);
    layer.lineTo(point.x, point.y + (last.x === point.x && last.y === point.y ? 0.01 : 0));
    layer.stroke();
    layer.restore();
    const reach = Math.max(point.width, last.width) / 2 + 2;
    box.left = Math.max(0, Math.min(box.left, Math.floor(Math.min(point.x, last.x) - reach)));
    box.top = Math.max(0, Math.min(box.top, Math.floor(Math.min(point.y, last.y) - reach)));
    box.right = Math.min(SIZE, Math.max(box.right, Math.ceil(Math.max(point.x, last.x) + reach)));
    box.bottom = Math.min(SIZE, Math.max(box.bottom, Math.ceil(Math.max(point.y, last.y) + reach)));
    stroke.last = point;
  }

  /** @param {number} [at] */
  end(at) {
    const stroke = this.stroke;
    if (!stroke) return;
    this.stroke = null;
    const { layer, before, box } = stroke;
    if (box.right > box.left && box.bottom > box.top) this.keep([{ layer, box, before: patch(before, box) }]);
    this.change(at);
    this.ended();
  }

  /** Take a stroke back that was not meant to be one. */
  cancel() {
    const stroke = this.stroke;
    if (!stroke) return;
    this.stroke = null;
    stroke.layer.clearRect(0, 0, SIZE, SIZE);
    stroke.layer.drawImage(stroke.before, 0, 0);
    this.change();
  }

  /** @param {{ layer: CanvasRenderingContext2D, box: Box, before: HTMLCanvasElement }[]} changed */
  keep(changed) {
    if (!changed.length) return;
    this.done.push(changed.map((each) => ({ ...each, after: patch(each.layer.canvas, each.box) })));
    if (this.done.length > MOST_UNDO) this.done.shift();
    this.undone = [];
  }

  /**
   * Change a whole layer, so that it can be undone.
   * @param {CanvasRenderingContext2D} layer
   * @param {() => void} draw
   * @param {number} [at]
   */
  whole(layer, draw, at) {
    this.end(); // what was begun is a change of its own
    const before = patch(layer.canvas, WHOLE);
    draw();
    this.keep([{ layer, box: WHOLE, before }]);
    this.change(at);
    this.ended();
  }

  undo() {
    this.end();
    this.step(this.done, this.undone, "before");
  }

  redo() {
    this.end();
    this.step(this.undone, this.done, "after");
  }

  /** @param {Change[]} from @param {Change[]} to @param {"before" | "after"} which */
  step(from, to, which) {
    const change = from.pop();
    if (!change) return;
    for (const { layer, box, [which]: image } of change) {
      layer.clearRect(box.left, box.top, box.right - box.left, box.bottom - box.top);
      layer.drawImage(image, box.left, box.top);
    }
    to.push(change);
    this.change();
    this.ended();
  }

  clear() {
    this.whole(this.picture, () => this.picture.clearRect(0, 0, SIZE, SIZE));
  }

  clearMask() {
    this.whole(this.mask, () => this.mask.clearRect(0, 0, SIZE, SIZE));
  }

  /**
   * Put a picture in place of what is drawn, all of it visible.
   * @param {CanvasImageSource & { width: number, height: number }} image
   */
  put(image) {
    this.whole(this.picture, () => {
      const scale = SIZE / Math.max(image.width, image.height);
      const [width, height] = [image.width * scale, image.height * scale];
      this.picture.clearRect(0, 0, SIZE, SIZE);
      this.picture.imageSmoothingEnabled = scale < 2; // a small picture keeps its pixels, and gives them back
      this.picture.imageSmoothingQuality = "high";
      this.picture.drawImage(image, (SIZE - width) / 2, (SIZE - height) / 2, width, height);
    });
  }

  /**
   * Flood what has one colour.
   * @param {{ x: number, y: number }} point
   * @param {number} [at]
   */
  fill({ x, y }, at) {
    const [left, top] = [Math.floor(x), Math.floor(y)];
    if (left < 0 || top < 0 || left >= SIZE || top >= SIZE) return;
    this.whole(this.picture, () => {
      const pixels = this.picture.getImageData(0, 0, SIZE, SIZE);
      if (flood(pixels, left, top, rgb(this.colour))) this.picture.putImageData(pixels, 0, 0);
    }, at);
  }

  /**
   * The keyboard as a pen: arrows move it, space sets it down and lifts it.
   * @param {KeyboardEvent} event
   */
  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[/** @type {keyof typeof moves} */ (event.key)];
    if (event.ctrlKey || event.metaKey || event.altKey || !(move || event.key === " " || event.key === "Enter")) return;
    event.preventDefault();
    const step = event.shiftKey ? 4 * CURSOR_STEP : CURSOR_STEP;
    if (move) {
      this.place.x = Math.min(SIZE - 1, Math.max(0, this.place.x + move[0] * step));
      this.place.y = Math.min(SIZE - 1, Math.max(0, this.place.y + move[1] * step));
      if (this.stroke?.id === -1) {
        this.extend({ ...this.place, width: this.size });
        this.change(event.timeStamp);
      }
    } else if (this.stroke?.id === -1) this.end(event.timeStamp);
    else if (!this.stroke) this.begin({ ...this.place, width: this.size }, -1, this.tool, event.timeStamp);
    this.cursor.hidden = false;
    this.cursor.style.setProperty("--x", `${(100 * this.place.x) / SIZE}%`);
    this.cursor.style.setProperty("--y", `${(100 * this.place.y) / SIZE}%`);
    this.cursor.classList.toggle("down", this.stroke?.id === -1);
  }

  /**
   * A layer at another size: straight RGBA, row by row; null if nothing is on it.
   * @param {"picture" | "mask"} layer @param {number} width @param {number} height
   * @returns {Uint8Array | null}
   */
  pixels(layer, width, height) {
    const name = `${layer} ${width} ${height}`;
    if (!this.small.has(name)) this.small.set(name, context(blank(width, height)));
    /** @type {CanvasRenderingContext2D} */
    const small = this.small.get(name);
    small.clearRect(0, 0, width, height);
    small.imageSmoothingQuality = "high";
    small.drawImage(this[layer].canvas, 0, 0, width, height);
    const { data } = small.getImageData(0, 0, width, height);
    for (let i = 3; i < data.length; i += 4) if (data[i]) return new Uint8Array(data.buffer);
    return null;
  }

  /**
   * Both layers as PNG files.
   * @returns {Promise<{ picture: Blob, mask: Blob }>}
   */
  async files() {
    const [picture, mask] = await Promise.all([this.picture, this.mask].map(({ canvas }) => file(canvas)));
    return { picture, mask };
  }

  /**
   * Put both layers back as they were, between two strokes; undo brings back what is there now.
   * @param {ImageBitmap[]} layers picture and mask
   */
  restore(layers) {
    const both = [this.picture, this.mask].map((layer) => ({ layer, box: WHOLE, before: patch(layer.canvas, WHOLE) }));
    both.forEach(({ layer }, i) => {
      layer.clearRect(0, 0, SIZE, SIZE);
      layer.imageSmoothingEnabled = false;
      layer.drawImage(layers[i], 0, 0, SIZE, SIZE);
    });
    this.keep(both.filter(({ layer, before }) => !same(layer.canvas, before)));
    this.revision++;
  }
}

/** The files of a drawing with nothing on it. */
export async function nothing() {
  const empty = await file(blank(SIZE, SIZE));
  return { picture: empty, mask: empty };
}

/** @param {HTMLCanvasElement} canvas @returns {Promise<Blob>} */
export function file(canvas) {
  return new Promise((done, failed) => canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("no picture"))), "image/png"));
}

/** @param {string} colour #rrggbb */
function rgb(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}

/**
 * Fill the area that has the colour at one place, and the soft edge of what borders it.
 * @param {ImageData} image @param {number} x @param {number} y @param {number[]} colour
 * @returns {boolean} whether anything changed
 */
function flood({ data, width, height }, x, y, colour) {
  const from = data.slice(4 * (y * width + x), 4 * (y * width + x) + 4);
  /** @param {number} i */
  const like = (i) => {
    if (from[3] < 8) return data[i + 3] < 128;
    return [0, 1, 2, 3].every((c) => Math.abs(data[i + c] - from[c]) < 24);
  };
  const seen = new Uint8Array(width * height);
  const waiting = [y * width + x];
  seen[waiting[0]] = 1;
  for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
    const i = 4 * at;
    data[i] = colour[0];
    data[i + 1] = colour[1];
    data[i + 2] = colour[2];
    data[i + 3] = 255;
    const column = at % width;
    for (const next of [column > 0 ? at - 1 : -1, column < width - 1 ? at + 1 : -1, at - width, at + width]) {
      if (next < 0 || next >= width * height || seen[next]) continue;
      seen[next] = 1;
      if (like(4 * next)) waiting.push(next);
    }
  }
  return true;
}
