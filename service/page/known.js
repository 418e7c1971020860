// The options as the service lists them: names, help, defaults and limits.

const TRIES = 5;
const PAUSE = 1000; // milliseconds

async function load() {
  for (let number = 0; number < TRIES; number += 1) {
    if (number) await new Promise((resolve) => { setTimeout(resolve, PAUSE); });
    const answer = await fetch("/v1/options").catch(() => null);
    if (answer?.ok) return answer.json();
  }
  document.getElementById("main").textContent = "The service does not answer. Load this page again in a while.";
  throw new Error("no answer to /v1/options");
}

export const OPTIONS = await load();
