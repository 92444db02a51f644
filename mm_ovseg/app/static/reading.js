/** How files are read: units, ranges and bands; of a scene, or asked for before files are opened. */

import { byId, element } from "./dom.js";

const UNITS = { "8bit": "8-bit, already scaled", dB: "decibels", power: "power", amplitude: "amplitude" };
const AS_THE_FILE_SAYS = "as the file says";
const RANGE = /^\s*(-?[\d.]+)\s*(?:to|–)\s*(-?[\d.]+)\s*$/;
const BANDS = /^\s*\d+(\s*,\s*\d+)*\s*$/;

/** The form below the images. */
export class ReadingForm {
  /** @param {string[]} sarUnits the units that the server knows. */
  constructor(sarUnits) {
    this._units = sarUnits;
    this.isForFiles = false;
  }

  /** Offer to say how files are read that are not open yet. */
  showFiles() {
    this.isForFiles = true;
    this._show({}, ["rgb", "sar"], null, true);
  }

  /**
   * Show how a scene is read.
   * @param {Object} scene with its reading and its images.
   * @param {Object|null} asked the reading that was asked for.
   * @param {boolean} editable
   */
  showScene({ reading, images }, asked, editable) {
    this.isForFiles = false;
    this._show(reading, images, asked, editable);
  }

  _show(reading, images, asked, editable) {
    this._asked = asked ?? {};
    this._fields = [];
    const rows = [];
    if (images.includes("rgb")) {
      const unit = reading.rgb_unit ? ` (${reading.rgb_unit})` : "";
      rows.push(this._range("rgb", `RGB range${unit}`, reading), this._bands("rgb", reading));
    }
    if (images.includes("sar")) {
      rows.push(this._unit(reading), this._range("sar", "SAR range, dB", reading), this._bands("sar", reading));
    }
    for (const { control } of this._fields) control.disabled = !editable;
    byId("reading-fields").replaceChildren(...rows);
    byId("read").hidden = !editable;
    byId("reading").hidden = false;
  }

  /**
   * The reading to ask for: what was changed, now or before; null for the rest.
   * @throws {Error} if a field cannot be understood.
   */
  get value() {
    return Object.fromEntries(
      this._fields.map(({ key, control, shown, read }) => {
        if (control.value === shown) return [key, this._asked[key] ?? null];
        return [key, control.value.trim() ? read(control.value) : null];
      }),
    );
  }

  _range(sensor, label, reading) {
    const key = `${sensor}_range`;
    const text = rangesOf(reading[key]).map((range) => range.join(" to ")).join(", ");
    return this._text(key, label, text, sensor === "sar" ? readRanges : readRange);
  }

  _bands(sensor, reading) {
    const key = `${sensor}_bands`;
    const available = this.isForFiles ? "" : ` (of ${reading[`${key}_available`]})`;
    return this._text(key, `${sensor.toUpperCase()} bands${available}`, reading[key]?.join(", "), readBands);
  }

  _text(key, label, shown = "", read) {
    return this._row(key, label, element("input", { value: shown, placeholder: AS_THE_FILE_SAYS }), read);
  }

  _unit(reading) {
    const options = this._units.map((unit) => element("option", { value: unit }, UNITS[unit] ?? unit));
    const select = element("select", {}, element("option", { value: "" }, AS_THE_FILE_SAYS), ...options);
    select.value = reading.sar_unit ?? "";
    const source = reading.sar_unit_declared ? "said by the file" : "assumed";
    return this._row("sar_unit", `SAR unit${this.isForFiles ? "" : ` (${source})`}`, select, (value) => value);
  }

  _row(key, label, control, read) {
    control.id = key.replace("_", "-");
    this._fields.push({ key, control, shown: control.value, read });
    return element("div", { className: "field" }, element("label", { htmlFor: control.id }, label), control);
  }
}

/** A list of ranges, from null, one range, or one for each band. */
function rangesOf(value) {
  return Array.isArray(value?.[0]) ? value : value ? [value] : [];
}

/** A range for all bands, or a list of one for each. */
function readRanges(text) {
  const ranges = text.split(",").map((part) => readRange(part, "-25 to 0; of two bands, -25 to 0, -32 to -7"));
  return ranges.length === 1 ? ranges[0] : ranges;
}

function readRange(text, example = "0 to 0.3") {
  const [, low, high] = (RANGE.exec(text) ?? []).map(Number);
  if (Number.isFinite(low) && low < high) return [low, high];
  throw new Error(`“${text.trim()}” is not a range; write the lower number first, such as ${example}.`);
}

function readBands(text) {
  if (BANDS.test(text)) return text.split(",").map(Number);
  throw new Error(`“${text}” are not bands; separate their numbers by commas, such as 3, 2, 1.`);
}
