// Names and meanings in plain words; numbers and times for people.

import { OPTIONS } from "./known.js";

const names = (option) => Object.fromEntries(OPTIONS[option].names.map(({ name, title, meaning }) => [name, [title, meaning]]));
export const CODINGS = names("coding");
export const METHODS = names("method");
export const FORMS = names("form");
export const PRECISIONS = names("precision");
export const TARGETS = names("target");
export const ENERGY_MODELS = names("energy_model");
export const MINIMISE = names("minimise");
export const PRESETS = names("preset");
export const METRICS = Object.keys(names("metric"));
export const LEVELS = {
  same: ["The same everywhere", "Every site has all levels of T."],
  auto: ["Chosen for each site", "Fewer levels where the output does not need more, within a budget. T is the most that a site may take."],
};
export const BUDGETS = {
  energy: ["Energy", "Additions, as a share of the additions with all levels of T at every site. Empty: 0.5."],
  mean_levels: ["Mean levels", "Mean number of levels over all neurons: 2 or more."],
};
export const KINDS = { conversion: "Conversion", evaluation: "Evaluation", search: "Search", sweep: "Comparison over T", ranking: "Ranking of sites" };
export const STATES = {
  queued: "Waiting", running: "Running", succeeded: "Done", failed: "Failed", cancelled: "Cancelled",
};
export const UNREAL = ["The inputs will be made up.",
  "The network may be much worse than with real data, and its file will say so. Choose evaluation data, and look at the results before you use it."];
const STAGES = {
  "measuring statistics": "Matching made-up inputs to the statistics in the network’s normalisations",
  "running the network": "Running the original network on the calibration data",
  "forecasting costs": "Forecasting what each setting costs",
  "measuring sensitivity": "Measuring how much the output depends on the levels of each site",
  "ranking sites": "Measuring what each site costs",
  trials: "Trying settings: each is converted and evaluated",
  calibrating: "Calibrating the neurons, layer by layer",
  comparing: "Comparing both networks on the evaluation data",
  counting: "Counting spikes and operations",
  timing: "Measuring how long both networks take",
  conversions: "Conversions of this comparison",
  shards: "Parts of the evaluation",
};
const FLAGS = { // options of the command line that messages name → their names on this page
  "--identity-sites": "“Neurons in front of layers without an activation”", "--allow-partial": "“Convert although some nodes cannot be converted”",
  "--include": "“Convert only”", "--exclude": "“Leave analogue”", "--image-size": "“Side of images”", "--time-steps": "T",
  "--coding": "the code", "--levels auto": "levels “chosen for each site”", "--method": "the method", "--form": "the form", "--precision": "the precision", "--target": "the runtime", "--calibration": "calibration data", "--synthetic": "“I have no data”", "--limit": "“Calibration samples at most”",
  "`graphpass inspect`": "the description of the network on the first page",
};
const NONE = "–";

/** folded, folded in float16, or integer for tensorrt. */
export const formOf = ({ form, precision, target }) =>
  form + (precision && precision !== "source" ? ` in ${precision}` : "") + (target && target !== OPTIONS.target.default ? ` for ${target}` : "");
/** A message that names options of the command line, in the words of this page. */
export const here = (text) => Object.entries(FLAGS).reduce((found, [flag, word]) => found.replaceAll(flag, word), text);
export const stage = (name) => STAGES[name] ?? name;
export const levels = (steps, coding) => (coding === "phase" ? 2 ** steps : steps + 1);
/** Levels of sites: their number if it is the same everywhere, else the least, the most and the mean over neurons. */
export function levelsOf(sites, most, unit = "") {
  const found = (sites ?? []).map((site) => site.levels);
  if (new Set(found).size < 2) return `${most}${unit}`;
  const neurons = sites.reduce((sum, site) => sum + site.neurons, 0);
  const mean = sites.reduce((sum, site) => sum + site.levels * site.neurons, 0) / neurons;
  return `${Math.min(...found)}–${Math.max(...found)}${unit}${neurons ? `, mean ${mean.toFixed(1)}` : ""}`;
}
export const mostSteps = (coding) => (coding === "phase" ? 8 : 255);
export const percent = (value, digits = 2) => (value === null || value === undefined ? NONE : `${(100 * value).toFixed(digits)} %`);
export const count = (value) => (value === null || value === undefined ? NONE : Math.round(value).toLocaleString("en"));
/** "1 sample", "12,345 samples": a number with what it counts. */
export const counted = (value, noun) => `${count(value)} ${noun}${Math.round(value) === 1 ? "" : "s"}`;
export const times = (value) => (value === null || value === undefined ? NONE : `${Number(value.toPrecision(3))} ×`);
export const points = (value) => `${value < 0 ? "+" : value > 0 ? "−" : "±"}${Math.abs(100 * value).toFixed(2)} points`;

export function energy(picojoules) {
  if (picojoules === null || picojoules === undefined) return NONE;
  for (const [size, unit] of [[1e9, "mJ"], [1e6, "µJ"], [1e3, "nJ"]])
    if (picojoules >= size) return `${Number((picojoules / size).toPrecision(3))} ${unit}`;
  return `${Number(picojoules.toPrecision(3))} pJ`;
}

const short = (number) => (number < 0.1 ? number.toPrecision(2) : number.toFixed(2));
export const milliseconds = (value) => (value === null || value === undefined ? NONE : `${short(value)} ms`);
export const range = (span) => (span ? span.map(short).join(" … ") : "");

export function bytes(size) {
  for (const [unit, one] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]])
    if (size >= one) return `${Number((size / one).toPrecision(3))} ${unit}`;
  return counted(size, "byte");
}

export function seconds(value) {
  if (value < 90) return `${Math.max(1, Math.round(value))} s`;
  if (value < 5400) return `${Math.round(value / 60)} min`;
  return `${(value / 3600).toFixed(1)} h`;
}

export function when(text) {
  if (!text) return "never";
  return new Date(text).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

/** "a", "a and b", "a, b and c" */
export function listed(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** The relative error of the class output, or of the first output; null where there is none. */
export function mainError(found) {
  const output = found.outputs.find((each) => each.name === found.class_output) ?? found.outputs[0];
  return output?.relative_error ?? null;
}

/** The range of levels of a conversion's sites; null if they are all the same, or unknown. */
export function spread(result) {
  const found = result?.site_levels ?? [];
  return new Set(found).size > 1 ? `${Math.min(...found)}–${Math.max(...found)}` : null;
}

/** T = 4 · rate · 5 levels · optimal, as far as it is known. */
export function settings(job) {
  const options = job.request.options ?? {};
  if (job.kind === "sweep")
    return `T = ${options.time_steps.join(", ")} · ${options.coding.join(", ")} · ${options.method.join(", ")}`;
  if (job.kind === "search" && !job.result)
    return `at most ${options.max_drop} lost · least ${options.minimise} · ${options.method}`;
  const found = job.result?.time_steps ? job.result : job.result?.evaluation ?? options;
  if (!found.coding) return "";
  const steps = found.time_steps ?? null;
  return [
    `T = ${steps ?? "automatic"}`,
    steps === null ? found.coding : `${found.coding}, ${levelsOf(job.result?.evaluation?.sites, spread(job.result) ?? levels(steps, found.coding), " levels")}`,
    found.method, found.form && formOf(found),
  ].filter(Boolean).join(" · ");
}
