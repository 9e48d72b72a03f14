// @ts-check
/**
 * The connection: a WebSocket that comes back by itself, and plain POSTs where one is blocked.
 *
 * Who sends gets one answer to each frame, or `Lost` when the connection went first: then it sends its newest state
 * again once the wire is ready.
 */

import { pack, unpack } from "./frames.js";

/** @typedef {import("./frames.js").Answer} Answer */
/** @typedef {import("./frames.js").Picture} Picture */
/** @typedef {"connecting" | "socket" | "http" | "offline" | "locked"} State */

const PROTOCOL = "fewstep.live";
const FIRST_WAIT = 250; // milliseconds before the first try to come back; doubled after each that fails
const LONGEST_WAIT = 5000;
const OPEN_WITHIN = 4000; // a proxy that swallows WebSockets says nothing
const AGAIN = 60_000; // how long POSTs are used before the WebSocket is tried again

/** The connection went before the answer came. */
export class Lost extends Error {}

export class Wire {
  /** @param {(state: State) => void} changed told of each new state */
  constructor(changed) {
    this.changed = changed;
    /** @type {State} */
    this.state = "connecting";
    /** @type {WebSocket | null} */
    this.socket = null;
    this.key = sessionStorage.getItem("fewstep.key") ?? "";
    this.session = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
    /** @type {Map<number, { done: (answer: Answer) => void, failed: (error: Error) => void }>} */
    this.waiting = new Map();
    this.failures = 0;
    this.sent = 0;
    this.avoid = new URLSearchParams(location.search).get("wire") === "http";
  }

  get ready() {
    return this.state === "socket" || this.state === "http";
  }

  /**
   * What the server can be asked for.
   * @returns {Promise<any>}
   */
  async about() {
    const answer = await fetch("/v1/live", { headers: this.headers() });
    if (answer.status === 401) {
      this.become("locked");
      throw new Lost("this server wants an API key");
    }
    if (!answer.ok) throw new Lost(`the server answers ${answer.status}`);
    return answer.json();
  }

  headers() {
    return this.key ? { authorization: `Bearer ${this.key}` } : undefined;
  }

  /** @param {string} key for this tab */
  unlock(key) {
    this.key = /^[\w.~-]+$/.test(key.trim()) ? key.trim() : "none"; // what else could go neither into a header nor a subprotocol
    sessionStorage.setItem("fewstep.key", this.key);
    this.become("connecting");
    this.connect();
  }

  /** Try the WebSocket, and POSTs if it does not open though the server answers. */
  async connect() {
    if (!this.avoid && (await this.opened())) return;
    try {
      await this.about();
      this.failures = 0;
      this.become("http");
      if (!this.avoid) setTimeout(() => this.state === "http" && this.connect(), AGAIN);
    } catch (error) {
      if (this.state !== "locked") this.later();
    }
  }

  /** @returns {Promise<boolean>} whether the WebSocket opened */
  opened() {
    return new Promise((resolve) => {
      const url = new URL("/v1/live", location.href);
      url.protocol = url.protocol.replace("http", "ws");
      const socket = new WebSocket(url, this.key ? [PROTOCOL, `fewstep.key.${this.key}`] : [PROTOCOL]);
      socket.binaryType = "arraybuffer";
      const slow = setTimeout(() => socket.close(), OPEN_WITHIN);
      let open = false;
      socket.onopen = () => {
        clearTimeout(slow);
        open = true;
        this.failures = 0;
        this.socket = socket;
        this.become("socket");
        resolve(true);
      };
      socket.onmessage = (event) => this.got(event.data);
      socket.onclose = () => {
        clearTimeout(slow);
        if (!open) return resolve(false);
        if (this.socket !== socket) return;
        this.socket = null;
        this.lose();
        this.later();
      };
    });
  }

  later() {
    this.become("offline");
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.failures++);
    setTimeout(() => this.connect(), wait * (0.75 + Math.random() / 2));
  }

  /** @param {State} state */
  become(state) {
    if (state === this.state) return;
    this.state = state;
    this.changed(state);
  }

  lose() {
    for (const { failed } of this.waiting.values()) failed(new Lost("the connection was lost"));
    this.waiting.clear();
  }

  /** @param {ArrayBuffer} frame */
  got(frame) {
    const answer = unpack(frame);
    const asked = this.waiting.get(answer.head.seq);
    this.waiting.delete(answer.head.seq);
    asked?.done(answer);
  }

  /**
   * Send one frame and wait for its answer.
   * @param {Record<string, unknown>} head without its `seq`
   * @param {Picture[]} pictures
   * @returns {Promise<Answer>}
   * @throws {Lost}
   */
  async ask(head, pictures) {
    const seq = ++this.sent;
    if (this.state === "http") return this.post(pack({ ...head, seq, session: this.session }, pictures));
    const socket = this.socket;
    if (!socket || socket.readyState !== WebSocket.OPEN) throw new Lost("there is no connection");
    return new Promise((done, failed) => {
      this.waiting.set(seq, { done, failed });
      socket.send(pack({ ...head, seq }, pictures));
    });
  }

  /** @param {Uint8Array} frame @returns {Promise<Answer>} */
  async post(frame) {
    try {
      const answer = await fetch("/v1/live", { method: "POST", body: frame, headers: this.headers() });
      if (!answer.ok) throw new Lost(`the server answers ${answer.status}`);
      return unpack(await answer.arrayBuffer());
    } catch (error) {
      this.later();
      throw error instanceof Lost ? error : new Lost(String(error));
    }
  }
}
