// The HTTP routes that the page speaks; nothing else of it knows addresses.

let key = sessionStorage.getItem("key") || "";

export function useKey(given) {
  key = given.trim();
  sessionStorage.setItem("key", key);
}

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function asked(path, { method = "GET", body, signal } = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const file = body instanceof Blob;
  if (body !== undefined && !file) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      signal,
      body: body === undefined || file ? body : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server cannot be reached. Is it still running?");
  }
  if (answer.ok) return answer;
  let told = `The server answered ${answer.status}.`;
  try {
    told = (await answer.json()).error.message;
  } catch {}
  const wait = answer.headers.get("retry-after");
  throw new Refused(answer.status, wait ? `${told} (in about ${wait} s)` : told);
}

const json = async (...given) => (await asked(...given)).json();
const named = (id) => `/v1/conversations/${encodeURIComponent(id)}`;

export const models = async () => (await json("/v1/models")).data;
export const talks = async () => (await json("/v1/conversations")).data;
export const pulls = async (photo) => (await json(`/v1/photos/${encodeURIComponent(photo)}/words`)).words;
export const elsewhere = async () => (await json("/v1/conversations?elsewhere=true")).data;
export const talk = (id) => json(named(id));
export const rename = (id, title) => json(named(id), { method: "PATCH", body: { title } });
export const remove = (id) => json(named(id), { method: "DELETE" });
export const vote = (conversation, photo, vote) =>
  json("/v1/feedback", { method: "POST", body: { conversation, photo, vote } });
export const settings = () => json("/v1/settings");
export const set = (body) => json("/v1/settings", { method: "PUT", body });
export const album = (query) =>
  json("/v1/album" + (query ? `?query=${encodeURIComponent(query)}` : ""));
export const addPhoto = (file) =>
  json(`/v1/album?name=${encodeURIComponent(file.name.slice(0, 200))}`, { method: "POST", body: file });
export const removePhoto = (id) => json(`/v1/album/${encodeURIComponent(id)}`, { method: "DELETE" });
export const paint = (prompt, { model, seed, conversation }) =>
  json("/v1/images/generations", {
    method: "POST",
    body: { prompt, model, seed, response_format: "url", showtell: { conversation } },
  });

// A file of the server's as an address that <img> can show, also where a key is wanted.
const shown = new Map();
export async function source(path) {
  if (!key || path.startsWith("data:")) return path;
  if (!shown.has(path)) {
    const file = await asked(path);
    shown.set(path, URL.createObjectURL(await file.blob()));
  }
  return shown.get(path);
}

export async function download(path, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await (await asked(path)).blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export const exported = (id, form) =>
  download(`${named(id)}/export?form=${form}`, `showtell.${form === "html" ? "html" : "zip"}`);

// What is kept of a talk; where an answer has been left, once what came of it is kept as well.
export async function settled(id) {
  for (let tries = 0; ; tries++) {
    const found = await talk(id);
    if (!found.pending || tries === 8) return found;
    await new Promise((done) => setTimeout(done, 250));
  }
}

// An answer as it comes: tell({event, ...}), "begin" first; ends when the stream ends.
export async function say({ text, photos, conversation, model, signal }, tell) {
  const content = [
    ...(text ? [{ type: "text", text }] : []),
    ...photos.map((url) => ({ type: "image_url", image_url: { url } })),
  ];
  const answer = await asked("/v1/chat/completions", {
    method: "POST",
    signal,
    body: {
      model,
      stream: true,
      messages: [{ role: "user", content }],
      showtell: { conversation: conversation ?? "new", previews: true },
    },
  });
  tell({ event: "begin", conversation: answer.headers.get("showtell-conversation") });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Refused(0, "The answer broke off. What came is kept.");
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      if (line === "data: [DONE]") return;
      const chunk = JSON.parse(line.slice(6));
      if (chunk.error) throw new Refused(500, chunk.error.message);
      const words = chunk.choices?.[0]?.delta?.content;
      if (words) tell({ event: "words", words });
      if (chunk.showtell) tell(chunk.showtell);
    }
  }
}
