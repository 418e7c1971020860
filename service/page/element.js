// Building the page: elements from names, attributes and children; text is always text, never markup.

import { here } from "./words.js";

/** h("p", {class: "note", onclick: f}, "text", child, null): null and false children are left out. */
export function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in PROPERTIES) made[name] = value;
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const PROPERTIES = { value: 1, checked: 1, disabled: 1, selected: 1, multiple: 1 };

/** A table: `columns` are texts, or {text, kind: "number"}; cells are texts or elements. */
export function table(caption, columns, rows, { hideCaption = false } = {}) {
  const heads = columns.map((column) => (typeof column === "string" ? { text: column } : column));
  const line = (cells) =>
    h("tr", {}, cells.map((cell, k) =>
      h(k === 0 ? "th" : "td", { scope: k === 0 ? "row" : null, class: heads[k].kind, "data-label": heads[k].text }, cell)));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", { class: hideCaption ? "hidden" : null }, caption),
      h("thead", {}, h("tr", {}, heads.map((head) =>
        head.text ? h("th", { scope: "col", class: head.kind }, head.text) : h("td", {})))),
      h("tbody", {}, rows.map(line))));
}

/** A list of facts: pairs of a name and a text or element. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, value]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

const INPUTS = new Set(["file", "model", "calibration", "evaluation", "dataset"]); // messages use the name of the file

/** A problem as what happened and what to do about it. It is announced, and takes the focus when asked to. */
export function alarm(problem, ...actions) {
  const errors = problem.errors?.length > 1 ? problem.errors : [];
  return h("div", { class: "alarm", role: "alert", tabindex: "-1" },
    h("p", { class: "what" }, h("strong", {}, problem.title || "That did not work")),
    h("p", {}, here(problem.what)),
    problem.where && !INPUTS.has(problem.where) && !problem.what.includes(problem.where) && h("p", {}, "Where: ", h("code", {}, problem.where)),
    errors.length > 0 && h("ul", {}, errors.map((error) => h("li", {}, `${error.where}: ${error.what}`))),
    problem.remedy && h("p", {}, h("strong", {}, "What to do: "), here(problem.remedy)),
    problem.requestId && h("p", { class: "note" }, `For the operator: request ${problem.requestId}`),
    actions.length > 0 && h("div", { class: "actions" }, actions));
}

/** Do something that the service may refuse, which is then shown in `trouble`. */
export async function attempt(trouble, act) {
  trouble.replaceChildren();
  try {
    await act();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!error.what) throw error; // a fault of this page
    const shown = alarm(error);
    trouble.replaceChildren(shown);
    shown.focus();
  }
}

/** Announce something to screen readers. */
export function announce(text) {
  const place = document.getElementById("announcer");
  place.textContent = "";
  setTimeout(() => { place.textContent = text; }, 60);
}

/** Move the focus to something that is not a control. */
export function focusOn(element) {
  if (!element.hasAttribute("tabindex")) element.setAttribute("tabindex", "-1");
  element.focus();
}

let counter = 0;
/** An id that is used nowhere else. */
export function freshId(name) {
  counter += 1;
  return `${name}-${counter}`;
}
