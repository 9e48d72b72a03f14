// @ts-check
/** The same prompt, drawing and seed to the teacher and to the student at once: each shows when it is ready. */

import { Lost, Wire } from "./wire.js";

/** @typedef {import("./pace.js").Frame} Frame */

export class Race {
  /**
   * @param {(id: string) => HTMLElement} find
   * @param {() => Frame | null} capture
   */
  constructor(find, capture) {
    this.dialog = /** @type {HTMLDialogElement} */ (find("racing"));
    this.lanes = find("lanes");
    this.said = find("raced");
    this.capture = capture;
    /** @type {Wire | null} */
    this.wire = null;
    /** @type {string[]} */
    this.models = [];
    this.running = false;
    find("again").addEventListener("click", () => this.run());
  }

  /** @param {{ model: string, teacher: string }} about */
  open(about) {
    this.models = [about.teacher, about.model];
    this.dialog.showModal();
    this.run();
  }

  /** A connection of its own, so that the live canvas and the race do not replace each other's requests. */
  ready() {
    return new Promise((resolve, failed) => {
      if (this.wire?.ready) return resolve(this.wire);
      const wire = new Wire((state) => {
        if (wire.ready) resolve(wire);
        else if (state === "locked") failed(new Lost("locked"));
      });
      this.wire = wire;
      wire.connect();
    });
  }

  async run() {
    const frame = this.capture();
    if (this.running || !frame) {
      if (!frame) this.said.textContent = "Say or draw something first.";
      return;
    }
    this.running = true;
    this.said.textContent = "";
    const lanes = this.models.map((model) => lane(model));
    this.lanes.replaceChildren(...lanes.map(({ box }) => box));
    try {
      const wire = await this.ready();
      const began = performance.now();
      const clock = setInterval(() => {
        for (const each of lanes) if (!each.done) each.time.textContent = `${((performance.now() - began) / 1000).toFixed(1)} s`;
      }, 50);
      const times = await Promise.all(
        lanes.map(async (each) => {
          const { steps, ...head } = frame.head;
          const asked = { ...head, n: 1, model: each.model, ...(each.model === this.models[1] ? { steps } : {}) };
          const answer = await wire.ask(asked, frame.pictures);
          each.done = true;
          if (answer.head.error) {
            each.time.textContent = answer.head.error.message;
            return null;
          }
          const model = answer.head.timings?.model ?? 0;
          each.time.textContent = `${(performance.now() - began).toFixed(0)} ms, ${model.toFixed(0)} of them in the network · ${answer.head.network_evaluations} evaluations`;
          const bitmap = await createImageBitmap(answer.pictures[0]);
          const context = each.canvas.getContext("2d");
          if (context) {
            context.imageSmoothingQuality = "high";
            context.drawImage(bitmap, 0, 0, each.canvas.width, each.canvas.height);
          }
          return model;
        }),
      ).finally(() => clearInterval(clock));
      const [teacher, student] = times;
      this.said.textContent =
        teacher && student
          ? `The student's network took ${(teacher / student).toFixed(1)} times less. Both ran at once and shared this machine.`
          : "So there was no race.";
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
      this.said.textContent = `The race was broken off: ${error.message}.`;
    } finally {
      this.running = false;
    }
  }
}

/** @param {string} model */
function lane(model) {
  const box = document.createElement("figure");
  const canvas = Object.assign(document.createElement("canvas"), { width: 512, height: 512 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Picture of ${model}`);
  const name = Object.assign(document.createElement("b"), { textContent: model });
  const time = Object.assign(document.createElement("span"), { textContent: "…" });
  const caption = document.createElement("figcaption");
  caption.append(name, document.createElement("br"), time);
  box.append(canvas, caption);
  return { model, box, canvas, time, done: false };
}
