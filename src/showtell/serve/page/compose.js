// Where one writes: text, photos by picking, dropping or pasting; send and stop. A draft is kept.

import { html, useEffect, useRef, useState } from "./vendor/preact-htm.js";

const MOST = 4;
const LARGEST = 1600; // pixels of a side; what is larger is sent smaller

async function asDataUri(file) {
  try {
    const image = await createImageBitmap(file);
    const scale = Math.min(1, LARGEST / Math.max(image.width, image.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(image.width * scale);
    canvas.height = Math.round(image.height * scale);
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/jpeg", 0.92); // pixels alone: no place, no camera
  } catch {
    if (!/^image\//.test(file.type) && !/\.(hei[cf]|avif|tiff?)$/i.test(file.name)) return null;
    return new Promise((done, failed) => {
      const reader = new FileReader(); // of a kind that this browser cannot show (HEIC)
      reader.onload = () => done(reader.result);
      reader.onerror = failed;
      reader.readAsDataURL(file);
    });
  }
}

export function Compose({ busy, draft, onSend, onStop, onProblem }) {
  const [text, setText] = useState(localStorage.getItem("draft") || "");
  const [photos, setPhotos] = useState([]);
  const [over, setOver] = useState(false);
  const field = useRef();
  const picker = useRef();
  useEffect(() => localStorage.setItem("draft", text), [text]);
  useEffect(() => {
    if (draft) {
      setText(draft.text);
      setPhotos(draft.photos || []);
      field.current?.focus();
    }
  }, [draft]);
  useEffect(() => {
    const box = field.current;
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight, 200)}px`;
  }, [text]);
  useEffect(() => {
    const drag = (event) => {
      if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
      event.preventDefault();
      setOver(event.type === "dragover");
      if (event.type === "drop") add(event.dataTransfer.files);
    };
    const kinds = ["dragover", "dragleave", "drop"];
    kinds.forEach((kind) => window.addEventListener(kind, drag));
    return () => kinds.forEach((kind) => window.removeEventListener(kind, drag));
  });
  async function add(files) {
    const some = [...files].filter((file) => !file.type || file.type.startsWith("image/"));
    if (some.length < files.length) onProblem("Only photos can be added.");
    if (photos.length + some.length > MOST) onProblem(`At most ${MOST} photos go with one message.`);
    const read = await Promise.all(some.slice(0, MOST - photos.length).map(asDataUri));
    if (read.includes(null)) onProblem("Only photos can be added.");
    setPhotos((before) => [...before, ...read.filter(Boolean)]);
    field.current?.focus();
  }
  function send(event) {
    event?.preventDefault();
    if (busy || (!text.trim() && !photos.length)) return;
    onSend({ text: text.trim(), photos });
    setText("");
    setPhotos([]);
  }
  function keyed(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
    if (event.key === "Escape" && busy) onStop();
  }
  return html`<form class="compose ${over ? "over" : ""}" onSubmit=${send}>
    ${photos.length > 0 &&
    html`<ul class="brought" aria-label="Photos to send">
      ${photos.map(
        (url, k) => html`<li key=${url.slice(-40) + k}>
          <img src=${url} alt=${`photo ${k + 1} to send`} />
          <button type="button" aria-label=${`Leave out photo ${k + 1}`}
            onClick=${() => setPhotos(photos.filter((_, other) => other !== k))}>×</button>
        </li>`,
      )}
    </ul>`}
    <div class="line">
      <button type="button" class="round" aria-label="Add photos" title="Add photos"
        onClick=${() => picker.current.click()}>+</button>
      <input ref=${picker} type="file" accept="image/*,.heic,.heif" multiple hidden
        onChange=${(event) => {
          add(event.target.files);
          event.target.value = "";
        }} />
      <textarea ref=${field} rows="1" value=${text} maxlength="20000" aria-label="Your message"
        placeholder="Say something, or drop a photo" onKeyDown=${keyed}
        onInput=${(event) => setText(event.target.value)}
        onPaste=${(event) => event.clipboardData.files.length && add(event.clipboardData.files)} />
      ${busy
        ? html`<button type="button" class="round main" aria-label="Stop" title="Stop (Esc)" onClick=${onStop}>■</button>`
        : html`<button class="round main" aria-label="Send" title="Send (Enter)"
            disabled=${!text.trim() && !photos.length}>↑</button>`}
    </div>
  </form>`;
}
