// What is shown, kept in the address so that a link restores it.

const NUMBERS = ["opacity", "pixel", "other", "threshold", "regions", "representatives", "place"];

export const state = {
  image: null, layer: "regions", opacity: 0.6, hidden: [], contours: true, marks: true,
  pixel: null, other: null, threshold: null, regions: null, representatives: null, place: null,
};

export function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [name, text] of given) {
    if (!(name in state)) continue;
    if (NUMBERS.includes(name)) {
      if (text !== "" && Number.isFinite(Number(text))) state[name] = Number(text);
    } else if (name === "hidden") state.hidden = text.split(",").filter(Boolean).map(Number);
    else if (name === "contours" || name === "marks") state[name] = text === "true";
    else state[name] = text;
  }
}

export function writeAddress() {
  const kept = Object.entries(state).filter(([, value]) => value !== null && String(value) !== "");
  history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
}

export function regionParameters() {
  const { image, threshold, regions, representatives } = state;
  return { image, threshold, regions, representatives };
}
