// T, code, method and form, each with its meaning; the other options can be unfolded.

import { freshId, h } from "./element.js";
import { OPTIONS } from "./known.js";
import { BUDGETS, CODINGS, ENERGY_MODELS, FORMS, LEVELS, METHODS, METRICS, MINIMISE, PRECISIONS, PRESETS, TARGETS, levels, listed, mostSteps } from "./words.js";

const start = Object.fromEntries(Object.entries(OPTIONS).map(([name, option]) => [name, option.default]));
export const FRESH = {
  synthetic: start.synthetic, metric: [], levels: "same", budget: "energy", energy: "", mean_levels: "", time_steps: OPTIONS.time_steps.usual,
  coding: start.coding, method: start.method, form: start.form, precision: start.precision, target: start.target,
  sweep_steps: OPTIONS.time_steps.several, sweep_coding: OPTIONS.coding.several, sweep_method: OPTIONS.method.several,
  max_drop: "1", minimise: start.minimise,
  include: [], exclude: [], identity_sites: start.identity_sites, allow_partial: start.allow_partial, limit: "", seed: start.seed,
  energy_model: start.energy_model, preset: "", preprocess: "", image_size: start.image_size, mean: [start.mean], std: [start.std],
};
const NAME = `(${METRICS.join("|")})(:[\\w=.,\\/:\\-]+)?`;
const METRIC = `\\s*(${NAME}\\s+)*(${NAME})?`;
const STEPS = [1, 2, 4, 8, 16, 32, 64];
const MODES = {
  conversion: ["Convert once", "One network, with the T that you choose."],
  search: ["Choose for me", "The cheapest network that loses no more than you allow. It is chosen on one half of the evaluation data, and evaluated on the other."],
  sweep: ["Compare over T", "Many conversions, to see which T is worth its cost. Only the report can be downloaded."],
  ranking: ["Rank the sites", "Which sites cost the accuracy, and which to leave analogue first. Calibrates once; no network is written."],
};
let unfolded = false;

/** Draw the form into a place, keeping the focus where it was. */
export function optionsForm(place, choices, changed) {
  const focused = place.contains(document.activeElement) && document.activeElement.id;
  const { options, mode } = choices;
  const set = (name, value, redraw = true) => { options[name] = value; if (redraw) changed(); };
  const own = choices.model?.description.sites?.some((site) => site.kind === "qcfs");
  place.replaceChildren(...[
    choice("What", "mode", MODES, mode, (value) => { choices.mode = value; changed(); }),
    ...(mode === "search"
      ? [mostLost(options, set), choice("Minimise", "minimise", MINIMISE, options.minimise, (value) => set("minimise", value)),
        choice("Method of calibration", "method", METHODS, options.method, (value) => set("method", value)),
        choice("Form of the file", "form", FORMS, options.form, (value) => set("form", value)),
        options.form === "integer"
          ? choice("Runtime", "target", TARGETS, options.target, (value) => set("target", value))
          : choice("Precision", "precision", PRECISIONS, options.precision, (value) => set("precision", value))]
      : mode === "sweep"
      ? [steps(options, set), several("Code", "sweep_coding", CODINGS, options, set), several("Method", "sweep_method", METHODS, options, set)]
      : oneSetting(options, set, own)),
    ...(mode === "conversion"
      ? [choice("Levels", "levels", LEVELS, options.levels, (value) => set("levels", value)),
        options.levels === "auto" && budget(options, set),
        choice("Form of the file", "form", FORMS, options.form, (value) => set("form", value)),
        options.form === "integer"
          ? choice("Runtime", "target", TARGETS, options.target, (value) => set("target", value))
          : choice("Precision", "precision", PRECISIONS, options.precision, (value) => set("precision", value))]
      : []),
    mode !== "ranking" && incomplete(choices, set),
    more(options, set, mode !== "ranking"),
  ].filter(Boolean));
  if (focused) document.getElementById(focused)?.focus();
}

function mostLost(options, set) {
  const id = freshId("drop"), about = freshId("drop-about");
  return h("div", { class: "field" }, h("label", { for: id }, "Largest loss, in points"),
    h("input", { type: "number", id, min: "0.001", step: "any", required: true, value: options.max_drop, "aria-describedby": about,
      oninput: (event) => set("max_drop", event.target.value, false) }),
    h("p", { class: "note", id: about }, "The loss is measured in top-1 accuracy, in agreement with the network if there are no labels, or in the metric under “What to measure”."));
}

/** T, code and method. */
function oneSetting(options, set, own) {
  return [oneT(options, set, own), choice("Code", "coding", CODINGS, options.coding, (value) => set("coding", value)),
    choice("Method of calibration", "method", METHODS, options.method, (value) => set("method", value))];
}

function choice(legend, name, words, value, choose) {
  return h("fieldset", {}, h("legend", {}, legend), h("div", { class: "choices" },
    Object.entries(words).map(([each, [title, about]]) => h("div", { class: "choice" },
      h("input", { type: "radio", name, id: `${name}-${each}`, value: each, checked: value === each,
        "aria-describedby": `${name}-${each}-about`, onchange: () => choose(each) }),
      h("label", { for: `${name}-${each}` }, title),
      h("p", { class: "note", id: `${name}-${each}-about` }, about)))));
}

function several(legend, name, words, options, set) {
  const toggle = (each) => set(name, Object.keys(words).filter((other) => options[name].includes(other) !== (other === each)));
  return h("fieldset", {}, h("legend", {}, legend), h("div", { class: "choices" },
    Object.entries(words).map(([each, [title, about]]) => h("div", { class: "choice" },
      h("input", { type: "checkbox", name, id: `${name}-${each}`, checked: options[name].includes(each),
        "aria-describedby": `${name}-${each}-about`, onchange: () => toggle(each) }),
      h("label", { for: `${name}-${each}` }, title),
      h("p", { class: "note", id: `${name}-${each}-about` }, about)))));
}

function oneT(options, set, own) {
  const most = mostSteps(options.coding);
  const text = () => {
    const steps = Number(options.time_steps);
    if (options.time_steps === "") return own ? "the network’s own T, which it was trained for" : String(OPTIONS.time_steps.usual);
    if (!(steps >= 1 && steps <= most)) return `1 to ${most} with this code`;
    return `${levels(steps, options.coding)} levels for each value`;
  };
  const output = h("output", { for: "time-steps", class: "levels" }, text());
  const input = h("input", { type: "number", id: "time-steps", min: "1", max: String(most), step: "1", inputmode: "numeric",
    value: String(options.time_steps), "aria-describedby": "time-steps-about", oninput: () => {
      options.time_steps = input.value;
      output.textContent = text();
    } });
  return h("div", { class: "field" }, h("label", { for: "time-steps" }, "Time-steps T"),
    h("div", { class: "beside" }, input, output),
    h("p", { class: "note", id: "time-steps-about" }, "With more steps, the result is closer to the original network and takes more spikes and energy. ",
      own ? "Leave it empty for the network’s own." : "4 to 16 is usual."));
}

/** The budget for choosing levels, by one of two measures. */
function budget(options, set) {
  const energy = options.budget === "energy";
  const value = h("input", { type: "number", id: "budget-value", "aria-label": BUDGETS[options.budget][0], "aria-describedby": "budget-about",
    inputmode: "decimal", value: String(options[options.budget]), placeholder: energy ? "0.5" : null, required: !energy,
    ...(energy ? { min: "0.01", max: "1", step: "0.01" } : { min: "2", max: "256", step: "0.1" }),
    oninput: () => { options[options.budget] = value.value; } });
  const select = h("select", { id: "budget", onchange: () => set("budget", select.value) },
    Object.entries(BUDGETS).map(([each, [title]]) => h("option", { value: each, selected: options.budget === each }, title)));
  return h("div", { class: "field" }, h("label", { for: "budget" }, "Budget"), h("div", { class: "beside" }, select, value),
    h("p", { class: "note", id: "budget-about" }, BUDGETS[options.budget][1]));
}

function steps(options, set) {
  const most = Math.max(...options.sweep_coding.map(mostSteps), 1);
  const all = [...new Set([...STEPS, ...options.sweep_steps])].sort((a, b) => a - b);
  const least = Math.min(...options.sweep_coding.map(mostSteps));
  const unfit = options.sweep_steps.filter((each) => each > least);
  return h("fieldset", {}, h("legend", {}, "Time-steps T"), h("div", { class: "ticks" }, all.map((each) =>
    h("span", {}, h("input", { type: "checkbox", name: "sweep_steps", id: `step-${each}`, disabled: each > most,
      checked: options.sweep_steps.includes(each), onchange: () =>
        set("sweep_steps", all.filter((other) => options.sweep_steps.includes(other) !== (other === each))) }),
    h("label", { for: `step-${each}` }, String(each),
      h("span", { class: "note" }, ` ${options.sweep_coding.filter((code) => each <= mostSteps(code))
        .map((code) => levels(each, code)).join(" / ") || "–"} levels`))))),
  unfit.length > 0 && h("p", { class: "mark warn", role: "status" },
    `The phase code takes 1 to 8 steps: untick ${listed(unfit.map(String))}, or the phase code.`));
}

function incomplete(choices, set) {
  const blocked = choices.model?.description.left?.filter((entry) => entry.expected === false) ?? [];
  if (blocked.length === 0) return null;
  return tick("allow_partial", choices.options, set, "Convert although some nodes cannot be converted",
    `${listed(blocked.slice(0, 5).map((entry) => entry.node))} will stay analogue. Without this tick the conversion stops.`);
}

function tick(name, options, set, label, about) {
  const id = name.replaceAll("_", "-");
  return h("div", { class: "choice field" },
    h("input", { type: "checkbox", id, checked: options[name], "aria-describedby": `${id}-about`,
      onchange: (event) => set(name, event.target.checked) }),
    h("label", { for: id }, label), h("p", { class: "note", id: `${id}-about` }, about));
}

function isObject(text) {
  try {
    return text.trim() === "" || JSON.parse(text)?.constructor === Object;
  } catch {
    return false;
  }
}

/** The other options. evaluates: whether those of an evaluation are among them. */
function more(options, set, evaluates) {
  const field = (name, label, about, attributes, value, read) => {
    const id = freshId(name);
    return h("div", { class: "field" }, h("label", { for: id }, label),
      h("input", { id, value, "aria-describedby": `${id}-about`, ...attributes,
        onchange: (event) => set(name, read(event.target.value), false) }),
      h("p", { class: "note", id: `${id}-about` }, about));
  };
  const preset = () => {
    const select = h("select", { id: "preset", "aria-describedby": "preset-about", onchange: () => set("preset", select.value, false) },
      Object.entries({ "": ["None"], ...PRESETS }).map(([each, [title]]) => h("option", { value: each, selected: options.preset === each }, title)));
    return h("div", { class: "field" }, h("label", { for: "preset" }, "Preparation of images"), select,
      h("p", { class: "note", id: "preset-about" }, "None: by the side, mean and deviation below. ", ...Object.values(PRESETS).map(([title, about]) => `${title}: ${about} `)));
  };
  const configuration = () => field("preprocess", "Image processor",
    "Instead of all these options: the contents of a preprocessor_config.json of Hugging Face.",
    { type: "text", spellcheck: "false", autocomplete: "off", oninput: (event) => event.target.setCustomValidity(isObject(event.target.value) ? "" : "This is not a JSON object.") },
    options.preprocess, (text) => text.trim());
  const words = (text) => text.split(/\s+/).filter(Boolean);
  const numbers = (text) => text.split(/[\s,]+/).filter(Boolean).map(Number);
  const whole = { type: "number", step: "1", inputmode: "numeric" };
  const list = { pattern: "\\s*-?[0-9.]+([\\s,]+-?[0-9.]+)*\\s*", title: "numbers with commas between" };
  const measures = { type: "text", spellcheck: "false", autocomplete: "off", pattern: METRIC, title: "names of metrics with spaces between" };
  return h("details", { open: unfolded, ontoggle: (event) => { unfolded = event.target.open; } },
    h("summary", {}, "More options"),
    h("div", { class: "grid" },
      field("limit", "Calibration samples at most", "Empty: all samples, or 256 made-up ones.", { ...whole, min: "1" }, String(options.limit), (text) => text),
      field("seed", "Seed", "The same seed gives the same network.", { ...whole, min: "0" }, String(options.seed), (text) => text || start.seed),
      field("exclude", "Leave analogue", "Regular expressions for node names, separated by spaces.", { type: "text" }, options.exclude.join(" "), words),
      field("include", "Convert only", "Regular expressions in the same way. Empty: all nodes.", { type: "text" }, options.include.join(" "), words),
      evaluates && field("metric", "What to measure", `On the evaluation data: ${METRICS.join(", ")}; with parameters as in ctc:blank=0. Empty: classes.`, measures, options.metric.join(" "), words),
      preset(), configuration(),
      field("image_size", "Side of images", "For a .zip of images, if the network leaves it open.", { ...whole, min: "1" }, String(options.image_size), (text) => text || start.image_size),
      field("mean", "Mean of images", "Subtracted from pixels/255: one number, or one for each channel.", list, options.mean.join(", "), numbers),
      field("std", "Deviation of images", "Then divides the pixels: one number, or one for each channel.", list, options.std.join(", "), numbers)),
    evaluates && choice("Energy", "energy_model", ENERGY_MODELS, options.energy_model, (value) => set("energy_model", value, false)),
    tick("identity_sites", options, set, "Neurons in front of layers without an activation",
      "For example in front of the projections of attention."));
}
