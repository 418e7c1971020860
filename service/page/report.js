// The HTML report of a job. It needs the key, which no link can send, and scripts, which this page forbids. So it is fetched
// here and shown in a frame without rights, which can read neither the key nor this page, and has no network.

import { ask, get, pathOf } from "./api.js";
import { h } from "./element.js";
import { KINDS } from "./words.js";

export async function reportView(place, signal, id) {
  const job = await get(pathOf(id), signal);
  const text = await (await ask("GET", `${pathOf(id)}/report`, { signal })).text();
  const frame = h("iframe", { class: "report", src: "report.html", sandbox: "allow-scripts", title: "Report" });
  const send = (event) => {
    if (event.source !== frame.contentWindow) return;
    window.removeEventListener("message", send);
    event.source.postMessage(text, "*"); // its origin has no name
  };
  window.addEventListener("message", send, { signal });
  place.append(
    h("p", { class: "crumbs" }, h("a", { href: "#/jobs" }, "Jobs"), " › ", h("a", { href: `#/jobs/${id}` }, KINDS[job.kind]), " › Report"),
    h("h1", { class: "hidden" }, "Report"), frame);
}
