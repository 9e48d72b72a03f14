// @ts-check
/**
 * Mice, pens and fingers on the paper: which of them draws, which moves the paper, and which is a palm.
 *
 * One finger draws, two move and enlarge the paper and never draw. A pen takes over from a finger, which was the palm
 * then, and from then on fingers only move the paper, until they are told to draw again.
 */

const MOST_ZOOM = 8;
const ERASER_BUTTON = 5;
const ERASER = 32; // among the buttons that are down

/** @typedef {{ x: number, y: number }} Place */
/** @typedef {{ scale: number, x: number, y: number }} View of the paper: a point p of it is at x + scale · p */

export class Pointers {
  /**
   * @param {HTMLElement} target what is drawn on
   * @param {HTMLElement} paper around it
   * @param {import("./surface.js").Surface} surface
   * @param {(fingersDraw: boolean) => void} ignored told when a finger was not let draw, and when it may again
   * @param {(view: View) => void} moved told of each new view
   */
  constructor(target, paper, surface, ignored, moved) {
    this.target = target;
    this.paper = paper;
    this.surface = surface;
    this.ignored = ignored;
    this.moved = moved;
    this.fingersDraw = true;
    this.drawing = ""; // the kind of pointer that draws the stroke
    /** @type {Map<number, Place>} */
    this.fingers = new Map();
    /** @type {{ id: number, point: import("./surface.js").Point } | null} */
    this.waiting = null; // a finger that fills once it is lifted, unless a second one comes
    /** @type {{ view: View, from: [Place, Place] } | null} */
    this.grip = null;
    /** @type {View} */
    this.view = { scale: 1, x: 0, y: 0 };
    target.addEventListener("pointerdown", (event) => this.down(event));
    target.addEventListener("pointermove", (event) => this.move(event));
    target.addEventListener("pointerup", (event) => this.up(event, false));
    target.addEventListener("pointercancel", (event) => this.up(event, true));
    target.addEventListener("lostpointercapture", (event) => this.up(event, false));
  }

  letFingersDraw() {
    this.fingersDraw = true;
    this.ignored(true);
  }

  /** Show the whole paper. */
  whole() {
    this.look({ scale: 1, x: 0, y: 0 });
  }

  /** @param {PointerEvent} event */
  down(event) {
    if (event.pointerType === "touch") return this.finger(event);
    const erases = event.pointerType === "pen" && (event.button === ERASER_BUTTON || (event.buttons & ERASER) > 0);
    if (event.button !== 0 && !erases) return;
    if (event.pointerType === "pen") this.fingersDraw = false;
    if (this.surface.stroke && this.drawing === "touch") this.surface.cancel();
    else this.surface.end(); // its pointer went up unseen
    this.waiting = null;
    this.begin(event, erases ? "eraser" : this.surface.tool);
  }

  /** @param {PointerEvent} event */
  finger(event) {
    event.preventDefault();
    this.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.fingers.size === 2) {
      if (this.drawing === "touch") this.surface.cancel();
      this.waiting = null;
      if (!this.surface.stroke) this.grip = { view: this.view, from: this.pair() };
    }
    if (this.fingers.size > 1 || this.surface.stroke) return;
    if (!this.fingersDraw) return this.ignored(false);
    if (this.surface.tool === "fill") this.waiting = { id: event.pointerId, point: this.surface.point(event, this.target) };
    else this.begin(event, this.surface.tool);
  }

  /** @param {PointerEvent} event @param {import("./surface.js").Tool} tool */
  begin(event, tool) {
    event.preventDefault();
    this.target.focus({ preventScroll: true });
    this.target.setPointerCapture(event.pointerId);
    this.drawing = event.pointerType;
    this.surface.begin(this.surface.point(event, this.target), event.pointerId, tool, event.timeStamp);
  }

  /** @param {PointerEvent} event */
  move(event) {
    if (this.fingers.has(event.pointerId)) {
      this.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (this.grip && this.fingers.size === 2) return this.pinch(this.grip);
    }
    if (this.surface.stroke?.id !== event.pointerId) return;
    if (event.pointerType !== "touch" && event.buttons === 0) return this.surface.end(event.timeStamp); // it went up unseen
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.surface.extend(this.surface.point(each, this.target));
    this.surface.change(event.timeStamp);
  }

  /** @param {PointerEvent} event @param {boolean} taken whether the system took the pointer away, as it does with palms */
  up(event, taken) {
    this.fingers.delete(event.pointerId);
    if (this.fingers.size < 2) this.grip = null;
    if (this.waiting?.id === event.pointerId) {
      const { point } = this.waiting;
      this.waiting = null;
      if (!taken) this.surface.begin(point, event.pointerId, "fill", event.timeStamp);
    }
    if (this.surface.stroke?.id !== event.pointerId) return;
    if (taken && event.pointerType === "touch") this.surface.cancel();
    else this.surface.end(event.timeStamp);
  }

  /** @returns {[Place, Place]} */
  pair() {
    const [one, other] = this.fingers.values();
    return [one, other];
  }

  /**
   * Keep what was under the two fingers under them.
   * @param {{ view: View, from: [Place, Place] }} grip
   */
  pinch({ view, from }) {
    const box = this.paper.getBoundingClientRect();
    const [before, now] = [from, this.pair()].map(([one, other]) => ({
      x: (one.x + other.x) / 2 - box.left - this.paper.clientLeft,
      y: (one.y + other.y) / 2 - box.top - this.paper.clientTop,
      apart: Math.max(1, Math.hypot(one.x - other.x, one.y - other.y)),
    }));
    const scale = Math.min(MOST_ZOOM, Math.max(1, (view.scale * now.apart) / before.apart));
    const held = (/** @type {number} */ at, /** @type {number} */ start) => (at - start) / view.scale;
    this.look({ scale, x: now.x - scale * held(before.x, view.x), y: now.y - scale * held(before.y, view.y) });
  }

  /** @param {View} view */
  look({ scale, x, y }) {
    const within = (/** @type {number} */ at, /** @type {number} */ side) => Math.min(0, Math.max(side * (1 - scale), at));
    this.view = { scale, x: within(x, this.paper.clientWidth), y: within(y, this.paper.clientHeight) };
    this.paper.style.setProperty("--zoom", `${scale}`);
    this.paper.style.setProperty("--pan-x", `${this.view.x}px`);
    this.paper.style.setProperty("--pan-y", `${this.view.y}px`);
    this.moved(this.view);
  }
}
