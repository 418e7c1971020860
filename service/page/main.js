// The key, the address, and which view is shown.

import { JOB_ID, UNREACHABLE, get, key } from "./api.js";
import { alarm, focusOn, h } from "./element.js";
import { jobView } from "./job.js";
import { jobsView } from "./jobs.js";
import { reportView } from "./report.js";
import { setupView } from "./setup.js";

const main = document.getElementById("main");
const navigation = document.getElementById("navigation");
const forget = document.getElementById("forget");
let leaving = null; // stops the work of the view before
let first = true;

const VIEWS = [
  [new RegExp(`^#/jobs/(${JOB_ID})$`), jobView],
  [new RegExp(`^#/jobs/(${JOB_ID})/report$`), reportView],
  [/^#\/jobs$/, jobsView],
  [/^/, setupView],
];

/** Move a key from the address to this tab's memory, so that it is not shared or kept by accident. */
function keyFromAddress() {
  const found = /[#&]key=([^&]+)/.exec(location.hash);
  if (!found) return;
  key.set(found[1]);
  history.replaceState(null, "", `${location.pathname}#/`);
}

async function show() {
  keyFromAddress();
  leaving?.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const known = Boolean(key.get());
  navigation.hidden = forget.hidden = !known;
  if (!known) {
    askForKey();
    return;
  }
  for (const link of navigation.querySelectorAll("a")) {
    const here = link.hash === "#/" ? !location.hash.startsWith("#/jobs") : location.hash.startsWith(link.hash);
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const [pattern, view] = VIEWS.find(([each]) => each.test(location.hash));
  const place = h("div", {});
  main.replaceChildren(place);
  try {
    await view(place, signal, ...pattern.exec(location.hash).slice(1));
  } catch (error) {
    if (signal.aborted) return;
    if (error.status === 401) {
      askForKey(error);
      return;
    }
    main.replaceChildren(h("h1", {}, "Something went wrong"), alarm(error.what ? error : unexpected(error),
      h("button", { type: "button", onclick: show }, "Try again")));
  }
  if (signal.aborted) return;
  const heading = main.querySelector("h1");
  document.title = `${heading?.textContent ?? "graphpass"} – graphpass`;
  if (!first && heading) focusOn(heading); // screen readers then read the heading
  first = false;
  window.scrollTo(0, 0);
}

function unexpected(error) {
  console.error(error);
  return { title: "This page failed", what: String(error.message ?? error), remedy: "Load it again; if that does not help, report it." };
}

function askForKey(problem = null) {
  key.forget();
  navigation.hidden = forget.hidden = true;
  const field = h("input", { type: "password", id: "key", autocomplete: "off", spellcheck: "false", required: true,
    "aria-describedby": "key-hint" });
  const trouble = h("div", {}, problem && alarm(problem));
  const enter = async (event) => {
    event.preventDefault();
    key.set(field.value.trim());
    try {
      await get("/v1/jobs?limit=1");
      await show();
    } catch (error) {
      key.forget();
      trouble.replaceChildren(alarm(error.what ? error : { ...UNREACHABLE, what: UNREACHABLE.detail }));
      field.setAttribute("aria-invalid", "true");
      field.focus();
    }
  };
  main.replaceChildren(h("section", { class: "card narrow" },
    h("h1", {}, "Your key"),
    h("p", {}, "All that you upload belongs to your key. The key stays in this tab and is forgotten when you close it."),
    trouble,
    h("form", { onsubmit: enter },
      h("label", { for: "key" }, "Key"), field,
      h("p", { class: "note", id: "key-hint" }, "It begins with gp_. ", h("code", {}, "graphpass serve"),
        " prints a link with a key; ", h("code", {}, "graphpass keys create NAME"), " makes another."),
      h("button", { class: "primary" }, "Go on"))));
  document.title = "Your key – graphpass";
  first = false;
  field.focus();
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
forget.addEventListener("click", () => {
  key.forget();
  location.hash = "#/";
  show();
});
window.addEventListener("hashchange", show);
window.addEventListener("unhandledrejection", (event) => {
  if (event.reason?.name === "AbortError") event.preventDefault();
});
show();
