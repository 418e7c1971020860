// The form: what to convert, on which data, and how. The choices stay until the page is closed.

import { Problem, all, get, post } from "./api.js";
import { alarm, announce, focusOn, h } from "./element.js";
import { datasetSummary, modelSummary } from "./inputs.js";
import { FRESH, optionsForm } from "./options.js";
import { picker } from "./picker.js";
import { UNREAL, mostSteps } from "./words.js";

const choices = { model: null, calibration: null, evaluation: null, options: structuredClone(FRESH), mode: "conversion" };

/** Fill in the request of a job, so that it can be changed and run again without uploading. */
export async function fillFrom(job, changes = {}) {
  const { request } = job;
  const find = (kind, id) => (id ? get(`/v1/${kind}s/${id}`).catch(() => null) : null);
  [choices.model, choices.calibration, choices.evaluation] = await Promise.all([
    find("model", request.model ?? request.ann),
    find("dataset", request.calibration),
    find("dataset", request.evaluation ?? request.dataset),
  ]);
  const options = { ...structuredClone(FRESH), ...changes };
  for (const [name, value] of Object.entries(request.options ?? {})) {
    if (name in changes || !(name in options) || value === null) continue;
    if (job.kind === "sweep" && Array.isArray(value) && name in SEVERAL) options[SEVERAL[name]] = value;
    else options[name] = name === "preprocess" ? JSON.stringify(value) : value;
  }
  if (options.mean_levels !== "") options.budget = "mean_levels";
  if (job.kind === "sweep") options.limit = request.options.calibration_limit ?? "";
  choices.options = options;
  choices.mode = changes.mode ?? (job.kind in STARTS ? job.kind : "conversion");
}

const STARTS = { conversion: "Start the conversion", search: "Start the search", sweep: "Start the comparison", ranking: "Rank the sites" };
const MANY = { search: "A search", sweep: "A comparison over T" }; // of settings, which data decides between
const DATA = { ...MANY, ranking: "A ranking of sites" }; // what is calibrated on real data alone
const SEVERAL = { time_steps: "sweep_steps", coding: "sweep_coding", method: "sweep_method" };

export async function setupView(place, signal) {
  const [models, datasets] = await Promise.all([all("/v1/models?limit=100", 100), all("/v1/datasets?limit=100", 100)]);
  if (signal.aborted) return;
  const trouble = h("div", {});
  const options = h("div", {});
  const coverage = h("div", {});
  const start = h("button", { class: "primary", type: "submit" });
  const settle = () => {
    optionsForm(options, choices, settle);
    start.textContent = STARTS[choices.mode];
  };
  const pickers = {
    model: picker({
      kind: "model", title: "1 · The network", known: models, choices, role: "model", signal, summary: modelSummary,
      hint: "An .onnx file, or a .zip of one .onnx with its external data.", changed: settle,
    }),
    calibration: picker({
      kind: "dataset", title: "2 · Calibration data", known: datasets, choices, role: "calibration", signal,
      summary: datasetSummary, changed: settle, instead: withoutData,
      hint: "A few hundred typical samples, without labels: .npz, .npy, a .zip of .npz shards or of images, or a .tar or .parquet of images.",
    }),
    evaluation: picker({
      kind: "dataset", title: "3 · Evaluation data", known: datasets, choices, role: "evaluation", signal,
      summary: datasetSummary, changed: settle, optional: true,
      hint: "Labelled samples that both networks are compared on: an .npz with “labels”, or a .zip of images by class.",
    }),
  };
  const example = h("button", { type: "button", onclick: () => takeExample(pickers, example, trouble, settle) },
    "Use the built-in example");
  place.append(
    h("h1", {}, "Convert a network"),
    h("p", { class: "lead" }, "An ordinary ONNX network becomes a spiking one, without training. It runs in a standard onnxruntime."),
    h("p", { class: "actions" }, example,
      h("span", { class: "note" }, "A small network and images of Fashion-MNIST: the quickest way to see it work.")),
    h("form", { novalidate: true, onsubmit: (event) => submit(event, pickers, start, trouble) },
      pickers.model.element, h("div", { class: "pair" }, pickers.calibration.element, pickers.evaluation.element),
      h("section", { class: "card", "aria-labelledby": "how" }, h("h2", { id: "how" }, "4 · How"), options),
      coverage, trouble, h("p", { class: "actions start" }, start)),
  );
  settle();
}

/** Instead of calibration data: made-up inputs, with a warning. */
function withoutData(redraw) {
  const { options } = choices;
  const box = h("input", { type: "checkbox", id: "synthetic", checked: options.synthetic, "aria-describedby": "synthetic-about",
    onchange: () => {
      options.synthetic = box.checked;
      redraw();
      document.getElementById("synthetic").focus();
      if (options.synthetic) announce(UNREAL.join(" "));
    } });
  const [short, long] = UNREAL;
  return { picked: options.synthetic, element: h("div", { class: "without" },
    h("div", { class: "choice" }, box, h("label", { for: "synthetic" }, "I have no data: use made-up inputs"),
      !options.synthetic && h("p", { class: "note", id: "synthetic-about" }, "It costs accuracy; a few real samples are better.")),
    options.synthetic && h("p", { class: "mark bad", id: "synthetic-about" }, h("strong", {}, short), " ", long)) };
}

async function takeExample(pickers, button, trouble, settle) {
  button.disabled = true;
  trouble.replaceChildren();
  announce("Taking the example");
  try {
    const ids = await post("/v1/examples/fashion-mnist");
    const found = await Promise.all([
      get(`/v1/models/${ids.model}`), get(`/v1/datasets/${ids.calibration}`), get(`/v1/datasets/${ids.evaluation}`),
    ]);
    Object.values(pickers).forEach((each, k) => each.choose(found[k]));
    settle();
    announce("The example is chosen: a network, calibration data and evaluation data. Go on to start the conversion.");
    focusOn(pickers.model.element.querySelector("h2"));
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    trouble.replaceChildren(alarm(error));
  } finally {
    button.disabled = false;
  }
}

async function submit(event, pickers, start, trouble) {
  event.preventDefault();
  trouble.replaceChildren();
  const lacking = missing(pickers);
  if (lacking) {
    trouble.replaceChildren(alarm({ title: "Something is missing", ...lacking }));
    (lacking.picker?.element.querySelector("input[type=file], button") ?? lacking.field)?.focus();
    return;
  }
  start.disabled = true;
  try {
    const [path, body] = request();
    const job = await post(path, body);
    location.hash = `#/jobs/${job.id}`;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const shown = alarm(error);
    trouble.replaceChildren(shown);
    shown.focus();
  } finally {
    start.disabled = false;
  }
}

function missing(pickers) {
  const { model, calibration, evaluation, options, mode } = choices;
  const own = model?.description.sites?.some((site) => site.kind === "qcfs");
  if (!model) return { what: "No network is chosen.", remedy: "Choose an .onnx file in step 1.", picker: pickers.model };
  if (model.description.spiking)
    return { what: `${model.name} is a spiking network already.`, remedy: "Choose the network that it was converted from.", picker: pickers.model };
  if (!calibration && mode in DATA && options.synthetic)
    return { what: `${DATA[mode]} needs calibration data.`, remedy: "Choose some in step 2, or convert once.", picker: pickers.calibration };
  if (!calibration && (mode in DATA || !(own || options.synthetic)))
    return { what: "No calibration data is chosen.", remedy: "Choose it in step 2, or tick “I have no data” there.", picker: pickers.calibration };
  if (mode in MANY && !evaluation)
    return { what: `${MANY[mode]} needs evaluation data.`, remedy: "Choose it in step 3.", picker: pickers.evaluation };
  const empty = mode === "sweep" && [["sweep_steps", "number T"], ["sweep_coding", "code"], ["sweep_method", "method"]]
    .find(([name]) => options[name].length === 0);
  if (empty) return { what: `No ${empty[1]} is ticked.`, remedy: "Tick at least one in step 4.",
    field: document.querySelector(`input[name=${empty[0]}]`) };
  const long = mode === "sweep" && options.sweep_steps.find((each) => options.sweep_coding.some((code) => each > mostSteps(code)));
  if (long) return { what: `T = ${long} is too many for the phase code, which takes 1 to 8.`, remedy: `Untick ${long} or the phase code.`,
    field: document.getElementById(`step-${long}`) };
  const evaluates = mode !== "ranking";
  if (evaluates && options.metric.length && !evaluation)
    return { what: "“What to measure” is filled in, but there is no evaluation data.", remedy: "Choose it in step 3, or empty the field.",
      picker: pickers.evaluation };
  if (evaluates && options.energy_model !== FRESH.energy_model && !evaluation)
    return { what: "An energy model is chosen, but there is no evaluation data.", remedy: "Choose it in step 3, or the first energy model.",
      picker: pickers.evaluation };
  const wrong = document.querySelector("form :invalid");
  if (wrong) return { what: `${wrong.labels?.[0]?.textContent ?? wrong.ariaLabel ?? "A field"}: ${wrong.validationMessage}`, remedy: "Correct it.", field: wrong };
  return null;
}

function request() {
  const { model, calibration, evaluation, options, mode } = choices;
  const number = (value) => (value === "" || value === null ? null : Number(value));
  const sites = {
    exclude: options.exclude, include: options.include, identity_sites: options.identity_sites,
    seed: Number(options.seed), image_size: Number(options.image_size),
    preset: options.preset || null, preprocess: options.preprocess ? JSON.parse(options.preprocess) : null,
    mean: options.mean, std: options.std,
  };
  const shared = { ...sites, allow_partial: options.allow_partial, metric: options.metric, energy_model: options.energy_model };
  if (mode === "ranking")
    return ["/v1/rankings", {
      model: model.id, calibration: calibration.id, ...(evaluation && { evaluation: evaluation.id }),
      options: { ...sites, limit: number(options.limit), time_steps: number(options.time_steps), coding: options.coding, method: options.method },
    }];
  if (mode === "search")
    return ["/v1/searches", {
      model: model.id, calibration: calibration.id, dataset: evaluation.id,
      options: { ...shared, limit: number(options.limit), max_drop: number(options.max_drop), minimise: options.minimise,
        method: options.method, form: options.form, ...(options.form === "integer" ? { target: options.target } : { precision: options.precision }) },
    }];
  if (mode === "sweep")
    return ["/v1/sweeps", {
      model: model.id, calibration: calibration.id, dataset: evaluation.id,
      options: { ...shared, calibration_limit: number(options.limit),
        time_steps: options.sweep_steps, coding: options.sweep_coding, method: options.sweep_method },
    }];
  return ["/v1/conversions", {
    model: model.id, ...(calibration && { calibration: calibration.id }), ...(evaluation && { evaluation: evaluation.id }),
    options: { ...shared, synthetic: options.synthetic && !calibration, limit: number(options.limit), time_steps: number(options.time_steps),
      coding: options.coding, method: options.method, form: options.form,
      ...(options.form === "integer" ? { target: options.target } : { precision: options.precision }),
      ...(options.levels === "auto" && { levels: "auto", [options.budget]: number(options[options.budget]) }) },
  }];
}
