// @ts-check
/** The page's elements by their ids. */

/** @param {string} id @returns {HTMLElement} */
export const find = (id) => {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no '${id}'`);
  return found;
};

/** @param {string} id @returns {HTMLInputElement} */
export const input = (id) => /** @type {HTMLInputElement} */ (find(id));

/** @param {string} id @returns {HTMLSelectElement} */
export const select = (id) => /** @type {HTMLSelectElement} */ (find(id));

/**
 * Whether a button is pressed.
 * @param {string} id
 */
export const pressed = (id) => find(id).getAttribute("aria-pressed") === "true";

/** @param {string} id of a button @returns {boolean} whether it is pressed now */
export const toggle = (id) => {
  const on = !pressed(id);
  find(id).setAttribute("aria-pressed", String(on));
  return on;
};

/**
 * Write below the picture what it shows, or why there is none.
 * @param {string} text
 * @param {boolean} [wrong]
 */
export function say(text, wrong = false) {
  find("said").textContent = text;
  find("said").classList.toggle("wrong", wrong);
}

/** Let a screen reader say what stands below the picture, once it stands still: the words, not the numbers that change with each. */
export function speak() {
  const words = (find("said").textContent ?? "").replace(/ \(\d+ %\)/g, "");
  if (find("spoken").textContent !== words) find("spoken").textContent = words;
}

let telling = 0;

/**
 * Tell something that has nothing to do with the next picture: it stays for a while, whatever is drawn.
 * @param {string} text
 * @param {boolean} [wrong]
 */
export function tell(text, wrong = false) {
  find("told").textContent = text;
  find("told").classList.toggle("wrong", wrong);
  clearTimeout(telling);
  telling = setTimeout(() => (find("told").textContent = ""), 8000);
}

/**
 * What the browser remembers; nothing where it may not.
 * @param {"localStorage" | "sessionStorage"} where
 * @param {string} name
 */
export function recall(where, name) {
  try {
    return window[where].getItem(name);
  } catch {
    return null; // storage is blocked: the page works without
  }
}

/**
 * Let the browser remember something, where it may.
 * @param {"localStorage" | "sessionStorage"} where
 * @param {string} name
 * @param {string} value
 */
export function remember(where, name, value) {
  try {
    window[where].setItem(name, value);
  } catch (error) {
    console.info(`${name} is not remembered`, error);
  }
}

export const anySeed = () => Math.floor(Math.random() * 2 ** 32);
