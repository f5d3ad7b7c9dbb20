// Requests to the program that serves this page.

const ARRAYS = { float32: Float32Array, int32: Int32Array };

async function request(path, parameters, options = {}) {
  const query = new URLSearchParams(parameters);
  let response;
  try {
    response = await fetch(`/api/${path}?${query}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The program that serves this page does not answer; start it again.");
  }
  if (response.ok) return response;
  const type = response.headers.get("Content-Type") ?? "";
  const said = type.startsWith("application/json") ? (await response.json()).error : response.statusText;
  throw new Error(said);
}

// Arrays arrive as objects with their dtype and their bytes in base64.
function revive(key, value) {
  if (value === null || typeof value !== "object" || !(value.dtype in ARRAYS)) return value;
  const bytes = Uint8Array.from(atob(value.data), (letter) => letter.charCodeAt(0));
  return new ARRAYS[value.dtype](bytes.buffer);
}

export async function ask(path, parameters = {}, signal = undefined) {
  const response = await request(path, parameters, { signal });
  return JSON.parse(await response.text(), revive);
}

export async function askBytes(path, parameters) {
  return new Uint8Array(await (await request(path, parameters)).arrayBuffer());
}

export async function askPicture(image) {
  return createImageBitmap(await (await request("picture", { image })).blob());
}

export async function upload(file, largest) {
  if (file.size > largest) {
    throw new Error(`${file.name} has more than ${largest >> 20} MiB; name it on the command line instead.`);
  }
  const response = await request("images", { name: file.name }, { method: "POST", body: file });
  return (await response.json()).image;
}

// A version of `ask` in which only the newest request counts: each call aborts the one before.
export function newest() {
  let control = null;
  return async (path, parameters) => {
    control?.abort();
    control = new AbortController();
    return ask(path, parameters, control.signal);
  };
}
