/** What the map says of one place. */

import { getJSON } from "./api.js";
import { element, swatch } from "./dom.js";
import { toQuery, toText } from "./map.js";
import { percent } from "./text.js";

const L = window.L;

/** Asks the server about places of a map, and shows the answer in a popup. */
export class PointPopup {
  /**
   * @param {L.Map} map
   * @param {Object} scene
   * @param {(message: string) => void} onStatus called with what the popup says, for screen readers.
   */
  constructor(map, scene, onStatus) {
    Object.assign(this, { _map: map, _scene: scene, _onStatus: onStatus, _asking: null });
  }

  /**
   * Ask what is at a place.
   * @param {Object} result the map.
   * @param {number} minScore 0..1.
   * @param {L.LatLng} place
   */
  async ask(result, minScore, place) {
    this._asking?.abort();
    const asking = (this._asking = new AbortController());
    try {
      const query = `${toQuery(this._map, this._scene, place)}&min_score=${minScore.toFixed(2)}`;
      const point = await getJSON(`api/maps/${result.id}/point?${query}`, asking.signal);
      const coordinates = point.coordinates ?? toText(this._map, this._scene, place);
      this._open(place, describe(point, coordinates));
      const best = point.scores[0];
      const score = best && best.name === point.name ? `, score ${percent(best.score)}` : "";
      this._onStatus(`${title(point)}${score}. ${point.coverage ?? ""}`);
    } catch (error) {
      if (error.name === "AbortError") return;
      this._open(place, element("p", {}, error.message));
      this._onStatus(error.message);
    }
  }

  /** Close the popup and forget the question. */
  close() {
    this._asking?.abort();
    this._map.closePopup();
  }

  _open(place, content) {
    const maxHeight = Math.min(280, this._map.getSize().y - 90); // a phone's map is small
    const popup = L.popup({ className: "point", minWidth: 220, maxWidth: 260, maxHeight });
    popup.setLatLng(place).setContent(content).openOn(this._map);
  }
}

/** What the map shows there, and why if it left the class out. */
const title = ({ name, below_minimum: leftOut }) => (leftOut ? `${name} (${leftOut}, score below the minimum)` : name);

function describe(point, coordinates) {
  const madeFrom = point.coverage ? `Made from: ${point.coverage}` : "";
  const bars = point.scores.map(({ name, score }) =>
    element(
      "li",
      { className: name === point.name ? "best" : "" },
      element("span", {}, name),
      element("span", { className: "number" }, percent(score)),
      element("span", { className: "bar", style: { "--share": String(score) } }),
    ),
  );
  return element(
    "div",
    {},
    element("h3", {}, swatch(point.color), title(point)),
    element("ol", { className: "scores" }, ...bars),
    element("p", { className: "hint" }, madeFrom, element("br"), coordinates),
  );
}
