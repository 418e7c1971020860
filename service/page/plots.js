// Plots by plotly, which comes from the service's own Python environment and is loaded when the first one is shown.

import { freshId, h } from "./element.js";
import { counted, mainError } from "./words.js";

const LIBRARY = "/assets/plotly.min.js";
const COLOURS = ["#3987e5", "#d95926", "#199e70", "#c98500", "#9085e9", "#d55181", "#5f9e1f", "#8a8a8a"]; // on white and black
const GREY = "#8a8a8a";
const LONGEST = 26;
const NARROW = matchMedia("(max-width: 44rem)"); // as in parts.css
let library = null;
const drawn = new Set();

function load() {
  library ??= new Promise((resolve, reject) => {
    const script = h("script", { src: LIBRARY });
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => { library = null; script.remove(); reject(new Error("no plots")); };
    document.head.append(script);
  });
  return library;
}

/** A figure with a text for screen readers. */
function figure(caption, summary, traces, layout) {
  const id = freshId("plot");
  const place = h("div", { class: "plot", role: "img", "aria-label": summary });
  const wide = layout.width && h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, place);
  const made = h("figure", { "aria-labelledby": id }, h("figcaption", { id }, caption), wide || place);
  place.style.minHeight = `${layout.height}px`;
  if (wide) place.style.width = `${layout.width}px`;
  const draw = async () => {
    try {
      const Plotly = await load();
      if (place.isConnected) await Plotly.react(place, settled(traces), themed(settled(layout)), { displayModeBar: false, responsive: true });
    } catch {
      place.replaceChildren(h("p", { class: "note" }, "The library of plots could not be loaded; what has a table has the same figures there."));
      place.style.minHeight = "";
    }
  };
  new ResizeObserver((_, observer) => { observer.disconnect(); draw(); }).observe(place); // once it is on the page
  drawn.add(draw);
  return made;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach((draw) => draw()));

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function themed(layout) {
  const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), fixedrange: true, automargin: true };
  const made = {
    ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false,
    font: { family: getComputedStyle(document.documentElement).fontFamily, size: 13, color: colour("--text") },
    hoverlabel: { bgcolor: colour("--surface"), bordercolor: colour("--line"), font: { color: colour("--text") } },
  };
  for (const name of Object.keys(layout)) if (/^[xy]axis/.test(name)) made[name] = { ...axis, ...layout[name] };
  return made;
}

const NAMED = { "--ink": "--text", "--soft": "--soft", "--line": "--line", "--ground": "--surface" };
const TAGS = /<(?!\/?(?:br|b|extra)>)/g;

/** What plotly is given, with the colours of this page for those that go by a name, and no tags but those of pictures. */
function settled(value) {
  if (typeof value === "string") return Object.hasOwn(NAMED, value) ? colour(NAMED[value]) : value.replace(TAGS, "&lt;");
  if (Array.isArray(value)) return value.map(settled);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, settled(each)]));
}

/** A picture of the service: what Python made for the report (docs/formats.md), with its note. */
export function picture({ title, note, summary, data, layout }) {
  const made = figure(title, `${title}. ${summary}`, data, layout);
  made.append(h("p", { class: "note" }, note));
  return made;
}

const safe = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const short = (text) => (text.length > LONGEST ? `…${text.slice(1 - LONGEST)}` : text);
const hundred = (value) => (value === null ? null : 100 * value);

/** Accuracy of the SNN over T (its error, where there are no labels); the ANN dashed, quantisation alone dotted. */
export function stepsPlot(rows, marked = null) {
  const labelled = rows.some((row) => row.evaluation.ann.top1 !== null);
  const value = (found) => hundred(labelled ? found.snn.top1 : mainError(found));
  const steps = [...new Set(rows.map((row) => row.time_steps))].sort((a, b) => a - b);
  const groups = new Map();
  for (const row of rows) {
    const name = `${row.method}, ${row.coding} code`;
    groups.set(name, [...(groups.get(name) ?? []), row].sort((a, b) => a.time_steps - b.time_steps));
  }
  const line = (name, x, y, extra) => ({ type: "scatter", mode: "lines+markers", name, x, y,
    hovertemplate: `T = %{x}: %{y:.2f} %<extra>${name}</extra>`, ...extra });
  const traces = [...groups].map(([name, found], k) => line(name, found.map((row) => row.time_steps),
    found.map((row) => value(row.evaluation)), {
      line: { color: COLOURS[k % COLOURS.length], width: 2.5 },
      marker: { color: COLOURS[k % COLOURS.length], size: found.map((row) => (row.time_steps === marked ? 13 : 8)) },
      customdata: found.map((row) => row.levels),
      hovertemplate: `T = %{x}, %{customdata} levels: %{y:.2f} %<extra>${name}</extra>`,
    }));
  for (const coding of new Set(rows.map((row) => row.coding))) {
    const byStep = new Map(rows.filter((row) => row.coding === coding).map((row) => [row.time_steps, row.evaluation.baseline]));
    const x = [...byStep.keys()].sort((a, b) => a - b);
    traces.push(line(`quantised ANN, ${coding} levels`, x,
      x.map((each) => hundred(labelled ? byStep.get(each).top1 : byStep.get(each).relative_error)),
      { line: { color: GREY, dash: coding === "rate" ? "dot" : "dashdot" }, marker: { color: GREY, size: 5 } }));
  }
  if (labelled) traces.push(line("ANN", steps, steps.map(() => 100 * rows[0].evaluation.ann.top1), { mode: "lines", line: { color: GREY, dash: "dash" } }));
  const what = labelled ? "top-1 accuracy" : "error of the output";
  const summary = `${what} over T. ${traces.map((trace) => `${trace.name}: ${trace.x.map((x, k) =>
    `${trace.y[k]?.toFixed(1) ?? "–"} % at T = ${x}`).join(", ")}`).join(". ")}.`;
  return figure(`${what[0].toUpperCase()}${what.slice(1)} over the number of time-steps`, summary, traces, {
    height: 400, margin: { l: 56, r: 12, t: 12, b: 48 }, legend: { orientation: "h", y: -0.22 },
    xaxis: { title: { text: "time-steps T" }, type: "log", tickvals: steps, ticktext: steps.map(String) },
    yaxis: { title: { text: `${what} (%)` }, rangemode: labelled ? "normal" : "tozero" },
  });
}

/** Error and firing rate of every site, side by side. */
export function sitesPlot(sites) {
  const bar = (name, axis, values, colour) => ({
    type: "bar", orientation: "h", name, x: values.map(hundred), y: sites.map((_, k) => k), xaxis: axis,
    marker: { color: colour }, hovertext: sites.map((site) => safe(site.name)), hovertemplate: "%{hovertext}<br>%{x:.3g} %<extra></extra>",
  });
  const errors = sites.some((site) => site.error !== null);
  const error = (axis) => bar("error", axis, sites.map((site) => site.error), COLOURS[0]);
  const spikes = (axis) => bar("firing rate", axis, sites.map((site) => site.firing_rate), COLOURS[1]);
  const summary = sites.slice(0, 30).map((site) => `${site.name}: error ${hundred(site.error)?.toFixed(2) ?? "–"} %, firing rate ${hundred(site.firing_rate)?.toFixed(1) ?? "–"} %`).join("; ");
  const amount = { title: { text: "error (% of variance)" }, rangemode: "tozero" };
  const rate = { title: { text: "firing rate (%)" }, rangemode: "tozero" };
  const layout = {
    height: 90 + 26 * sites.length, showlegend: false, margin: { l: 20, r: 12, t: 8, b: 44 },
    yaxis: { autorange: "reversed", ticksuffix: " ", tickvals: sites.map((_, k) => k), ticktext: sites.map((site) => safe(short(site.name))) },
  };
  if (errors && !NARROW.matches)
    return figure("Error and firing rate of each site", summary, [error("x"), spikes("x2")],
      { ...layout, xaxis: { ...amount, domain: [0, 0.47] }, xaxis2: { ...rate, domain: [0.53, 1] } });
  return [
    errors && figure("Error of each site", summary, [error("x")], { ...layout, xaxis: amount }),
    figure("Firing rate of each site", summary, [spikes("x")], { ...layout, xaxis: rate }),
  ];
}

export const ENERGY_PARTS = ["arithmetic", "weights", "state", "activations"];

/** Energy of the ANN, the quantised ANN and the SNN, by what it is spent on. */
export function energyPlot({ ann, quantised, snn, bits }) {
  const networks = [ann, quantised, snn];
  const sides = ["ANN", `quantised, ${counted(bits, "bit")}`, "SNN"];
  const most = Math.max(...networks.map((each) => each.total_pj ?? 0));
  const [size, unit] = [[1e9, "mJ"], [1e6, "µJ"], [1e3, "nJ"], [1, "pJ"]].find(([each]) => most >= each) ?? [1, "pJ"];
  const traces = ENERGY_PARTS.map((name, k) => ({
    type: "bar", orientation: "h", name, y: sides, x: networks.map((each) => each[`${name}_pj`] / size),
    marker: { color: COLOURS[k] }, hovertemplate: `%{y}, ${name}: %{x:,.3g} ${unit}<extra></extra>`,
  }));
  const summary = sides.map((side, k) => `${side}: ${traces.map((trace) => `${trace.x[k].toPrecision(3)} ${unit} of ${trace.name}`).join(", ")}`).join("; ");
  return figure("What the energy of a sample is spent on", summary, traces, {
    height: 230, barmode: "stack", margin: { l: 20, r: 12, t: 8, b: 44 }, legend: { orientation: "h", y: 1.25, traceorder: "normal" },
    xaxis: { title: { text: `energy a sample (${unit})` }, rangemode: "tozero" },
    yaxis: { autorange: "reversed", ticksuffix: " ", type: "category" },
  });
}
