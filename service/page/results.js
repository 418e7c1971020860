// The results of a job: figures first, then plots, each with its table.

import { Problem, all, get, getJob, post } from "./api.js";
import { alarm, facts, freshId, h, table } from "./element.js";
import { leftTable } from "./inputs.js";
import { ENERGY_PARTS, energyPlot, picture, sitesPlot, stepsPlot } from "./plots.js";
import { fillFrom } from "./setup.js";
import { ENERGY_MODELS, bytes, count, counted, energy, formOf, here, levelsOf, listed, mainError, milliseconds, range, percent, points, settings, spread, times, when } from "./words.js";

const number = (text) => ({ text, kind: "number" });
const card = (title, ...content) => {
  const id = freshId("card");
  return h("section", { class: "card", "aria-labelledby": id }, h("h2", { id }, title), content);
};

export function conversionResults(job, signal) {
  const found = job.result;
  const warned = warnings(found);
  const about = card("Converted", warned, h("p", { class: "mark good" },
    `Spikes reach ${found.spiking_layers} of ${counted(found.weight_layers, "weight layer")}, from neurons at ${counted(found.sites.length, "site")}.`),
  facts([
    ["Time-steps", String(found.time_steps)], ["Code", `${found.coding}, ${spread(found) ?? found.levels} levels`],
    ["Method", found.method], ["Form", formOf(found)],
    ["Calibrated on", counted(found.samples, job.request.options.synthetic ? "made-up sample" : "sample")],
    found.files?.["snn.onnx"] && ["Size", bytes(found.files["snn.onnx"])],
  ]));
  if (found.notes?.levels) warned.push(h("p", { class: "note" }, `Levels ${found.notes.levels}.`));
  if (found.evaluation) return [...evaluation(found.evaluation, warned), pictures(job, signal), overSteps(job, signal)];
  return [about, evaluateNow(job), found.left.length > 0 && card("What stays analogue", leftTable("Stays analogue", found.left)),
    found.float32?.length > 0 && card("What stays float32", leftTable("Not float16", found.float32))].filter(Boolean);
}

export function searchResults(job, signal) {
  const { trials, chosen, conclusion, drop, verdict } = job.result;
  const [head, ...rest] = evaluation(job.result.evaluation, warnings(job.result));
  const lost = ({ value, noise }) => value === null ? "–" : `${value.toFixed(2)}${noise === null ? "" : ` ± ${noise.toFixed(2)}`}`;
  const levelsIn = ({ levels }) => { const each = Object.values(levels); return each.length ? `${Math.min(...each)}–${Math.max(...each)}` : "all"; };
  const rows = trials.map((trial, k) => [
    k === chosen ? "chosen" : !trial.within ? "lost too much" : trial.stage.startsWith("quick") ? "maybe good enough" : "good enough", trial.stage, String(trial.setting.time_steps), trial.setting.coding,
    levelsIn(trial.setting), lost(trial.drop), energy(trial.energy), trial.ratio === null ? "–" : times(trial.ratio),
  ]);
  const path = card("How it was chosen",
    h("p", { class: verdict === "exceeded" ? "mark warn" : "" }, `${conclusion[0].toUpperCase()}${conclusion.slice(1)}.`),
    table("Trials of this search", ["", "Tried for", number("T"), "Code", "Levels", number(`Lost, ${drop.unit}`), number("Energy"), number("SNN / ANN")], rows));
  return [head, path, ...rest, pictures(job, signal)];
}

/** Which sites cost the accuracy, and a way to leave the worst of them analogue. */
export function rankingResults(job) {
  const { sites, error, samples, time_steps, coding, method, exclude } = job.result;
  const short = (value) => (value === null ? "–" : String(Number(value.toPrecision(3))));
  const leave = h("button", { type: "button", class: "primary", onclick: async () => {
    await fillFrom(job, { mode: "conversion", exclude: [...job.request.options.exclude, ...exclude.map(exactly)] });
    location.hash = "#/";
  } }, "Convert without neurons there");
  return [card("Which sites cost the accuracy",
    h("p", {}, `With neurons at all sites, the error of the outputs is ${percent(error)} of their variance: T = ${time_steps}, ${coding} code, ${method}, on ${counted(samples, "sample")}.`),
    exclude.length > 0 && h("p", { class: "mark warn" }, `Leave ${listed(exclude)} analogue first.`),
    table("Sites, the worst first", ["Site", "Activation", ...["Levels", "Error alone", "Share", "Error without it"].map(number)],
      sites.map((site) => [site.name, site.kind, String(site.levels), short(site.alone), percent(site.share, 0), short(site.without)])),
    h("p", { class: "note" }, "Alone: with neurons at that site only. This predicts best what is gained if the site stays analogue. ",
      "Without it: with neurons at all other sites, whose weights were corrected for the spikes of all."),
    exclude.length > 0 && h("div", { class: "actions" }, leave))];
}

/** The regular expression of a name and nothing else. */
const exactly = (name) => `^${name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`;

export function evaluationResults(job, signal) {
  return [...evaluation(job.result.evaluation), pictures(job, signal)];
}

export function sweepResults(job, signal) {
  const rows = job.result.rows;
  const best = rows.reduce((a, b) => (badness(b.evaluation) < badness(a.evaluation) ? b : a));
  const details = h("div", {});
  const show = (row) => details.replaceChildren(...evaluation(row.evaluation));
  const name = (row) => `T = ${row.time_steps}, ${row.coding}, ${row.levels} levels, ${row.method}`;
  const id = freshId("row");
  const pick = h("select", { id, onchange: () => show(rows[Number(pick.value)]) },
    rows.map((row, k) => h("option", { value: String(k), selected: row === best }, name(row))));
  const convert = h("button", { type: "button", class: "primary", onclick: async () => {
    const { time_steps, coding, method } = rows[Number(pick.value)];
    await fillFrom(job, { time_steps, coding, method, mode: "conversion" });
    location.hash = "#/";
  } }, "Convert with these");
  show(best);
  return [
    card("Accuracy over T", stepsPlot(rows), sweepTable(rows)),
    pictures(job, signal),
    card("One of them in detail", h("p", { class: "note" }, "The one with the least loss is chosen first."),
      h("div", { class: "beside" }, h("label", { for: id }, "Settings"), pick, convert)),
    details,
  ];
}

/** The pictures of the report: the network as a graph and the spikes of a sample; of a sweep, accuracy against energy. */
function pictures(job, signal) {
  const place = h("div", {}, h("p", { class: "note" }, "Fetching them …"));
  const made = card("Pictures", place);
  made.hidden = !job.links.pictures;
  if (job.links.pictures) get(job.links.pictures, signal).then((found) => {
    made.hidden = found.length === 0;
    place.replaceChildren(...found.map(picture));
  }, () => place.replaceChildren(h("p", { class: "note" }, "They could not be fetched; the report has them, too.")));
  return made;
}

const PROVENANCE = {
  ann: "Network", ann_sha256: "Its SHA-256", snn_sha256: "Spiking network’s SHA-256", calibration_sha256: "Calibration’s SHA-256",
  evaluation_data: "Evaluation data", evaluation_sha256: "Its SHA-256", converter: "graphpass", onnxruntime: "Run by", date: "Evaluated",
};
const lost = (value) => (value === 0 ? "the same as" : `${Math.abs(100 * value).toFixed(2)} points ${value > 0 ? "below" : "above"}`);
const timing = (value, span) => h("span", {}, milliseconds(value), h("span", { class: "note range" }, range(span)));
const figure = (value) => (value === null ? "–" : String(Number(value.toPrecision(4))));
const metricName = (each) => `${each.name.replaceAll("_", " ")} (${each.metric.split(":")[0]})`;
const badness = (found) => (found.snn.top1 === null ? mainError(found) ?? Infinity : -found.snn.top1);

function sweepTable(rows) {
  const labelled = rows.some((row) => row.evaluation.ann.top1 !== null);
  const columns = labelled
    ? ["SNN top-1", "Lost", "Quantised top-1", "Same class", "Firing rate", "Energy"]
    : ["Error of the output", "Error, quantised", "Same class", "Firing rate", "Energy"];
  const scores = (rows[0].evaluation.metrics ?? []).map(metricName);
  return h("details", {}, h("summary", {}, "As a table"), table("Conversions of this comparison",
    [number("T"), "Code", number("Levels"), "Method", ...[...columns, ...scores].map(number)],
    rows.map(({ time_steps, coding, levels, method, evaluation: found }) => [
      String(time_steps), coding, String(levels), method,
      ...(labelled
        ? [percent(found.snn.top1), points(found.ann.top1 - found.snn.top1), percent(found.baseline.top1)]
        : [percent(mainError(found)), percent(found.baseline.relative_error)]),
      percent(found.agreement), percent(found.firing_rate), times(found.energy?.ratio),
      ...(found.metrics ?? []).map((each) => figure(each.snn)),
    ])));
}

/** Warnings about a conversion, first that its data was made up. */
function warnings({ warnings: texts = [], notes = {} }) {
  const unreal = notes.data === "synthetic" && h("p", { class: "mark bad" }, h("strong", {}, "Calibrated on made-up inputs"),
    ` (${notes.synthetic}). It may be much worse than with real data: evaluate it before you use it.`);
  const others = texts.filter((text) => !(unreal && text.includes("SYNTHETIC")));
  return [unreal, ...others.map((text) => h("p", { class: "mark warn" }, here(text)))].filter(Boolean);
}

function evaluation(found, warned = []) {
  const { ann, snn, baseline, synaptic_operations: operations, energy: cost, latency_ms: latency } = found;
  const figures = [
    snn.top1 !== null && ["Top-1 of the spiking network", percent(snn.top1), `${lost(ann.top1 - snn.top1)} the ANN’s ${percent(ann.top1)}`],
    ...(found.metrics ?? []).map((each) => [metricName(each), figure(each.snn),
      each.ann === null ? "against the original’s output" : `the ANN’s ${figure(each.ann)}`]),
    snn.top1 === null && ["Error of the output", percent(mainError(found)), "against the original’s output"],
    baseline.top1 !== null && ["Quantisation alone", percent(baseline.top1), `the original with ${levelsOf(found.sites, baseline.levels, " levels")}, without correction`],
    cost && cost.ratio !== null && ["Energy, SNN / ANN", times(cost.ratio), `${energy(cost.snn.total_pj)} against ${energy(cost.ann.total_pj)} per sample`],
    found.firing_rate !== null && ["Firing rate", percent(found.firing_rate, 1), "of neurons times steps spike"],
  ].filter(Boolean);
  const line = (name, pick, show) => [name, ...[ann, snn, baseline].map((each) => show(pick(each)))];
  const plain = ["ANN", "SNN", "Quantised ANN"].map(number);
  const rows = [
    snn.top1 !== null && line("Top-1 accuracy", (each) => each.top1, percent),
    snn.top5 !== null && line("Top-5 accuracy", (each) => each.top5, percent),
    found.agreement !== null && ["Same class as the ANN", "–", percent(found.agreement), percent(baseline.agreement)],
    ...(found.metrics ?? []).map((each) => [metricName(each), figure(each.ann), figure(each.snn), figure(each.baseline)]),
    ["Error of the output", "–", percent(mainError(found)), percent(baseline.relative_error)],
    ["Levels of a value", "–", levelsOf(found.sites, found.levels), levelsOf(found.sites, baseline.levels)],
    ["Firing rate", "–", percent(found.firing_rate), "–"],
    ["Multiply-and-adds per sample", count(operations.ann.effective_macs), count(operations.effective_macs), "–"],
    ["Additions per sample", count(operations.ann.effective_acs), count(operations.effective_acs), "–"],
    cost && ["Energy per sample", ...[cost.ann, cost.snn, cost.quantised].map((each) => energy(each.total_pj))],
    [`Latency, batch of ${latency.batch}`, timing(latency.ann, latency.ann_range), timing(latency.snn, latency.snn_range), "–"],
    ["Samples per second", count(latency.throughput_ann), count(latency.throughput_snn), "–"],
  ].filter(Boolean);
  const inRed = warned.some((each) => each.classList.contains("bad"));
  return [
    card("Results", h("p", {}, `${counted(found.samples, "sample")}, T = ${found.time_steps}, ${found.coding} code, ${levelsOf(found.sites, found.levels, " levels")}.`),
      warned, found.notes.filter((note) => !(inRed && note.includes("synthetic"))).map((note) => h("p", { class: "mark warn" }, note)),
      h("ul", { class: "figures" }, figures.map(([name, value, about]) =>
        h("li", {}, h("span", { class: "name" }, name), h("strong", {}, value), h("span", { class: "note" }, about)))),
      table("Both networks side by side", ["", ...plain], rows)),
    found.sites.some((site) => site.firing_rate !== null) && card("Layer by layer", sitesPlot(found.sites), siteTable(found.sites)),
    operations.effective_macs !== null && cost && card("Energy", energyPlot(cost), energyTable(cost), latencyNote(latency)),
    operations.effective_macs !== null && card("Operations", operationsTable(operations)),
    card("What stays analogue", found.left.length
      ? leftTable("Nodes that stay as they were", found.left) : h("p", {}, "All nodes that could become spiking are spiking.")),
    card("Where the numbers come from", facts(Object.entries(found.provenance).map(([name, value]) =>
      [PROVENANCE[name] ?? name, /sha256/.test(name) && value ? h("code", {}, value.slice(0, 16), "…") : name === "date" ? when(value) : value || "–"]))),
  ].filter(Boolean);
}

function siteTable(sites) {
  return h("details", {}, h("summary", {}, "As a table"), table("Every site",
    ["Site", "Activation", ...["Neurons", "Levels", "Error", "Firing rate"].map(number)],
    sites.map((site) => [site.name, site.kind, count(site.neurons), String(site.levels), percent(site.error), percent(site.firing_rate)])));
}

/** Whether spikes save energy, in words and as a table. */
function energyTable(cost) {
  const { model, verdict, bits } = cost;
  const line = (name, each, share) => [name, ...[...ENERGY_PARTS, "total"].map((part) => energy(each[`${part}_pj`])), times(share)];
  return [
    h("p", {}, h("strong", {}, `${verdict}.`), ` ${ENERGY_MODELS[model]?.[0] ?? model}: ${ENERGY_MODELS[model]?.[1] ?? ""}`),
    table("Energy per sample, with memory traffic", ["", ...[...ENERGY_PARTS, "total", "/ ANN"].map(number)], [
      line("ANN", cost.ann, 1), line(`Quantised ANN (${counted(bits, "bit")})`, cost.quantised, cost.quantised_ratio), line("SNN", cost.snn, cost.ratio),
    ]),
    h("p", { class: "note" }, "The quantised ANN is the same network, but it sends each count once as a number. State means the sums to which spikes are added. ",
      "Hardware studies break even at 0.15 to 1.38 spikes per synapse and inference."),
  ];
}

function operationsTable(operations) {
  return h("details", {}, h("summary", {}, "Layer by layer"), table(`Operations of the spiking network, counted on ${counted(operations.samples, "sample")}`,
    ["Layer", "Operator", "Input", number("Operations"), number("If dense")],
    operations.layers.map((layer) => [layer.name, layer.op, layer.input, count(layer.effective), count(layer.dense)])),
  operations.uncounted.length > 0 && h("p", { class: "note" }, `Not counted: ${listed(operations.uncounted)}.`));
}

function latencyNote(latency) {
  return h("p", { class: "note" }, `On the machine that measured this, a run of the spiking network takes ${times(latency.ratio)} the time of the original. `,
    "Spikes save energy on hardware that skips silent neurons; ordinary processors compute them all.");
}

/** For a conversion: the comparison over T with the same inputs, if there is one, else a button that starts it. */
function overSteps(job, signal) {
  const place = h("div", {}, h("p", { class: "note" }, "Looking for one …"));
  const { model, calibration, evaluation: dataset, options } = job.request;
  const same = (other) => other.request.model === model && other.request.dataset === dataset && other.request.calibration === calibration;
  const start = h("button", { type: "button", onclick: async () => {
    start.disabled = true;
    try {
      const { form, precision, target, limit, time_steps, coding, method, synthetic, levels, energy: share, mean_levels, ...shared } = options;
      const most = coding === "phase" ? [1, 2, 3, 4, 6, 8] : [1, 2, 4, 8, 16, 32];
      const made = await post("/v1/sweeps", { model, calibration, dataset,
        options: { ...shared, calibration_limit: limit, time_steps: most, coding: [coding], method: [method] } });
      location.hash = `#/jobs/${made.id}`;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      place.append(alarm(error));
      start.disabled = false;
    }
  } }, "Compare over T");
  const offer = () => place.replaceChildren(
    h("p", {}, "How accurate is the network with each T? This compares many T on the same data, without uploading again."), start);
  (async () => {
    try {
      const sweeps = await all("/v1/sweeps?state=succeeded&limit=50", 50);
      const listed = sweeps.find(same);
      const found = listed && (await getJob(listed.links.self, signal)); // lists leave results out
      if (signal.aborted) return;
      if (found) place.replaceChildren(h("p", {}, h("a", { href: `#/jobs/${found.id}` }, settings(found))), stepsPlot(found.result.rows, job.result.time_steps), sweepTable(found.result.rows));
      else if (calibration) offer();
      else place.replaceChildren(h("p", { class: "note" }, "A comparison needs calibration data."));
    } catch {
      if (calibration) offer();
    }
  })();
  return card("Accuracy over T", place);
}

/** For a conversion without evaluation: choose data and start one. */
function evaluateNow(job) {
  const place = h("div", {});
  const id = freshId("data");
  (async () => {
    const datasets = await get("/v1/datasets?limit=100").then((page) => page.items, () => []);
    const usable = datasets.filter((each) => each.description.samples);
    if (usable.length === 0) {
      place.replaceChildren(h("p", {}, "Upload labelled data on the first page, then come back."));
      return;
    }
    const select = h("select", { id }, usable.map((each) => h("option", { value: each.id },
      `${each.name} · ${counted(each.description.samples, "sample")}${each.description.labels ? ", labelled" : ""}`)));
    const start = h("button", { type: "button", onclick: async () => {
      try {
        const { preset, preprocess, image_size, mean, std, energy_model } = job.request.options;
        const options = { preset, preprocess, image_size, mean, std, energy_model };
        const made = await post("/v1/evaluations", { ann: job.request.model, snn: job.id, dataset: select.value, options });
        location.hash = `#/jobs/${made.id}`;
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        place.append(alarm(error));
      }
    } }, "Evaluate");
    place.replaceChildren(h("div", { class: "beside" }, h("label", { for: id }, "Data"), select, start));
  })();
  return card("Compare it with the original", place);
}
