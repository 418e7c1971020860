// All jobs, with their errors and what to do about them.

import { Problem, cancel, get, isFinished, pause, remove } from "./api.js";
import { announce, attempt, h, table } from "./element.js";
import { fillFrom } from "./setup.js";
import { KINDS, STATES, counted, here, seconds, settings, when } from "./words.js";

const EVERY = 3000; // milliseconds between requests while something runs
let filter = "";

export async function jobsView(place, signal) {
  const names = new Map();
  const list = h("div", {});
  const trouble = h("div", {});
  const select = h("select", { id: "state", onchange: () => { filter = select.value; attempt(trouble, () => refresh(true)); } },
    h("option", { value: "" }, "All"), Object.entries(STATES).map(([state, word]) =>
      h("option", { value: state, selected: filter === state }, word)));
  let items = [];
  let next = null;
  let older = false;

  const more = h("button", { type: "button", onclick: () => attempt(trouble, async () => {
    const page = await get(next, signal);
    older = true;
    items.push(...page.items);
    next = page.next;
    await draw();
    announce(counted(page.items.length, "more job"));
  }) }, "Older jobs");

  async function refresh(anew = false) {
    if (anew) older = false;
    const page = await get(`/v1/jobs?limit=25${filter ? `&state=${filter}` : ""}`, signal);
    if (older) {
      const fresh = new Set(page.items.map((job) => job.id));
      items = [...page.items, ...items.filter((job) => !fresh.has(job.id))];
    } else {
      items = page.items;
      next = page.next;
    }
    await draw();
  }

  async function draw() {
    await learn(items, names);
    if (signal.aborted) return;
    const focused = list.contains(document.activeElement) && document.activeElement.id;
    const rows = items.map((job) => [
      h("a", { href: `#/jobs/${job.id}`, id: `open-${job.id}` }, KINDS[job.kind], " of ", names.get(job.request.model ?? job.request.ann)),
      h("span", { class: "note" }, settings(job)),
      h("span", {}, h("span", { class: `state ${job.state}` }, STATES[job.state]), job.state === "failed" && why(job)),
      h("span", {}, when(job.created)),
      job.started && job.finished ? seconds((new Date(job.finished) - new Date(job.started)) / 1000) : "–",
      actions(job),
    ]);
    list.replaceChildren(items.length
      ? h("div", { class: "card stacked" }, table("Jobs, newest first", ["Job", "Settings", "State", "Created", { text: "Took", kind: "number" }, "Actions"], rows, { hideCaption: true }))
      : h("p", { class: "card" }, filter ? "There are no jobs in this state." : "There are no jobs yet. ", !filter && h("a", { href: "#/" }, "Convert a network")));
    more.hidden = !next;
    if (focused) document.getElementById(focused)?.focus();
  }

  function actions(job) {
    const name = ` ${KINDS[job.kind].toLowerCase()} of ${names.get(job.request.model ?? job.request.ann)}, ${when(job.created)}`;
    const button = (word, act) => h("button", { type: "button", class: "quiet", id: `${word.replace(" ", "-")}-${job.id}`,
      onclick: () => attempt(trouble, act) }, word, h("span", { class: "hidden" }, name));
    const away = async () => { await remove(job.links.self); items = items.filter((other) => other !== job); };
    if (!isFinished(job))
      return button("Cancel", async () => {
        const { state } = await cancel(job.links.self);
        announce(STATES[state]);
        await refresh();
      });
    return h("span", { class: "actions row" },
      button("Run again", async () => { await fillFrom(job); location.hash = "#/"; }),
      button("Delete", async () => {
        if (!confirm("Delete this job and its files?")) return;
        await away();
        announce("Deleted");
        await refresh();
        place.querySelector("h1").focus();
      }));
  }

  place.append(h("h1", { tabindex: "-1" }, "Jobs"),
    h("p", { class: "beside" }, h("label", { for: "state" }, "Show"), select), trouble, list, h("p", {}, more));
  await refresh();
  watch();

  async function watch() {
    while (!signal.aborted) {
      await pause(EVERY, signal);
      if (document.hidden || items.every(isFinished)) continue;
      await refresh().catch((error) => {
        if (error.name !== "AbortError" && !(error instanceof Problem)) throw error; // away for a while
      });
    }
  }
}

/** Why a job failed, and what to do. */
function why(job) {
  return h("span", { class: "why" }, h("span", { class: "clamp" }, here(job.error.what)),
    job.error.remedy && h("span", { class: "note" }, ` What to do: ${here(job.error.remedy)}`));
}

/** Names of the models of these jobs. */
async function learn(items, names) {
  const ids = new Set(items.map((job) => job.request.model ?? job.request.ann).filter((id) => !names.has(id)));
  await Promise.all([...ids].map(async (id) => {
    names.set(id, (await get(`/v1/models/${id}`).catch(() => null))?.name ?? "a network that was deleted");
  }));
}
