/** One run of the server at a time, with its progress. */

import { byId } from "./dom.js";
import { count, percent } from "./text.js";

/** Runs work, shows how far it is, and cancels it. */
export class Run {
  /** @param {(message: string) => void} onStatus @param {(message: string) => void} onError */
  constructor(onStatus, onError) {
    Object.assign(this, { _onStatus: onStatus, _onError: onError, _controller: null });
    byId("cancel").addEventListener("click", () => this.cancel());
    // A visitor who leaves does not keep the others waiting.
    window.addEventListener("pagehide", () => this.cancel());
  }

  /** Cancel what runs; the server drops it. */
  cancel() {
    this._controller?.abort();
  }

  /**
   * Run something, unless something else runs.
   * @param {string} title such as "Making the map".
   * @param {(onEvent: (event: Object) => void, signal: AbortSignal) => Promise<void>} work
   */
  async start(title, work) {
    if (this._controller) {
      this._onError("Wait until the current run is finished, or cancel it.");
      return;
    }
    this._controller = new AbortController();
    this._show(true, title);
    this._onError("");
    this._onStatus(`${title} …`);
    try {
      await work((event) => this._note(event, title), this._controller.signal);
    } catch (error) {
      this._onStatus(error.name === "AbortError" ? "Cancelled." : "");
      if (error.name !== "AbortError") this._onError(error.message);
    } finally {
      this._controller = null;
      this._show(false, "");
    }
  }

  _show(active, title) {
    byId("make").disabled = active;
    byId("cancel").hidden = !active;
    byId("progress").hidden = !active;
    byId("progress-bar").removeAttribute("value");
    byId("progress-text").textContent = title;
  }

  _note(event, title) {
    if (event.event === "waiting") {
      byId("progress-bar").removeAttribute("value");
      byId("progress-text").textContent = `Place ${event.place} in the queue`;
      this._onStatus(`Waiting: place ${event.place} in the queue.`);
    } else {
      const bar = byId("progress-bar");
      if (!bar.hasAttribute("value")) this._onStatus(`${title} …`);
      bar.max = event.total;
      bar.value = event.done;
      const windows = `${count(event.done)} of ${count(event.total)} windows`;
      byId("progress-text").textContent = event.what === "windows" ? windows : percent(event.done / event.total);
    }
  }
}
