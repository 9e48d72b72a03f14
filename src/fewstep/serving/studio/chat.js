// @ts-check
/**
 * Pictures in a conversation, over OpenAI's Images API alone, as any agent would use it.
 *
 * A message is a new prompt, or a change of the last picture: a colour, a style, another one, back. A change goes to
 * `/images/edits` or `/images/variations` with the last picture's id, so each picture's record names what it came from.
 */

import { fromBase64 } from "./files.js";

/** @typedef {{ id: string, prompt: string, seed: number, change: string, from: string | null }} Turn */
/** @typedef {{ kind: "new" | "edit" | "again" | "back", prompt: string }} Wish */

const AGAIN = /^(another( one)?|again|one more|more|once more|other)[.! ]*$/i;
const BACK = /^(back|undo|the one before|go back)[.! ]*$/i;
const LEAD = /^(please\s+)?(make|turn|paint|colou?r)\s+(it|this|that)\s+(in(to)?\s+|a\s+)?/i;
const AS = /^(please\s+)?(and\s+)?(now\s+)?(as|in|like)\s+(a\s+|an\s+)?/i;
const NEW = /^(please\s+)?(draw|show( me)?|give( me)?|i want|can you draw)\s+(me\s+)?/i;

/**
 * What a message wishes for, after the last prompt.
 * @param {string} message
 * @param {string | null} last prompt
 * @param {string[]} colours
 * @param {string[]} styles
 * @returns {Wish}
 */
export function understood(message, last, colours, styles) {
  const text = message.trim().replace(/[.!]+$/, "");
  if (last !== null && AGAIN.test(text)) return { kind: "again", prompt: last };
  if (last !== null && BACK.test(text)) return { kind: "back", prompt: last };
  const said = text.replace(LEAD, "").replace(AS, "").replace(/\s+style$/i, "").toLowerCase();
  const changes = said !== text.toLowerCase();
  if (last !== null) {
    const colour = colours.find((name) => said === name);
    if (colour) return { kind: "edit", prompt: `${words(last, styles)[0]}${colour} ${without(words(last, styles)[1], colours)}` };
    const style = styles.find((name) => said === name);
    if (style) return { kind: "edit", prompt: `${style} ${words(last, styles)[1]}` };
    if (changes && said) return { kind: "edit", prompt: `${words(last, styles)[0]}${said} ${without(words(last, styles)[1], colours)}` };
  }
  return { kind: "new", prompt: text.replace(NEW, "") };
}

/**
 * A prompt's style, with a space behind it, and the rest.
 * @param {string} prompt
 * @param {string[]} styles
 * @returns {[string, string]}
 */
function words(prompt, styles) {
  const style = styles.find((name) => prompt.startsWith(`${name} `));
  return style ? [`${style} `, prompt.slice(style.length + 1)] : ["", prompt];
}

/**
 * @param {string} prompt
 * @param {string[]} colours
 */
function without(prompt, colours) {
  const left = prompt.replace(/^(a|an|the)\s+/i, "").split(/\s+/).filter((word) => !colours.includes(word.toLowerCase()));
  return left.join(" ") || prompt;
}

export class Chat {
  /**
   * @param {(id: string) => HTMLElement} find
   * @param {() => { colours: string[], styles: string[], headers: Record<string, string> | undefined }} know
   * @param {(file: Blob) => void} take puts a picture onto the canvas
   */
  constructor(find, know, take) {
    this.log = find("log");
    this.box = /** @type {HTMLInputElement} */ (find("message"));
    this.know = know;
    this.take = take;
    /** @type {Turn[]} */
    this.turns = [];
    find("talk").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = this.box.value.trim();
      this.box.value = "";
      if (text) this.say(text);
    });
  }

  /** @param {string} text */
  async say(text) {
    this.line("you", text);
    const last = this.turns[this.turns.length - 1] ?? null;
    const { colours, styles } = this.know();
    const wish = understood(text, last && last.prompt, colours, styles);
    if (wish.kind === "back") {
      if (this.turns.length > 1) this.turns.pop();
      const now = this.turns[this.turns.length - 1];
      this.line("fewstep", `Back to “${now.prompt}”.`);
      return;
    }
    const seed = wish.kind === "edit" && last ? last.seed : Math.floor(Math.random() * 2 ** 32);
    const source = last && { images: [{ file_id: last.id }] };
    const [path, body] =
      wish.kind === "new" || !source
        ? ["generations", { prompt: wish.prompt, seed }]
        : wish.kind === "edit"
          ? ["edits", { ...source, prompt: wish.prompt, seed, strength: 0.9 }]
          : ["variations", { ...source, prompt: wish.prompt, seed, strength: 0.8 }];
    const line = this.line("fewstep", "…");
    try {
      const began = performance.now();
      const answer = await fetch(`/v1/images/${path}`, {
        method: "POST", headers: { "content-type": "application/json", ...this.know().headers }, body: JSON.stringify(body),
      });
      const got = await answer.json();
      if (!answer.ok) throw new Error(got.error.message);
      const [picture] = got.data;
      const turn = { id: picture.id, prompt: wish.prompt, seed: picture.seed, change: text, from: wish.kind === "new" ? null : (last?.id ?? null) };
      this.turns.push(turn);
      this.shown(line, turn, picture, Math.round(performance.now() - began));
    } catch (error) {
      line.textContent = `That did not work: ${error instanceof Error ? error.message : error}`;
      line.classList.add("wrong");
    }
    this.log.scrollTop = this.log.scrollHeight;
  }

  /**
   * @param {HTMLElement} line
   * @param {Turn} turn
   * @param {any} picture
   * @param {number} milliseconds
   */
  shown(line, turn, picture, milliseconds) {
    const url = `data:image/png;base64,${picture.b64_json}`;
    const image = Object.assign(new Image(), { src: url, alt: turn.prompt, width: 128, height: 128 });
    const before = this.turns.filter(({ id }) => id === turn.from).map(({ prompt }) => `from “${prompt}”`);
    const strange = picture.unknown_words.length ? `never seen: ${picture.unknown_words.join(", ")}` : "";
    const unread = picture.unread_prompt ? `too long, not read: ${picture.unread_prompt.slice(0, 80)}` : "";
    const text = [turn.prompt, ...before, `seed ${turn.seed}`, `${milliseconds} ms`, strange, unread].filter(Boolean).join(" · ");
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Open" });
    button.addEventListener("click", () => this.take(fromBase64(picture.b64_json)));
    line.replaceChildren(image, Object.assign(document.createElement("small"), { textContent: text }), button);
    line.dataset.id = turn.id;
  }

  /**
   * @param {string} who
   * @param {string} text
   */
  line(who, text) {
    const line = Object.assign(document.createElement("li"), { textContent: text, className: who });
    this.log.append(line);
    this.log.scrollTop = this.log.scrollHeight;
    return line;
  }
}
