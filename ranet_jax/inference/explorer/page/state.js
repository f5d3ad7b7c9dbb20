// What is shown, kept in the address so that a link restores it.

const NUMBERS = ["opacity", "pixel", "other", "threshold", "regions", "representatives", "place"];

export const state = {
  image: null, layer: "regions", opacity: 0.6, hidden: [], contours: true, marks: true,
  pixel: null, other: null, threshold: null, regions: null, representatives: null, place: null,
};

// Values that make no sense are ignored; `largest` has the largest values of the settings.
export function readAddress(largest) {
  const given = new URLSearchParams(location.hash.slice(1));
  const limits = { opacity: 1, threshold: 1, regions: largest.regions, representatives: largest.representatives };
  for (const [name, text] of given) {
    if (!(name in state)) continue;
    if (NUMBERS.includes(name)) {
      const number = text === "" ? NaN : Number(text);
      const isWhole = name === "opacity" || name === "threshold" || Number.isInteger(number);
      const least = name === "regions" || name === "representatives" ? 1 : 0;
      if (isWhole && number >= least && number <= (limits[name] ?? Infinity)) state[name] = number;
    } else if (name === "hidden") {
      state.hidden = text.split(",").filter((each) => /^\d+$/.test(each)).map(Number);
    } else if (name === "contours" || name === "marks") state[name] = text === "true";
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
