/** A Leaflet map of one scene, and conversions between its coordinates and the server's. */

const MAX_OVERZOOM = 6; // levels beyond the image's own pixels
const L = window.L;

/**
 * Make the map of a scene, fitted to the view.
 * @param {HTMLElement} container
 * @param {Object} scene
 * @param {number} covered pixels at the right that something else covers.
 * @returns {L.Map} to be removed before another is made.
 */
export function createMap(container, scene, covered) {
  const map = L.map(container, {
    crs: scene.bounds ? L.CRS.EPSG3857 : L.CRS.Simple,
    attributionControl: false, // Leaflet's would set the scene's text as HTML
    maxZoom: scene.native_zoom + MAX_OVERZOOM,
    zoomSnap: 0.5,
    maxBoundsViscosity: 0.7,
  });
  const bounds = sceneBounds(map, scene);
  map.fitBounds(bounds, { animate: false, paddingTopLeft: [12, 12], paddingBottomRight: [12 + covered, 12] });
  map.setMinZoom(Math.min(map.getZoom() - 1, scene.native_zoom));
  map.setMaxBounds(bounds.pad(0.8));
  if (scene.bounds) L.control.scale({ imperial: false, maxWidth: 140 }).addTo(map);
  addPosition(map, scene);
  if (scene.attribution) addAttribution(map, scene.attribution);
  const sharpen = () => container.classList.toggle("pixelated", map.getZoom() > scene.native_zoom);
  map.on("zoomend", sharpen);
  sharpen();
  return map;
}

/** What a scene covers. @returns {L.LatLngBounds} */
export function sceneBounds(map, scene) {
  return toBounds(map, scene, scene.bounds ?? [[0, 0], [scene.width, scene.height]]);
}

/**
 * The server's corners as Leaflet's bounds.
 * @param {L.Map} map
 * @param {Object} scene
 * @param {number[][]} corners [[south, west], [north, east]], or [[x0, y0], [x1, y1]] in pixels.
 * @returns {L.LatLngBounds}
 */
export function toBounds(map, scene, corners) {
  return L.latLngBounds(scene.bounds ? corners : corners.map((corner) => map.unproject(corner, scene.native_zoom)));
}

/**
 * Leaflet's bounds as the server's corners.
 * @returns {{area: number[][]}|{pixels: number[][]}} pixels are whole, and within the scene.
 */
export function toCorners(map, scene, bounds) {
  if (scene.bounds) {
    return { area: [[bounds.getSouth(), bounds.getWest()], [bounds.getNorth(), bounds.getEast()]] };
  }
  const [low, high] = [bounds.getNorthWest(), bounds.getSouthEast()].map((corner) => toPixel(map, scene, corner));
  const limit = (value, max) => Math.min(Math.max(value, 0), max);
  return {
    pixels: [
      [limit(Math.floor(low.x), scene.width), limit(Math.floor(low.y), scene.height)],
      [limit(Math.ceil(high.x), scene.width), limit(Math.ceil(high.y), scene.height)],
    ],
  };
}

/** A place as the server's query: "lat=..&lng=..", or "x=..&y=.." in pixels. */
export function toQuery(map, scene, place) {
  if (scene.bounds) return `lat=${place.lat}&lng=${place.lng}`;
  const pixel = toPixel(map, scene, place);
  return `x=${Math.floor(pixel.x)}&y=${Math.floor(pixel.y)}`;
}

/** A place as text: degrees, or pixels. */
export function toText(map, scene, place) {
  if (scene.bounds) return `${place.lat.toFixed(5)}, ${place.lng.toFixed(5)}`;
  const pixel = toPixel(map, scene, place);
  return `column ${Math.floor(pixel.x)}, row ${Math.floor(pixel.y)}`;
}

const toPixel = (map, scene, place) => map.project(place, scene.native_zoom);

/** Show the place under the pointer. */
function addPosition(map, scene) {
  const text = addText(map, "position", "bottomleft");
  map.on("mousemove", (event) => (text.textContent = toText(map, scene, event.latlng)));
  map.on("mouseout", () => (text.textContent = ""));
}

function addAttribution(map, attribution) {
  addText(map, "attribution", "bottomright").textContent = attribution;
}

function addText(map, className, position) {
  const control = L.control({ position });
  control.onAdd = () => L.DomUtil.create("div", `map-text ${className}`);
  return control.addTo(map).getContainer();
}
