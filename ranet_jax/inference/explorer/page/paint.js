// The view: a layer over the photograph, and marks over both.

import { state } from "./state.js";

const CLEAR = [0, 0, 0, 0];
const MARK = "#ffffff", RIM = "#101010", REPRESENTATIVE = "#3cff3c", SECOND = "#ffd23c", LARGEST = "#ff3b30";

// A canvas of `width` x `height` pixels, each coloured by `color(index)` -> [r, g, b, alpha].
export function coloured(width, height, color) {
  const canvas = new OffscreenCanvas(width, height);
  const data = new ImageData(width, height);
  for (let i = 0, at = 0; i < width * height; i++, at += 4) {
    const [r, g, b, alpha = 255] = color(i);
    data.data[at] = r; data.data[at + 1] = g; data.data[at + 2] = b; data.data[at + 3] = alpha;
  }
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

export function heat(values, [height, width], colormap, largest = 1) {
  const scale = largest > 0 ? 255 / largest : 0;
  return coloured(width, height, (i) => colormap[Math.round(Math.min(255, Math.max(0, values[i] * scale)))]);
}

export function labelLayer(labels, [height, width], classes, hidden) {
  const colors = classes.map(({ color }, index) => (hidden.includes(index) ? CLEAR : color));
  return coloured(width, height, (i) => colors[labels[i]] ?? CLEAR);
}

export function errorLayer(fine, truth, [height, width], numClasses) {
  const wrong = [230, 30, 30], right = [255, 255, 255, 70];
  return coloured(width, height, (i) => (truth[i] >= numClasses ? CLEAR : fine[i] === truth[i] ? right : wrong));
}

export function greyLayer(values, [height, width]) {
  return coloured(width, height, (i) => [values[i], values[i], values[i]]);
}

export function regionLayer(regions, [height, width]) {
  const colors = new Map(regions.regions.map(({ root, color }) => [root, color ?? CLEAR]));
  return coloured(width, height, (i) => colors.get(regions.labels[i]) ?? CLEAR);
}

// Distance of two feature pixels on an axis of the view, and the place of the first.
function axisOf(count, size, alignCorners) {
  if (alignCorners && count > 1) return { step: (size - 1) / (count - 1), first: 0.5 };
  return { step: size / count, first: size / count / 2 };
}

// How feature pixels lie on the view: the corners of the grid are those of the view, or else its outer
// edges are.
export class Grid {
  constructor([height, width], [viewHeight, viewWidth], alignCorners) {
    this.height = height; this.width = width;
    this.rows = axisOf(height, viewHeight, alignCorners);
    this.columns = axisOf(width, viewWidth, alignCorners);
  }

  position(row, column) {
    const { rows, columns } = this;
    return { y: rows.first + row * rows.step, x: columns.first + column * columns.step };
  }

  pixelAt(y, x) {
    const closest = (at, { step, first }, count) => Math.min(count - 1, Math.max(0, Math.round((at - first) / step)));
    return closest(y, this.rows, this.height) * this.width + closest(x, this.columns, this.width);
  }

  // Draws a picture of the whole grid in its place, with each feature pixel around its position.
  draw(context, picture) {
    const { y, x } = this.position(-0.5, -0.5);
    context.drawImage(picture, x, y, this.width * this.columns.step, this.height * this.rows.step);
  }
}

// Longest side of the picture that is painted; smaller images are enlarged, so that marks are fine.
const PAINTED = 1200;

export function zoomOf({ view }) {
  return Math.max(1, Math.round(PAINTED / Math.max(...view)));
}

// `overlay()` returns the layer that lies over the photograph, or null. If that layer shows values of
// the chosen pixel, `values` are these.
export function paintView(canvas, scene, facts, values, overlay) {
  const [height, width] = scene.view;
  const zoom = zoomOf(scene);
  if (canvas.width !== zoom * width || canvas.height !== zoom * height) {
    Object.assign(canvas, { width: zoom * width, height: zoom * height });
  }
  // The size of a pixel of the screen, in pixels of the image.
  const unit = Math.max(width / (canvas.clientWidth || width), height / (canvas.clientHeight || height));
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.drawImage(backdrop(scene, facts.regions, values, overlay, zoom, unit), 0, 0);
  context.setTransform(zoom, 0, 0, zoom, 0, 0);
  if (state.marks && facts.pixel) drawMarks(context, scene.gridOnView, facts.pixel, unit);
}

let kept = { of: [], canvas: null };

// The picture under the marks, painted again only if something in it has changed.
function backdrop(scene, regions, values, overlay, zoom, unit) {
  const { layer, hidden, opacity, contours } = state;
  const of = [scene, regions, values, layer, String(hidden), opacity, contours, unit];
  if (kept.canvas !== null && of.every((each, i) => each === kept.of[i])) return kept.canvas;
  const [height, width] = scene.view;
  const canvas = new OffscreenCanvas(zoom * width, zoom * height);
  const context = canvas.getContext("2d");
  context.setTransform(zoom, 0, 0, zoom, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(scene.picture, 0, 0);
  const over = overlay();
  if (over !== null) {
    context.globalAlpha = opacity;
    if (over.onGrid) scene.gridOnView.draw(context, over.picture);
    else context.drawImage(over.picture, 0, 0);
    context.globalAlpha = 1;
  }
  if (contours && regions) drawContours(context, scene.gridOnView, regions, unit);
  kept = { of, canvas };
  return canvas;
}

// Draws contours around regions that are large enough to be shown as regions.
function drawContours(context, grid, { labels, least_size: leastSize }, unit) {
  const sizes = new Int32Array(labels.length);
  for (const root of labels) sizes[root] += 1;
  const path = new Path2D();
  const part = (i, j, from, to) => {
    if (labels[i] === labels[j] || Math.max(sizes[labels[i]], sizes[labels[j]]) < leastSize) return;
    path.moveTo(from.x, from.y); path.lineTo(to.x, to.y);
  };
  for (let row = 0; row < grid.height; row++) {
    for (let column = 0; column < grid.width; column++) {
      const i = row * grid.width + column;
      const corner = grid.position(row + 0.5, column + 0.5);
      if (column + 1 < grid.width) part(i, i + 1, grid.position(row - 0.5, column + 0.5), corner);
      if (row + 1 < grid.height) part(i, i + grid.width, grid.position(row + 0.5, column - 0.5), corner);
    }
  }
  context.strokeStyle = RIM; context.lineWidth = 3 * unit; context.stroke(path);
  context.strokeStyle = MARK; context.lineWidth = 1.4 * unit; context.stroke(path);
}

function drawMarks(context, grid, pixel, unit) {
  const cell = Math.min(grid.rows.step, grid.columns.step);
  const size = Math.min(24 * unit, Math.max(9 * unit, cell)); // radius of the largest mark
  const pen = { context, unit };
  for (const region of pixel.representative?.sources ?? []) {
    for (const place of region.representatives) {
      dot(pen, grid.position(place.row, place.column), size * 0.5 * Math.sqrt(place.weight * region.share), MARK);
    }
  }
  for (const place of pixel.representatives ?? []) {
    const at = grid.position(place.row, place.column);
    dot(pen, at, size * (0.15 + 0.45 * Math.sqrt(place.weight)), REPRESENTATIVE);
    if (place.place === pixel.representative.place) ring(pen, at, size * 0.75, REPRESENTATIVE);
  }
  if (pixel.segment && pixel.segment.other !== pixel.pixel) drawSegment(pen, grid, pixel.segment, size);
  cross(pen, grid.position(pixel.row, pixel.column), size);
}

function drawSegment(pen, grid, segment, size) {
  const ends = [segment.positions[0], segment.positions.at(-1)].map(([row, column]) => grid.position(row, column));
  stroke(pen, SECOND, (path) => { path.moveTo(ends[0].x, ends[0].y); path.lineTo(ends[1].x, ends[1].y); });
  ring(pen, grid.position(Math.floor(segment.other / grid.width), segment.other % grid.width), size * 0.6, SECOND);
  dot(pen, grid.position(...segment.positions[segment.largest]), size * 0.35, LARGEST);
}

function dot({ context, unit }, { x, y }, radius, color) {
  if (radius < unit) return;
  context.beginPath(); context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = color; context.fill();
  context.strokeStyle = RIM; context.lineWidth = unit; context.stroke();
}

function ring(pen, { x, y }, radius, color) {
  stroke(pen, color, (path) => path.arc(x, y, radius, 0, 2 * Math.PI));
}

function cross(pen, { x, y }, size) {
  stroke(pen, MARK, (path) => {
    path.moveTo(x - size, y); path.lineTo(x + size, y);
    path.moveTo(x, y - size); path.lineTo(x, y + size);
  });
}

// Draws a line with a dark rim, which is visible on any photograph.
function stroke({ context, unit }, color, draw) {
  const path = new Path2D();
  draw(path);
  for (const [shade, width] of [[RIM, 5], [color, 2.5]]) {
    context.strokeStyle = shade; context.lineWidth = width * unit; context.stroke(path);
  }
}
