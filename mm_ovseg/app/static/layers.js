/** The tiles of a scene and its map: the map over an image, or two of them to the left and right of a divider. */

import { sceneBounds, toBounds } from "./map.js";

const L = window.L;
const FAILED = "A part of the map could not be loaded; move the map to try again, or load the page again.";

/** The panes of the two sides; without a divider, the left one has everything. */
export const SIDES = ["left", "right"];

/** The layers of one scene on one Leaflet map. */
export class Layers {
  /**
   * @param {L.Map} map
   * @param {Object} scene
   * @param {(message: string) => void} onError called when tiles cannot be loaded.
   */
  constructor(map, scene, onError) {
    this._map = map;
    this._scene = scene;
    this._onError = onError;
    this._slots = new Map(); // name -> {url, layer, stale layers}
    SIDES.forEach((side, index) => (map.createPane(side).style.zIndex = 210 + index));
  }

  /** The panes' elements, by side. */
  get panes() {
    return SIDES.map((side) => this._map.getPane(side));
  }

  /**
   * Show something else.
   * @param {Object} view
   * @param {Object|null} view.result the map; null for none.
   * @param {string} view.image "rgb" or "sar", beneath the map.
   * @param {string} view.layer "classes" or "confidence".
   * @param {number} view.opacity of the map, 0..1.
   * @param {number} view.minScore 0..1.
   * @param {string[]|null} view.sides what lies left and right of the divider: "rgb", "sar" or "map"; null for none.
   */
  show(view) {
    const sides = view.sides ?? ["map", null];
    SIDES.forEach((side, index) => {
      const shown = sides[index];
      const image = shown === "map" ? view.image : shown;
      this._fill(side, "image", image && this._imageUrl(image), 1, sceneBounds(this._map, this._scene));
      const result = shown === "map" ? view.result : null;
      const bounds = result && toBounds(this._map, this._scene, result.bounds ?? result.pixels);
      this._fill(side, "map", result && mapUrl(result, view.layer, view.minScore), view.opacity, bounds);
    });
  }

  _imageUrl(image) {
    return `api/scenes/${this._scene.id}/tiles/${image}/{z}/{x}/{y}.png`;
  }

  /** Put tiles into a side; those before stay until the new ones are there. */
  _fill(side, level, url, opacity, bounds) {
    const name = `${side} ${level}`;
    const before = this._slots.get(name) ?? { url: null, layer: null, stale: [] };
    if (before.url === url) {
      before.layer?.setOpacity(opacity);
      return;
    }
    const slot = { url, layer: null, stale: before.layer ? [...before.stale, before.layer] : before.stale };
    this._slots.set(name, slot);
    const clear = () => slot.stale.splice(0).forEach((layer) => layer.remove());
    if (!url) return clear();
    slot.layer = L.tileLayer(url, {
      pane: side,
      zIndex: level === "map" ? 2 : 1,
      opacity,
      bounds,
      minNativeZoom: 0,
      maxNativeZoom: this._scene.native_zoom,
      minZoom: -10,
      maxZoom: this._map.getMaxZoom(),
    });
    slot.layer.on("loading load", () => this._noteLoading());
    slot.layer.on("load", clear);
    slot.layer.on("tileerror", () => this._onError(FAILED));
    slot.layer.addTo(this._map);
  }

  _noteLoading() {
    const layers = [...this._slots.values()].map((slot) => slot.layer);
    this._map.getContainer().setAttribute("aria-busy", layers.some((layer) => layer?.isLoading()));
  }
}

function mapUrl(result, layer, minScore) {
  const query = minScore > 0 ? `?min_score=${minScore.toFixed(2)}` : "";
  return `api/maps/${result.id}/tiles/${layer}/{z}/{x}/{y}.png${query}`;
}
