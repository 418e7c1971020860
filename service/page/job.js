// One job: its request, live progress, then its results, or what went wrong and what to do.

import { Problem, cancel, download, events, get, getJob, isFinished, pathOf, remove } from "./api.js";
import { alarm, announce, attempt, facts, focusOn, h } from "./element.js";
import { conversionResults, evaluationResults, rankingResults, searchResults, sweepResults } from "./results.js";
import { fillFrom } from "./setup.js";
import { KINDS, STATES, bytes, seconds, settings, stage, when } from "./words.js";

const FILES = [
  ["artifact", "Spiking network (.onnx)"], ["report", "Report (.html)"], ["report_json", "Figures (.json)"],
  ["plan", "Plan (.json)"], ["plan_arrays", "Its weights (.npz)"],
];

export async function jobView(place, signal, id) {
  const path = pathOf(id);
  let job = await getJob(path, signal);
  const names = await inputsOf(job);
  const head = h("div", {});
  const body = h("div", {});
  place.append(head, body);
  const draw = () => {
    head.replaceChildren(...header(job, names));
    if (isFinished(job)) body.replaceChildren(...ended(job, names, signal));
  };
  draw();
  if (!isFinished(job)) follow();

  async function follow() {
    const shown = progress(job, async () => {
      try {
        await cancel(path);
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        body.prepend(alarm(error));
      }
    });
    body.replaceChildren(shown.element);
    try {
      for await (const event of events(`${path}/events`, signal)) {
        if (event.event === "state" && event.data.state !== job.state) {
          job = { ...job, state: event.data.state };
          head.replaceChildren(...header(job, names));
          announce(`${KINDS[job.kind]}: ${STATES[job.state]}`);
        }
        shown.take(event);
      }
      job = await getJob(path, signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Problem)) throw error;
      body.prepend(alarm(error));
      return;
    }
    draw();
    if (signal.aborted) return;
    announce(`${KINDS[job.kind]}: ${STATES[job.state]}`);
    focusOn(body.querySelector("[role=alert], h2") ?? head.querySelector("h1"));
  }
}

/** Names of the models and datasets of a job; deleted ones have none. */
async function inputsOf(job) {
  const found = {};
  await Promise.all(["model", "ann", "snn", "calibration", "evaluation", "dataset"].map(async (role) => {
    const id = job.request[role];
    if (!id) return;
    if (/^(con|sea)_/.test(id)) {
      found[role] = h("a", { href: `#/jobs/${id}` }, id.startsWith("con_") ? "a conversion" : "a search");
      return;
    }
    const path = `/v1/${id.startsWith("mod_") ? "models" : "datasets"}/${id}`;
    found[role] = (await get(path).catch(() => null))?.name ?? "deleted meanwhile";
  }));
  return found;
}

const ROLES = [["model", "Network"], ["ann", "Network"], ["snn", "Spiking network"], ["calibration", "Calibration"],
  ["evaluation", "Evaluation"], ["dataset", "Evaluation"]];

function header(job, names) {
  return [
    h("p", { class: "crumbs" }, h("a", { href: "#/jobs" }, "Jobs"), " › ", KINDS[job.kind]),
    h("h1", {}, `${KINDS[job.kind]} of ${names.model ?? names.ann}`),
    h("p", {}, h("span", { class: `state ${job.state}` }, STATES[job.state]), " ", settings(job)),
    facts([
      ...ROLES.map(([role, word]) => names[role] && [word, names[role]]),
      ["Started", when(job.started ?? job.created)],
      job.finished && job.started && ["Took", seconds((new Date(job.finished) - new Date(job.started)) / 1000)],
      job.finished && ["Kept until", when(job.expires)],
    ]),
  ];
}

function progress(job, stop) {
  const list = h("ol", { class: "stages" });
  const log = h("pre", { tabindex: "0" });
  const folded = h("details", { hidden: true }, h("summary", {}, "Log"), log);
  const note = h("p", { class: "note" }, job.state === "queued" ? "Waiting for its turn …" : "Starting …");
  const button = h("button", { type: "button", class: "danger", onclick: async () => {
    button.disabled = true;
    button.textContent = "Cancelling …";
    await stop();
    button.disabled = false;
    button.textContent = "Cancel";
  } }, "Cancel");
  const bars = new Map();
  let current = "";
  const element = h("section", { class: "card", "aria-labelledby": "progress" },
    h("h2", { id: "progress" }, "Progress"), note, list, folded,
    h("p", { class: "note" }, "You may close this page: the job continues, and you find it in the list of jobs."), button);

  function row(name) {
    const bar = h("progress", { max: "1", value: 0, "aria-label": stage(name) });
    const words = h("span", { class: "note" });
    list.append(h("li", {}, h("span", {}, stage(name)), bar, words));
    bars.set(name, [bar, words]);
    return bars.get(name);
  }

  return {
    element,
    take({ event, data }) {
      if (event === "lost") {
        note.textContent = "The connection is lost; trying again …";
        return;
      }
      if (event === "log") {
        folded.hidden = false;
        log.textContent = `${log.textContent}${data.text}\n`.slice(-20000);
      }
      if (event === "state" && data.state === "running") note.textContent = "Running …";
      if (event !== "progress") return;
      note.textContent = "Running …";
      const [bar, words] = bars.get(data.stage) ?? row(data.stage);
      bar.value = data.total ? data.done / data.total : 0;
      const left = data.seconds_left && data.done < data.total ? ` · about ${seconds(data.seconds_left)} left` : "";
      words.textContent = `${data.done.toLocaleString("en")} of ${data.total.toLocaleString("en")}${left}`;
      if (data.stage !== current) announce(stage(data.stage));
      current = data.stage;
    },
  };
}

function ended(job, names, signal) {
  const again = h("button", { type: "button", onclick: async () => {
    await fillFrom(job);
    location.hash = "#/";
  } }, job.state === "succeeded" ? "Run again with other options" : "Change it and run again");
  const trouble = h("div", {});
  const away = h("button", { type: "button", class: "quiet", onclick: () => attempt(trouble, async () => {
    if (!confirm("Delete this job and its files?")) return;
    await remove(job.links.self);
    location.hash = "#/jobs";
  }) }, "Delete");
  const rank = job.error?.type === "/problems/goal" && h("button", { type: "button", onclick: async () => {
    await fillFrom(job, { mode: "ranking" });
    location.hash = "#/";
  } }, "Rank the sites");
  if (job.state === "failed")
    return [trouble, alarm(job.error, ...[again, rank, away].filter(Boolean)), ...(job.links.report ? [downloads(job)] : [])];
  if (job.state === "cancelled")
    return [trouble, h("section", { class: "card" }, h("h2", {}, "Cancelled"), h("p", {}, "Nothing was kept."), h("div", { class: "actions" }, again, away))];
  const show = { conversion: conversionResults, evaluation: evaluationResults, search: searchResults, sweep: sweepResults, ranking: rankingResults }[job.kind];
  const [head, ...rest] = show(job, signal);
  return [head, trouble, downloads(job, again, away), ...rest];
}

function downloads(job, ...actions) {
  const trouble = h("div", {});
  const button = ([link, word]) => {
    const made = h("button", { type: "button", class: link === "artifact" ? "primary" : null, onclick: async () => {
      made.disabled = true;
      await attempt(trouble, async () => announce(`${await download(job.links[link])} is saved`));
      made.disabled = false;
    } }, word, link === "artifact" && job.result.files?.["snn.onnx"] ? `, ${bytes(job.result.files["snn.onnx"])}` : "");
    return made;
  };
  return h("section", { class: "card", "aria-labelledby": "files" }, h("h2", { id: "files" }, actions.length ? "Download, or continue" : "Download"),
    h("div", { class: "actions" }, FILES.filter(([link]) => job.links[link]).map(button)),
    h("div", { class: "actions" }, job.links.report && h("a", { class: "button", href: `#/jobs/${job.id}/report` }, "Open the report"), actions),
    trouble);
}
