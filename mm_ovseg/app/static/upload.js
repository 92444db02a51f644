/** Choosing, dropping and uploading the files of one sensor. */

import { uploadFile } from "./api.js";
import { element } from "./dom.js";
import { percent, size } from "./text.js";

const SUFFIXES = ".tif,.tiff,.png,.jpg,.jpeg,.jp2";

/** The files of one sensor. */
export class FileChooser {
  /**
   * @param {"rgb"|"sar"} sensor
   * @param {number} maxBytes of one file.
   * @param {() => void} onChange called when the files are others.
   * @param {(message: string) => void} onError
   */
  constructor(sensor, maxBytes, onChange, onError) {
    Object.assign(this, { _maxBytes: maxBytes, _onChange: onChange, _onError: onError, _files: [] });
    const id = `${sensor}-files`;
    const choice = { type: "file", id, multiple: true, accept: SUFFIXES };
    this._input = element("input", { ...choice, className: "visually-hidden" });
    this._list = element("ul");
    const label = element("label", { htmlFor: id, className: "button" }, `Choose ${sensor.toUpperCase()} files`);
    const hint = element("span", { className: "hint drop-hint" }, "or drop them here");
    this.element = element("div", { className: "drop" }, this._input, label, hint, this._list);
    this._input.addEventListener("change", () => {
      this._add([...this._input.files]);
      this._input.value = ""; // the same file may be chosen again
    });
    this._listenToDrops();
  }

  /** The ids of the files on the server; null while one is on its way. */
  get ids() {
    const ids = this._files.map((file) => file.id);
    return ids.includes(null) ? null : ids;
  }

  /** Cancel what is on its way, and forget the files. */
  clear() {
    this._files.forEach((file) => file.sending.abort());
    this._files = [];
    this._list.replaceChildren();
  }

  _listenToDrops() {
    const mark = (event) => {
      event.preventDefault();
      this.element.classList.toggle("over", event.type === "dragover");
    };
    for (const name of ["dragover", "dragleave", "drop"]) this.element.addEventListener(name, mark);
    this.element.addEventListener("drop", (event) => this._add([...event.dataTransfer.files]));
  }

  _add(files) {
    for (const file of files) {
      if (file.size > this._maxBytes) {
        this._onError(`${file.name} has ${size(file.size)}, more than the maximum of ${size(this._maxBytes)}.`);
      } else this._upload(file);
    }
  }

  async _upload(file) {
    const entry = { id: null, sending: new AbortController() };
    const state = element("span", { className: "number" }, "0%");
    const bar = element("progress", { max: 1, value: 0, aria: { label: `Upload of ${file.name}` } });
    const remove = element("button", { type: "button", aria: { label: `Remove ${file.name}` } }, "✕");
    const item = element("li", {}, element("span", { className: "file-name" }, file.name), state, remove, bar);
    const drop = () => {
      entry.sending.abort();
      this._files = this._files.filter((other) => other !== entry);
      item.remove();
      this._onChange();
    };
    remove.addEventListener("click", drop);
    this._files.push(entry);
    this._list.append(item);
    this._onChange();
    const onProgress = (share) => {
      bar.value = share;
      state.textContent = percent(Math.floor(share * 100) / 100);
    };
    try {
      entry.id = (await uploadFile(file, onProgress, entry.sending.signal)).id;
      bar.remove();
      state.textContent = size(file.size);
      this._onChange();
    } catch (error) {
      if (error.name === "AbortError") return;
      drop();
      this._onError(`${file.name}: ${error.message}`);
    }
  }
}
