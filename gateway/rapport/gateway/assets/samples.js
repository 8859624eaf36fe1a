// Commands and answers to copy.
import { api } from "./api.js";
import { el } from "./dom.js";
import { resolve, sample } from "./schema.js";

const COPIED_MS = 1500;
const base = new URL(".", document.baseURI).href.replace(/\/$/, "");

export function code(text, caption) {
  const button = el("button", { type: "button", class: "copy" }, "Copy");
  const shown = el("pre", {}, el("code", {}, text));
  button.addEventListener("click", async () => {
    button.textContent = (await copy(text, shown)) ? "Copied" : "Selected";
    setTimeout(() => (button.textContent = "Copy"), COPIED_MS);
  });
  return el("figure", { class: "code" }, el("figcaption", {}, caption, button), shown);
}

/** Copies a text. Over plain HTTP there is no clipboard but that of the selection. */
async function copy(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(shown);
    return document.execCommand("copy");
  }
}

function curl(verb, path, body, extra = "") {
  const implied = body === undefined ? "get" : "post";
  const lines = [`curl ${extra}${verb === implied ? "" : `-X ${verb.toUpperCase()} `}${base}${path}`];
  if (api.security?.length) lines.push('-H "Authorization: Bearer $API_KEY"');
  if (body !== undefined) {
    lines.push('-H "Content-Type: application/json"');
    lines.push(`-d '${JSON.stringify(body, null, 2).replaceAll("'", "'\\''")}'`);
  }
  return lines.join(" \\\n  ");
}

function requestPath(path, operation) {
  const query = operation.parameters
    .map((parameter) => resolve(api, parameter))
    .filter((parameter) => parameter.in === "query" && parameter.required)
    .map((parameter) => `${parameter.name}=${encodeURIComponent(sample(api, parameter.schema))}`);
  const filled = path.replace(/\{([^}]+)\}/g, (_, name) => name.toUpperCase());
  return query.length ? `'${filled}?${query.join("&")}'` : filled;
}

export function samples(verb, path, operation) {
  const content = operation.requestBody?.content["application/json"];
  const body = content && (content.example ?? sample(api, content.schema));
  const answers = operation.responses["200"].content ?? {};
  const json = answers["application/json"];
  const events = answers["text/event-stream"];
  const flag = operation["x-stream-flag"];
  const where = requestPath(path, operation);
  const shown = (media) => media.example ?? sample(api, media.schema, { all: true });
  const event = events && `data: ${JSON.stringify(shown(events))}\n\n…\n\ndata: [DONE]`;
  const made = [];
  if (json) made.push(code(curl(verb, where, body), "Request"), code(JSON.stringify(shown(json), null, 2), "Answer"));
  if (json && events && body) made.push(code(curl(verb, where, { ...body, [flag]: true }, "-N "), "Request for a stream"));
  if (!json && events) made.push(code(curl(verb, where, body, "-N "), "Request"));
  if (events) made.push(code(event, "Stream"));
  return el("div", { class: "samples" }, made);
}
