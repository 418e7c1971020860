// The service's description of a model or dataset: what will be converted, what will not, and why.

import { facts, h, table } from "./element.js";
import { count, counted, listed } from "./words.js";

export function modelSummary(found) {
  const about = found.description;
  const { sites, left, omitted = {} } = about;
  if (about.spiking) return h("p", {}, `A spiking network already: T = ${about.spiking.time_steps}, ${about.spiking.coding} code.`);
  const blocked = left.filter((entry) => entry.expected === false);
  return h("div", {},
    facts([
      ["Inputs", h("span", {}, about.inputs.map(tensor).join(", "))],
      ["Outputs", about.outputs.map((each) => each.name ?? each).join(", ")],
      ["Weights", count(about.parameters)],
      ["Operators", `${count(about.nodes)}, opset ${about.opset}`],
    ]),
    sites.length === 0
      ? h("p", { class: "mark bad" }, "Nothing in this network can become spiking: see below.")
      : h("p", { class: blocked.length ? "mark warn" : "mark good" },
        `Spikes will reach ${about.spiking_layers} of ${counted(about.weight_layers, "weight layer")}, `,
        `from neurons at ${counted(sites.length + (omitted.sites ?? 0), "site")}`,
        blocked.length ? `; ${blocked.length} more should be converted and cannot be.` : "."),
    blocked.length > 0 && leftTable("Cannot be converted, though it should", blocked),
    h("details", {}, h("summary", {}, "What becomes spiking, and what stays as it is"),
      sites.length > 0 && table("Neurons go here", ["Site", "Activation", "Thresholds", "Feeds"], sites.map((site) => [
        site.name, site.kind, site.axis === null ? "one for all" : "one for each channel", listed(site.layers)])),
      left.length > blocked.length && leftTable("Stays analogue, as it should", left.filter((entry) => entry.expected !== false)),
      (omitted.sites || omitted.left) && h("p", { class: "note" }, `${count((omitted.sites ?? 0) + (omitted.left ?? 0))} more are not shown here.`)));
}

export function leftTable(caption, left) {
  return table(caption, ["Node", "Operator", "Because"], left.map((entry) => [entry.node, entry.op, entry.reason]));
}

export function datasetSummary(found) {
  const { samples, arrays, labels } = found.description;
  const shapes = Object.entries(arrays ?? {});
  return h("div", {},
    facts([
      ["Samples", count(samples)],
      ["Labels", labels ? "yes" : "none"],
      ...shapes.slice(0, 4).map(([name, { dtype, shape }]) => [name, `${dtype} ${shape.join(" × ")}`]),
    ]));
}

const tensor = ({ name, dtype, shape }) => `${name}: ${dtype} ${shape.map((side) => side ?? "any").join(" × ")}`;
