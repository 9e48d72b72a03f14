// @ts-check
/**
 * The connection: a WebSocket that comes back by itself, and plain POSTs where one is blocked.
 *
 * Who sends gets one answer to each frame, or `Lost` when the connection went first: then it sends its newest state
 * again once the wire is ready.
 */

import { pack, unpack } from "./frames.js";
import { recall, remember } from "./page.js";

/** @typedef {import("./frames.js").Answer} Answer */
/** @typedef {import("./frames.js").Picture} Picture */
/** @typedef {"connecting" | "socket" | "http" | "offline" | "locked"} State */

const PROTOCOL = "fewstep.live";
const FIRST_WAIT = 250; // milliseconds before the first try to come back; doubled after each that fails
const LONGEST_WAIT = 5000;
const OPEN_WITHIN = 4000; // a proxy that swallows WebSockets says nothing
const AGAIN = 60_000; // how long POSTs are used before the WebSocket is tried again
const ANSWER_WITHIN = 120_000; // a connection that says nothing for so long is broken, though nobody said so

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
    this.key = recall("sessionStorage", "fewstep.key") ?? "";
    this.session = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
    /** @type {Map<number, { done: (answer: Answer) => void, failed: (error: Error) => void }>} */
    this.waiting = new Map();
    this.failures = 0;
    this.sent = 0;
    /** @type {number | undefined} the next try */
    this.next = undefined;
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
    remember("sessionStorage", "fewstep.key", this.key);
    clearTimeout(this.next);
    this.become("connecting");
    this.connect();
  }

  /** Try the WebSocket, and POSTs if it does not open though the server answers. */
  async connect() {
    if (!this.avoid && (await this.opened())) return;
    try {
      await this.about();
      this.become("http");
      if (!this.avoid) this.#try(AGAIN);
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
        this.socket = socket;
        this.become("socket");
        resolve(true);
      };
      socket.onmessage = (event) => this.got(event.data);
      socket.onclose = () => {
        clearTimeout(slow);
        if (!open) return resolve(false);
        if (this.socket === socket) this.later();
      };
    });
  }

  later() {
    const { socket } = this;
    this.socket = null;
    socket?.close();
    this.lose();
    this.become("offline");
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.failures++);
    this.#try(wait * (0.75 + Math.random() / 2));
  }

  /** @param {number} wait milliseconds until the next try, instead of any other that waits */
  #try(wait) {
    clearTimeout(this.next);
    this.next = setTimeout(() => this.connect(), wait);
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
    this.failures = 0;
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
    if (this.state === "http") return this.post(seq, pack({ ...head, seq, session: this.session }, pictures));
    const socket = this.socket;
    if (!socket || socket.readyState !== WebSocket.OPEN) throw new Lost("there is no connection");
    const slow = setTimeout(() => this.socket === socket && this.later(), ANSWER_WITHIN);
    /** @type {Promise<Answer>} */
    const answer = new Promise((done, failed) => this.waiting.set(seq, { done, failed }));
    socket.send(pack({ ...head, seq }, pictures));
    return answer.finally(() => clearTimeout(slow));
  }

  /** @param {number} seq @param {Uint8Array} frame @returns {Promise<Answer>} */
  async post(seq, frame) {
    const patience = new AbortController(), slow = setTimeout(() => patience.abort(), ANSWER_WITHIN);
    try {
      const answer = await fetch("/v1/live", { method: "POST", body: frame, headers: this.headers(), signal: patience.signal });
      if (answer.ok) {
        const got = unpack(await answer.arrayBuffer());
        this.failures = 0;
        return got;
      }
      if (answer.status < 400 || answer.status >= 500 || answer.status === 401) throw new Lost(`the server answers ${answer.status}`);
      return { head: { seq, status: answer.status, error: await refusal(answer) }, pictures: [] };
    } catch (error) {
      this.later();
      throw error instanceof Lost ? error : new Lost(String(error));
    } finally {
      clearTimeout(slow);
    }
  }
}

/**
 * Why an answer is none: as the Images API has it, or as whoever stands between has it.
 * @param {Response} answer
 */
async function refusal(answer) {
  try {
    const { error } = await answer.json();
    if (typeof error.message === "string") return error;
  } catch {
    // not the server's own words
  }
  return { message: `Something between here and the server refuses what is sent: ${answer.status} ${answer.statusText}`, code: null, param: null };
}
