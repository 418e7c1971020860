// One input: a file that is dropped or chosen, or an earlier upload; then the service's description of it.

import { Problem } from "./api.js";
import { alarm, announce, focusOn, freshId, h } from "./element.js";
import { upload } from "./upload.js";
import { bytes, counted, percent, when } from "./words.js";

const TAKES = { model: ".onnx,.zip", dataset: ".npz,.npy,.zip,.tar,.parquet" };
const WHAT = { sending: "Sending", checking: "Examining the file", waiting: "The connection is lost. Trying again" };

/** `choices[role]` is the current choice; `changed` is called when it changes. `instead`: what is drawn where nothing is
 *  chosen, and whether it replaces a file. */
export function picker({ kind, title, hint, known, choices, role, summary, changed, signal, optional = false, instead = null }) {
  const heading = freshId("picker");
  const body = h("div", {});
  const element = h("section", { class: "card", "aria-labelledby": heading },
    h("h2", { id: heading }, title, optional && h("span", { class: "note" }, " (optional)")), body);

  const choose = (found) => {
    choices[role] = found;
    if (found && !known.some((each) => each.id === found.id)) known.unshift(found);
    draw();
    changed();
  };

  function draw(trouble = null) {
    const found = choices[role];
    body.replaceChildren(...(found ? picked(found) : empty(trouble)));
  }

  function picked(found) {
    return [
      h("p", {}, h("strong", {}, found.name), ` · ${bytes(found.size)}`,
        found.expires && h("span", { class: "note" }, ` · kept until ${when(found.expires)}`)),
      summary(found),
      h("button", { type: "button", class: "quiet", onclick: () => {
        choose(null);
        body.querySelector("input[type=file]").focus();
      } }, "Choose another", h("span", { class: "hidden" }, ` for “${title}”`)),
    ];
  }

  function empty(trouble) {
    const file = freshId("file");
    const list = freshId("known");
    const input = h("input", { type: "file", id: file, accept: TAKES[kind], "aria-describedby": `${file}-hint`,
      onchange: () => input.files[0] && take(input.files[0]) });
    const zone = h("div", { class: "drop",
      ondragover: (event) => { event.preventDefault(); zone.classList.add("over"); },
      ondragleave: () => zone.classList.remove("over"),
      ondrop: (event) => {
        event.preventDefault();
        zone.classList.remove("over");
        if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
      } },
      h("label", { for: file }, "Drop a file here, or choose one", h("span", { class: "hidden" }, ` for “${title}”`)),
      input, h("p", { class: "note", id: `${file}-hint` }, hint));
    const before = known.length > 0 && h("div", { class: "field" },
      h("label", { for: list }, "Or use an earlier upload"),
      h("select", { id: list, onchange: (event) => {
        choose(known.find((each) => each.id === event.target.value));
        focusOn(element.querySelector("h2"));
      } }, h("option", { value: "" }, "Choose …"), known.map((each) =>
        h("option", { value: each.id }, `${each.name} · ${detail(each)} · ${when(each.created)}`))));
    const other = instead?.(draw);
    return [trouble && alarm(trouble), ...(other?.picked ? [] : [zone, before]), other?.element].filter(Boolean);
  }

  async function take(file) {
    const stop = new AbortController();
    signal.addEventListener("abort", () => stop.abort(), { once: true });
    const bar = h("progress", { max: "1", value: 0, "aria-label": `Upload of ${file.name}` });
    const words = h("p", { class: "note" });
    body.replaceChildren(h("p", {}, h("strong", {}, file.name)), bar, words,
      h("button", { type: "button", class: "quiet", onclick: () => stop.abort() }, "Stop"));
    body.querySelector("button").focus();
    announce(`Uploading ${file.name}`);
    const tell = (sent, what) => {
      if (what === "checking") bar.removeAttribute("value");
      else bar.value = sent / file.size;
      words.textContent = `${WHAT[what]} … ${what === "checking" ? "" : `${percent(sent / file.size, 0)} of ${bytes(file.size)}`}`;
    };
    try {
      choose(await upload(kind, file, tell, stop.signal));
      announce(`${file.name} is uploaded`);
      focusOn(element.querySelector("h2"));
    } catch (error) {
      if (signal.aborted) return;
      if (error.name !== "AbortError" && !(error instanceof Problem)) throw error;
      draw(error instanceof Problem ? error : null);
      body.querySelector("input[type=file]").focus();
    }
  }

  draw();
  return { element, choose, draw };
}

function detail(found) {
  const { samples, labels, spiking } = found.description;
  if (found.kind === "model") return spiking ? "spiking" : bytes(found.size);
  return `${samples === undefined || samples === null ? "? samples" : counted(samples, "sample")}${labels ? ", labelled" : ""}`;
}
