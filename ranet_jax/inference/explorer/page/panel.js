// The panel beside the view: facts about the pixel, its region and its representatives.

import { state } from "./state.js";
import { heat } from "./paint.js";

const element = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;

export const MAPS = [
  { name: "D", title: "D", about: "largest boundary score between the two (Eq. 1)" },
  { name: "E", title: "E", about: "how differently the two are classified (Eq. 2)" },
  { name: "F", title: "F", about: "attention, (1 − D)(1 − E) (Eq. 3)" },
  { name: "linking", title: "Links", about: "mean of Fᵍ in both directions (Eq. 4)" },
  { name: "collected", title: "Gathered", about: "weights of the chosen representative (Eq. 6)" },
];

function make(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

export function swatch(color) {
  const made = make("span", { className: "swatch" });
  made.setAttribute("aria-hidden", "true");
  if (color) made.style.backgroundColor = `rgb(${color})`;
  return made;
}

function cells(...contents) {
  return make("tr", {}, ...contents.map((content) => make("td", {}, ...[content].flat())));
}

export function showClasses(pixel, network) {
  const named = (entry) => (entry
    ? [[swatch(network.classes[entry.class].color), ` ${network.classes[entry.class].name}`], percent(entry.probability)]
    : ["", ""]);
  const count = Math.max(pixel.fine.length, pixel.coarse?.length ?? 0);
  element("likely").tBodies[0].replaceChildren(
    ...Array.from({ length: count }, (_, i) => cells(...named(pixel.fine[i]), ...named(pixel.coarse?.[i]))),
  );
}

export function readout(pixel, network, threshold) {
  const [best] = pixel.fine;
  const words = [`Row ${pixel.row}, column ${pixel.column}: ${network.classes[best.class].name}, ${percent(best.probability)}.`];
  if (pixel.region) {
    words.push(`Boundary ${pixel.boundary.toFixed(2)}, J ${pixel.J.toFixed(3)}.`);
    words.push(`Linked with ${pixel.linked - (pixel.linking[pixel.pixel] > threshold ? 1 : 0)} other pixels.`);
  }
  element("readout").textContent = words.join(" ");
}

// Small maps, each a button that puts the map on the view.
export function showMaps(facts, scene, network, choose) {
  const holder = element("maps");
  if (holder.childElementCount !== MAPS.length) {
    holder.replaceChildren(...MAPS.map(({ name, title, about }) => {
      const button = make("button", { type: "button" }, make("span", {}, make("strong", { textContent: title }), make("small", { textContent: ` ${about}` })), make("canvas"), make("small", { className: "hint" }));
      button.dataset.map = name;
      button.addEventListener("click", () => choose(name));
      return button;
    }));
  }
  for (const button of holder.children) {
    const values = mapValues(facts, button.dataset.map);
    button.hidden = !values;
    button.setAttribute("aria-pressed", String(state.layer === button.dataset.map));
    if (!values) continue;
    const largest = mapLargest(values, button.dataset.map);
    const picture = heat(values, scene.grid, network.colormap, largest);
    const canvas = button.querySelector("canvas");
    Object.assign(canvas, { width: picture.width, height: picture.height });
    canvas.getContext("2d").drawImage(picture, 0, 0);
    const other = facts.pixel.segment.other;
    const at = other === facts.pixel.pixel ? "" : `; second pixel ${values[other].toFixed(3)}`;
    button.querySelector(".hint").textContent = `dark 0, bright ${largest.toPrecision(3)}${at}`;
  }
}

export function mapValues(facts, name) {
  return name === "collected" ? facts.pixel?.representative?.collected : facts.pixel?.[name];
}

// Attention reaches 1. Weights sum to 1, so the largest weight sets the scale.
export function mapLargest(values, name) {
  return name === "collected" ? values.reduce((most, value) => Math.max(most, value), 0) : 1;
}

export function showSegment({ pixel }) {
  const svg = document.querySelector("#segment svg");
  const { positions, scores, largest, other } = pixel.segment;
  const caption = element("segment-caption");
  element("segment").hidden = other === pixel.pixel;
  if (other === pixel.pixel) return;
  const x = (i) => 28 + (280 * i) / Math.max(1, scores.length - 1);
  const y = (score) => 104 - 92 * score;
  const draw = (tag, attributes, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return made;
  };
  const line = scores.map((score, i) => `${x(i).toFixed(1)},${y(score).toFixed(1)}`).join(" ");
  svg.replaceChildren(
    ...[0, 0.5, 1].flatMap((score) => [
      draw("line", { class: "axis", x1: 28, x2: 308, y1: y(score), y2: y(score) }),
      draw("text", { x: 4, y: y(score) + 3 }, score.toFixed(1)),
    ]),
    draw("text", { x: 120, y: 117 }, "sample t along the segment"),
    draw("polyline", { class: "samples", points: line }),
    draw("circle", { class: "largest", cx: x(largest), cy: y(scores[largest]), r: 4 }),
  );
  const [row, column] = positions[largest];
  caption.textContent = `D = ${scores[largest].toFixed(3)}: the largest of ${scores.length} samples of the boundary score between the two pixels is at t = ${largest}, at row ${row}, column ${column}.`;
}

export function showRegion({ pixel, regions }, network) {
  const { root, size, share, slot } = pixel.region;
  const listed = regions.regions.find((region) => region.root === root);
  const words = [`${size} ${size === 1 ? "pixel" : "pixels"} of the feature grid (${percent(share)})`];
  if (listed) {
    words.push(`mostly ${network.classes[listed.class].name} (${percent(listed.purity)})`);
    words.push(`slot ${slot + 1} of ${regions.regions.length}`);
  } else words.push("without a slot: it exchanges no context, and O = J A");
  element("region").replaceChildren(swatch(listed?.color), ` ${words.join("; ")}.`);
}

export function showPlaces({ pixel }, choose) {
  const table = element("places");
  table.hidden = pixel.representatives.length === 0;
  table.tBodies[0].replaceChildren(...pixel.representatives.map((entry) => {
    const input = make("input", { type: "radio", name: "place", checked: entry.place === pixel.representative.place });
    input.setAttribute("aria-label", `Representative ${entry.place + 1}`);
    input.addEventListener("change", () => choose(entry.place));
    return cells(input, `${entry.row}, ${entry.column}`, entry.J.toFixed(3), percent(entry.weight));
  }));
}

export function showHeard({ pixel: { representative }, regions }, network) {
  const table = element("sources");
  table.hidden = !representative || representative.sources.length === 0;
  if (table.hidden) return;
  table.tBodies[0].replaceChildren(...representative.sources.map(({ root, share, representatives }) => {
    const region = regions.regions.find((each) => each.root === root);
    const most = representatives.reduce((best, each) => (each.weight > best.weight ? each : best));
    return cells(
      [swatch(region.color), ` ${network.classes[region.class].name}`], String(region.size),
      percent(share), `${most.row}, ${most.column} (${percent(most.weight)})`,
    );
  }));
}
