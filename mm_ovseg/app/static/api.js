/** The server's interface. Each function rejects with an Error whose message is a sentence for the visitor. */

const UNREACHABLE = "The page cannot reach its server; check the connection and try again.";
const CUT_OFF = "The server stopped answering; try again.";

/** GET as JSON. @param {string} url @param {AbortSignal} [signal] */
export async function getJSON(url, signal) {
  return (await request(url, { signal })).json();
}

/**
 * POST JSON, and read the lines of the answer as they come.
 * @param {string} url
 * @param {Object} body
 * @param {(event: Object) => void} onEvent called for "waiting" and "progress".
 * @param {AbortSignal} signal closes the stream, by which the server drops the work.
 * @returns {Promise<Object>} the last event.
 */
export async function postForStream(url, body, onEvent, signal) {
  const headers = { "Content-Type": "application/json" };
  const response = await request(url, { method: "POST", headers, body: JSON.stringify(body), signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Error(CUT_OFF);
    });
    if (done) throw new Error(CUT_OFF);
    text += value;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines.filter((line) => line.trim())) {
      const event = JSON.parse(line);
      if (event.event === "error") throw new Error(event.message);
      if (event.event !== "waiting" && event.event !== "progress") return event;
      onEvent(event);
    }
  }
}

/**
 * Upload a file. It needs XMLHttpRequest, as fetch does not tell how much has been sent.
 * @param {File} file
 * @param {(share: number) => void} onProgress called with 0..1.
 * @param {AbortSignal} signal
 * @returns {Promise<{id: string, name: string, bytes: number}>}
 */
export function uploadFile(file, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const sender = new XMLHttpRequest();
    sender.open("POST", "api/files");
    sender.responseType = "json";
    sender.upload.addEventListener("progress", (event) => onProgress(event.loaded / event.total));
    sender.addEventListener("error", () => reject(new Error(UNREACHABLE)));
    sender.addEventListener("abort", () => reject(new DOMException("The upload was cancelled.", "AbortError")));
    sender.addEventListener("load", () => {
      if (sender.status < 400 && sender.response) resolve(sender.response);
      else reject(new Error(sender.response?.message ?? CUT_OFF));
    });
    signal.addEventListener("abort", () => sender.abort());
    const form = new FormData();
    form.append("file", file);
    sender.send(form);
  });
}

async function request(url, options) {
  const response = await fetch(url, options).catch((error) => {
    throw error.name === "AbortError" ? error : new Error(UNREACHABLE);
  });
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Error(answer.message ?? CUT_OFF);
}
