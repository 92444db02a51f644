/** The area to map: drawn with mouse, pen or finger, or taken from the view by keyboard. */

import { sceneBounds } from "./map.js";

const L = window.L;
const MIN_SIDE = 8; // pixels of the screen; a shorter drag is a slip

/** The rectangle on one Leaflet map. */
export class AreaRectangle {
  /**
   * @param {L.Map} map
   * @param {Object} scene
   * @param {(bounds: L.LatLngBounds|null) => void} onChange called with the new area; null for the whole scene.
   * @param {(drawing: boolean) => void} onDrawing called when drawing begins and ends.
   */
  constructor(map, scene, onChange, onDrawing) {
    Object.assign(this, { _map: map, _scene: scene, _onChange: onChange, _onDrawing: onDrawing, _shape: null });
    this.drawing = false;
    const container = map.getContainer();
    this._listeners = new AbortController(); // the container outlives the map
    const options = { capture: true, signal: this._listeners.signal };
    for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
      container.addEventListener(name, (event) => this.drawing && this._drag(event), options);
    }
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.setDrawing(false), options);
  }

  /** Begin or end drawing; while drawing, the map does not move. */
  setDrawing(drawing) {
    if (drawing === this.drawing) return;
    this.drawing = drawing;
    this._start = null;
    this._preview?.remove();
    this._preview = null;
    this._map.dragging[drawing ? "disable" : "enable"]();
    this._map.getContainer().classList.toggle("drawing", drawing);
    this._onDrawing(drawing);
  }

  /** Set the area, cut to the scene; null clears it. Returns whether any of it lies in the scene. */
  set(bounds) {
    const cut = bounds && intersection(bounds, sceneBounds(this._map, this._scene));
    if (bounds && !cut) return false;
    this._shape?.remove();
    this._shape = cut && L.rectangle(cut, { className: "area", interactive: false }).addTo(this._map);
    this._onChange(cut);
    return true;
  }

  /** Stop listening; call it before the map is removed. */
  remove() {
    this._listeners.abort();
    this._map.getContainer().classList.remove("drawing");
  }

  _drag(event) {
    if (event.target.closest(".leaflet-control")) return;
    event.stopPropagation();
    const point = this._map.mouseEventToContainerPoint(event);
    if (event.type === "pointerdown") {
      this._start = point;
      this._map.getContainer().setPointerCapture(event.pointerId);
    } else if (this._start && event.type === "pointermove") {
      const corners = [this._start, point].map((corner) => this._map.containerPointToLatLng(corner));
      this._preview ??= L.rectangle(corners, { className: "area", interactive: false }).addTo(this._map);
      this._preview.setBounds(corners);
    } else if (this._start && event.type !== "pointermove") {
      this._finish(point, event.type === "pointerup");
    }
  }

  _finish(point, keep) {
    const start = this._start;
    this._start = null;
    this._preview?.remove();
    this._preview = null;
    const long = Math.min(Math.abs(point.x - start.x), Math.abs(point.y - start.y)) >= MIN_SIDE;
    if (keep && long && this.set(L.latLngBounds([start, point].map((p) => this._map.containerPointToLatLng(p))))) {
      // The click that follows the drag is not a question.
      setTimeout(() => this.setDrawing(false));
    }
  }
}

/** The common part of two bounds; null for none. */
function intersection(one, other) {
  const [south, west] = [Math.max(one.getSouth(), other.getSouth()), Math.max(one.getWest(), other.getWest())];
  const [north, east] = [Math.min(one.getNorth(), other.getNorth()), Math.min(one.getEast(), other.getEast())];
  return south < north && west < east ? L.latLngBounds([south, west], [north, east]) : null;
}
