// @ts-check
/**
 * When to ask: never more than one request on its way, always the newest state after it, nothing while paused.
 *
 * Pen events only mark the state as changed. What is sent is taken from the state at the moment of sending, so the last
 * stroke is always drawn, and a slow model makes fewer pictures, not late ones.
 */

import { Lost } from "./wire.js";

/** @typedef {import("./frames.js").Answer} Answer */
/** @typedef {import("./frames.js").Picture} Picture */
/** @typedef {{ head: Record<string, unknown>, pictures: Picture[], state: any }} Frame */
/** @typedef {{ since: number, capture: number, sent: number, got: number }} Times milliseconds of performance.now() */

export class Pace {
  /**
   * @param {import("./wire.js").Wire} wire
   * @param {() => Frame | null} capture the newest state; null if there is nothing to draw
   * @param {(answer: Answer, frame: Frame, times: Times) => Promise<void>} show
   * @param {(message: string) => void} complain
   */
  constructor(wire, capture, show, complain) {
    this.wire = wire;
    this.capture = capture;
    this.show = show;
    this.complain = complain;
    this.paused = false;
    this.busy = false;
    /** @type {number | null} since when there is something that was not asked for yet */
    this.changed = null;
    this.planned = false;
    this.notBefore = 0; // a busy server said when to ask again
    this.era = 0; // which of the states that were brought back is shown
  }

  /**
   * Something changed, at this moment of performance.now() (an event's `timeStamp`).
   * @param {number} [at]
   */
  touch(at = performance.now()) {
    this.changed ??= at;
    this.plan();
  }

  /** What was there is not wanted any more, nor asked for again: something else was brought back. */
  forget() {
    this.changed = null;
    this.era++;
  }

  /** @param {boolean} paused */
  pause(paused) {
    this.paused = paused;
    if (!paused) this.plan();
  }

  /** Nothing is on its way or waiting to be. */
  get settled() {
    return !this.busy && (this.changed === null || this.paused);
  }

  /** Ask soon, outside of the event that asked for it. */
  plan() {
    if (this.planned || this.busy || this.paused || this.changed === null || !this.wire.ready) return;
    this.planned = true;
    setTimeout(() => {
      this.planned = false;
      if (!this.busy && !this.paused && this.changed !== null && this.wire.ready) this.send();
    }, Math.max(0, this.notBefore - performance.now()));
  }

  async send() {
    const since = this.changed ?? performance.now(), { era } = this;
    const again = () => {
      if (era === this.era) this.changed ??= since;
    };
    this.changed = null;
    const began = performance.now();
    const frame = this.capture();
    if (frame === null) return;
    this.busy = true;
    const sent = performance.now();
    try {
      const answer = await this.wire.ask(frame.head, frame.pictures);
      const times = { since, capture: sent - began, sent, got: performance.now() };
      if (!answer.head.error) {
        await this.show(answer, frame, times);
      } else if (answer.head.status === 429 || answer.head.status === 503) {
        again();
        this.notBefore = performance.now() + (answer.head.retry_ms ?? 500);
      } else if (answer.head.error.code !== "superseded") {
        this.complain(answer.head.error.message);
      }
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
      again(); // when the wire is back
    } finally {
      this.busy = false;
      this.plan();
    }
  }
}
