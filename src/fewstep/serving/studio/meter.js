// @ts-check
/** Where the time of a frame goes, from the pen's event to new pixels on the screen. */

/** @typedef {import("./frames.js").Answer} Answer */
/** @typedef {import("./pace.js").Times} Times */

const STAGES = ["wait", "capture", "upload", "queue", "model", "encode", "server", "download", "paint", "total"];
const KEPT = 600;

/** @param {number[]} values @param {number} share */
export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

export class Meter {
  /** @param {HTMLElement} brief @param {HTMLElement} table @param {HTMLDetailsElement} details */
  constructor(brief, table, details) {
    this.brief = brief;
    this.table = table;
    this.details = details;
    /** @type {Record<string, number>[]} */
    this.frames = [];
    this.kept = KEPT;
    details.addEventListener("toggle", () => this.show());
  }

  /**
   * Note a frame. Of a round trip less the server's share, upload and download are taken to be halves: a browser
   * cannot read another machine's clock.
   * @param {Answer} answer @param {Times} times @param {number} painted performance.now() when its pixels were shown
   */
  note({ head }, times, painted) {
    const server = head.timings ?? {};
    const way = Math.max(0, times.got - times.sent - (server.server ?? 0));
    const frame = {
      wait: Math.max(0, times.sent - times.capture - times.since),
      capture: times.capture,
      upload: way / 2,
      queue: server.queue ?? 0,
      model: server.model ?? 0,
      encode: server.encode_image ?? 0,
      server: (server.server ?? 0) - (server.queue ?? 0) - (server.model ?? 0) - (server.encode_image ?? 0),
      download: way / 2,
      paint: painted - times.got,
      total: painted - times.since,
    };
    this.frames.push(frame);
    if (this.frames.length > this.kept) this.frames.shift();
    this.brief.textContent = `${frame.total.toFixed(0)} ms`;
    if (this.details.open) this.show();
  }

  show() {
    if (!this.frames.length) return;
    const recent = this.frames.slice(-60);
    const rows = STAGES.map((stage) => {
      const values = recent.map((frame) => frame[stage]);
      const cells = [values[values.length - 1], quantile(values, 0.5), quantile(values, 0.95)];
      return `<tr><th scope="row">${stage}</th>${cells.map((value) => `<td>${value.toFixed(1)}</td>`).join("")}</tr>`;
    });
    this.table.innerHTML =
      `<table><caption class="hidden">Milliseconds of the last ${recent.length} frames</caption>` +
      `<thead><tr><th scope="col">ms</th><td>last</td><td>median</td><td>95 %</td></tr></thead><tbody>${rows.join("")}</tbody></table>`;
  }
}
