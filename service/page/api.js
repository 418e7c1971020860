// The public API: requests with the key, problems, events that resume, downloads. Nothing else speaks to the server.

const KEY = "graphpass.key";
const FINISHED = new Set(["succeeded", "failed", "cancelled"]);
const COLLECTIONS = { con: "conversions", eva: "evaluations", sea: "searches", swe: "sweeps", ran: "rankings" };

/** A refusal of the service: what happened, what to do, and where. */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? document.what ?? "the service failed");
    this.status = status;
    this.type = document.type ?? "";
    this.title = document.title ?? "";
    this.what = this.message;
    this.remedy = document.remedy ?? "";
    this.where = document.where ?? "";
    this.errors = document.errors ?? [];
    this.requestId = status >= 500 ? document.request_id ?? "" : "";
  }
}

export const UNREACHABLE = {
  type: "unreachable", title: "The service does not answer", detail: "The connection failed.",
  remedy: "Check that the service runs and that you are online, then try again.",
};

const KEY_GONE = {
  title: "A valid key is needed", detail: "The key of this tab is not valid any more.",
  remedy: "Open the newest link that graphpass serve printed, or choose “Forget key” and enter another.",
};

/** The key, which is only in this tab and is forgotten when it is closed. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => sessionStorage.setItem(KEY, encodeURI(text.toWellFormed())), // any text fits into a header, so that it is refused
  forget: () => sessionStorage.removeItem(KEY),
};

export const authorization = () => ({ Authorization: `Bearer ${key.get()}` });
export const isFinished = (job) => FINISHED.has(job.state);
/** What the id of a job looks like, for a regular expression. */
export const JOB_ID = `(?:${Object.keys(COLLECTIONS).join("|")})_[a-z0-9]+`;
/** The address of a job in the API. */
export const pathOf = (id) => `/v1/${COLLECTIONS[id.slice(0, 3)]}/${id}`;

export async function problemOf(response) {
  try {
    return new Problem(response.status, await response.json());
  } catch {
    if (response.status === 401) return new Problem(401, KEY_GONE);
    return new Problem(response.status, { detail: `The service answered ${response.status}.`, remedy: "Try again." });
  }
}

/** One request. Throws a Problem, or an AbortError. After too many requests it waits as long as the service says, a few times. */
export async function ask(method, path, { json, headers = {}, signal } = {}) {
  for (let attempt = 0; ; attempt += 1) {
    let response;
    try {
      response = await fetch(path, {
        method, signal, cache: "no-store", redirect: "error",
        headers: { ...authorization(), ...(json === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
        body: json === undefined ? undefined : JSON.stringify(json),
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, UNREACHABLE);
    }
    if (response.ok) return response;
    const after = Number(response.headers.get("Retry-After"));
    if (response.status !== 429 || attempt === 3 || !(after > 0 && after <= 20)) throw await problemOf(response);
    await pause(1000 * after, signal);
  }
}

export async function get(path, signal) {
  return (await ask("GET", path, { signal })).json();
}

/** A job with its whole result: the answer has only the beginnings of long lists. */
export async function getJob(path, signal) {
  const job = await get(path, signal);
  const { result, links } = job;
  if (result?.omitted && links.result) Object.assign(result, await get(links.result, signal));
  if (result?.evaluation?.omitted && links.report_json) result.evaluation = await get(links.report_json, signal);
  if (result?.omitted && job.kind === "ranking" && links.report_json) job.result = await get(links.report_json, signal);
  if (result?.omitted && result.rows && links.report_json) result.rows = await get(links.report_json, signal);
  return job;
}

export async function post(path, json) {
  return (await ask("POST", path, { json, headers: json === undefined ? {} : { "Idempotency-Key": random() } })).json();
}

/** Stop a job; a job that is finished stays as it is. */
export async function cancel(path) {
  return (await ask("POST", `${path}/cancel`)).json();
}

/** Delete an object, or a job that is finished. */
export async function remove(path) {
  await ask("DELETE", path);
}

/** Events of a job from its beginning to its end, over broken connections: {id, event, data}. */
export async function* events(url, signal) {
  let last = null;
  let failures = 0;
  while (true) {
    try {
      const headers = last === null ? {} : { "Last-Event-ID": last };
      const response = await ask("GET", url, { headers, signal });
      for await (const found of parsed(response.body)) {
        failures = 0;
        last = found.id;
        yield found;
        if (found.event === "state" && FINISHED.has(found.data.state)) return;
      }
      if ((failures += 1) > 20) return;
    } catch (error) {
      if (error.name === "AbortError" || (error instanceof Problem && error.status && error.status < 500)) throw error;
      failures += 1;
      yield { id: last, event: "lost", data: {} };
    }
    await pause(Math.min(250 * 2 ** failures, 8000), signal);
  }
}

async function* parsed(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) return;
      held += value;
      const parts = held.split("\n\n");
      held = parts.pop();
      for (const part of parts) {
        const fields = Object.fromEntries(part.split("\n").filter((line) => !line.startsWith(":"))
          .map((line) => line.split(/: (.*)/s, 2)));
        if (fields.data) yield { id: fields.id, event: fields.event, data: JSON.parse(fields.data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Save a file of a job under the name that the service gives it. */
export async function download(path) {
  const response = await ask("GET", path);
  const named = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "");
  const address = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = named ? named[1] : "download";
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
  return link.download;
}

/** All pages of a list, up to `most` items. */
export async function all(path, most = 400) {
  const found = [];
  for (let next = path; next && found.length < most;) {
    const page = await get(next);
    found.push(...page.items);
    next = page.next;
  }
  return found;
}

export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    }, { once: true });
  });
}

function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
