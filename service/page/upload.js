// Uploads: small files in one request, large files in pieces (tus 1.0). After a lost connection, a closed page or a restart
// of the service, choose the same file again: the upload continues.

import { Problem, UNREACHABLE, ask, authorization, pause } from "./api.js";

const SMALL = 4 * 2 ** 20;
const PIECE = 8 * 2 ** 20;
const PATIENCE = 10; // failures in a row
const TUS = { "Tus-Resumable": "1.0.0" };

/** Upload a file as a model or dataset: the service's answer. progress(bytes, what). Throws a Problem or an AbortError. */
export async function upload(kind, file, progress, signal) {
  const path = `/v1/${kind}s`;
  if (file.size === 0)
    throw new Problem(0, { title: "The file is empty", detail: `${file.name} holds no bytes.`, remedy: "Choose another file." });
  if (file.size <= SMALL) {
    const report = (sent) => progress(sent, sent < file.size ? "sending" : "checking");
    const name = `?name=${encodeURIComponent([...file.name.toWellFormed()].slice(-200).join(""))}`;
    const answer = await send("POST", path + name, file, { "Content-Type": "application/octet-stream" }, report, signal);
    return JSON.parse(answer.body);
  }
  const url = await inPieces(kind, file, progress, signal);
  progress(file.size, "checking");
  try {
    return await (await ask("POST", path, { json: { upload: url.split("/").at(-1) }, signal })).json();
  } catch (error) {
    // The service has refused these bytes: they are not kept.
    if (error instanceof Problem && error.status === 422) await ask("DELETE", url, { headers: TUS }).catch(() => {});
    throw error;
  } finally {
    if (!signal?.aborted) localStorage.removeItem(memory(kind, file));
  }
}

async function inPieces(kind, file, progress, signal) {
  let [url, offset] = await begin(kind, file, signal);
  progress(offset, "sending");
  let failures = 0;
  while (offset < file.size) {
    try {
      const headers = { ...TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": String(offset) };
      const start = offset;
      const piece = file.slice(start, start + PIECE);
      const answer = await send("PATCH", url, piece, headers, (sent) => progress(start + sent, "sending"), signal);
      offset = Number(answer.header("Upload-Offset"));
      failures = 0;
    } catch (error) {
      const passing = !error.status || error.status >= 500 || [400, 408, 409, 429].includes(error.status);
      if (!(error instanceof Problem) || !passing || (failures += 1) > PATIENCE) throw error;
      progress(offset, "waiting");
      await pause(Math.min(250 * 2 ** failures, 15000), signal);
      offset = await standing(url, signal, offset);
    }
  }
  return url;
}

/** Where to send pieces, and how many bytes have arrived; an earlier upload of the same file continues. */
async function begin(kind, file, signal) {
  const remembered = localStorage.getItem(memory(kind, file));
  if (remembered) {
    try {
      const answer = await ask("HEAD", remembered, { headers: TUS, signal });
      return [remembered, Number(answer.headers.get("Upload-Offset"))];
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 404) throw error;
    }
  }
  const headers = {
    ...TUS, "Upload-Length": String(file.size),
    "Upload-Metadata": `filename ${base64(file.name)},kind ${base64(kind)}`,
  };
  const url = (await ask("POST", "/v1/uploads", { headers, signal })).headers.get("Location");
  localStorage.setItem(memory(kind, file), url);
  return [url, 0];
}

async function standing(url, signal, otherwise) {
  try {
    return Number((await ask("HEAD", url, { headers: TUS, signal })).headers.get("Upload-Offset"));
  } catch (error) {
    if (error instanceof Problem && (!error.status || error.status >= 500)) return otherwise; // still away
    throw error;
  }
}

/** Send a body and report its progress, which fetch cannot do. */
function send(method, path, body, headers, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, path);
    for (const [name, value] of Object.entries({ ...authorization(), ...headers })) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => progress(event.loaded);
    request.onload = () => {
      if (request.status < 300) {
        resolve({ body: request.responseText, header: (name) => request.getResponseHeader(name) });
        return;
      }
      let document = { detail: `The service answered ${request.status}.`, remedy: "Try again." };
      try { document = JSON.parse(request.responseText); } catch { /* not a problem document */ }
      reject(new Problem(request.status, document));
    };
    request.onerror = () => reject(new Problem(0, UNREACHABLE));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body);
  });
}

const memory = (kind, file) => `graphpass.upload:${kind}:${file.name}:${file.size}:${file.lastModified}`;
const base64 = (text) => btoa(Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join(""));
