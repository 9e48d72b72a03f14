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

/** @param {string} text @param {boolean} [wrong] */
export function say(text, wrong = false) {
  find("said").textContent = text;
  find("said").classList.toggle("wrong", wrong);
}

export const anySeed = () => Math.floor(Math.random() * 2 ** 32);
