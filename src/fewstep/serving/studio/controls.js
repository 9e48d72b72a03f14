// @ts-check
/** What is asked for beside the drawing: prompt, style, mode, numbers, tool and colour. */

import { find, input, pressed, select } from "./page.js";

/** @typedef {import("./history.js").Settings} Settings */
/** @typedef {import("./surface.js").Surface} Surface */
/** @typedef {import("./surface.js").Tool} Tool */

export const STRENGTHS = { sketch: { max: 2, value: 1 }, paint: { max: 1, value: 0.6 }, mask: { max: 1, value: 1 } };
const FEW_COLOURS = { black: "#1e1e21", red: "#db2626", green: "#33a842", blue: "#296be0", white: "#ebebed" }; // for models that know none by name

export class Controls {
  /** @param {Surface} surface */
  constructor(surface) {
    this.surface = surface;
    /** @type {any} what the server can be asked for */
    this.about = null;
  }

  /**
   * Show what this model can be asked for.
   * @param {any} about
   */
  offer(about) {
    const first = this.about === null;
    this.about = about;
    find("model").textContent = about.model;
    find("race").hidden = !about.teacher;
    find("chat").hidden = !about.prompt;
    select("style").parentElement?.toggleAttribute("hidden", !about.styles.length);
    if (select("style").options.length === 1) for (const style of about.styles) select("style").add(new Option(style));
    /** @type {HTMLOptionElement} */ (select("mode").options[0]).disabled = !about.control;
    if (!about.control && select("mode").value === "sketch") select("mode").value = "paint";
    input("steps").max = about.steps.most;
    Object.assign(input("guidance"), { min: about.guidance.low, max: about.guidance.high });
    find("guidance").parentElement?.toggleAttribute("hidden", about.guidance.low === about.guidance.high);
    find("prompt").parentElement?.toggleAttribute("hidden", !about.prompt);
    if (!first) return;
    input("steps").value = about.steps.default;
    if (about.guidance.default !== null) input("guidance").value = about.guidance.with_control;
    this.#colours(Object.entries(Object.keys(about.palette).length ? about.palette : FEW_COLOURS));
    this.shown();
  }

  /** @param {[string, string][]} palette */
  #colours(palette) {
    const buttons = palette.map(([name, value]) => {
      const button = Object.assign(document.createElement("button"), { type: "button", title: name });
      button.setAttribute("role", "radio");
      button.setAttribute("aria-label", name);
      button.style.background = value;
      button.addEventListener("click", () => {
        this.surface.colour = value;
        for (const each of buttons) each.setAttribute("aria-checked", String(each === button));
        if (this.surface.tool === "eraser" || this.surface.tool === "mask") this.choose("pen");
      });
      return button;
    });
    find("palette").replaceChildren(...buttons);
    (buttons.find(({ title }) => title === "black") ?? buttons[0]).click();
  }

  /** @returns {Settings} */
  settings() {
    return {
      prompt: input("prompt").value.trim(),
      style: select("style").value,
      mode: select("mode").value,
      strength: Number(input("strength").value),
      steps: Number(input("steps").value),
      guidance: Number(input("guidance").value),
      seed: Math.max(0, Math.floor(Number(input("seed").value) || 0)),
      images: pressed("four") ? 4 : 1,
    };
  }

  /** @param {Partial<Settings>} now */
  put(now) {
    for (const [name, value] of Object.entries(now)) {
      if (name === "images") find("four").setAttribute("aria-pressed", String(Number(value) > 1));
      else if (name === "mode") this.mode(String(value));
      else if (name !== "strength") input(name).value = String(value);
    }
    if (now.strength !== undefined) input("strength").value = String(now.strength); // after the mode, which has its own
    this.shown();
  }

  /** Write the numbers beside their sliders. */
  shown() {
    for (const id of ["strength", "steps", "guidance"]) find(`${id}Shown`).textContent = input(id).value;
    const { mode } = this.settings();
    this.surface.masking = mode === "mask";
    find("mask").classList.toggle("idle", mode !== "mask");
    input("strength").disabled = mode === "mask";
  }

  /** @param {string} name of a mode */
  mode(name) {
    select("mode").value = name;
    const { max, value } = STRENGTHS[/** @type {keyof typeof STRENGTHS} */ (name)];
    Object.assign(input("strength"), { max, value });
    if (name !== "mask" && this.surface.tool === "mask") this.choose("pen");
    this.shown();
  }

  /** @param {Tool} tool */
  choose(tool) {
    this.surface.tool = tool;
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.getAttribute("data-tool") === tool));
    }
    if (tool === "mask" && select("mode").value !== "mask") this.mode("mask");
  }

  /**
   * Make the pen thicker or thinner.
   * @param {number} by
   */
  thicken(by) {
    this.surface.size = Math.min(96, Math.max(4, this.surface.size + by));
    input("size").value = String(this.surface.size);
  }
}
