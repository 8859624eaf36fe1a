// Makes the reference page from openapi.json.
import { alternatives, componentOf, label, limits, members, resolve, sample, splitNull } from "./schema.js";

const RETRY_MS = 2000;
const VERBS = ["get", "post", "put", "patch", "delete"];
const base = new URL(".", document.baseURI).href.replace(/\/$/, "");
let api;

/** An element; children are nodes or texts, and those that are missing are left out. */
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child || child === 0));
  return made;
}

/** A description: paragraphs, and code between backticks. */
function prose(text) {
  return (text ?? "")
    .split(/\n\s*\n/)
    .filter((paragraph) => paragraph.trim())
    .map((paragraph) => el("p", {}, inline(paragraph)));
}

function inline(text) {
  return text.split(/`([^`]+)`/).map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

function slug(...parts) {
  return parts.join("-").toLowerCase().replace(/[^a-z0-9]+/g, "-");
}

// --- schemas ---------------------------------------------------------------

/** The members of an object, or the choices of a union; nothing for plain values. */
function tree(given, side, within = []) {
  const { schema } = splitNull(given);
  const name = componentOf(schema);
  if (name && within.includes(name)) return el("p", { class: "note" }, `${name}, as above.`);
  const path = name ? [...within, name] : within;
  const full = resolve(api, schema);
  if (full.type === "array") return tree(full.items, side, path);
  if (typeof full.additionalProperties === "object") return tree(full.additionalProperties, side, path);
  if (full.enum) return values(full);
  const options = alternatives(full);
  if (options.length) return choices(options, side, path);
  return full.properties ? fields(full, side, path) : null;
}

function fields(schema, side, within) {
  const { shown, dropped } = members(schema);
  if (!shown.length && !dropped.length) return el("p", { class: "note" }, "No members.");
  const rows = shown.map((member) => field(member, side, within));
  const note = dropped.length && el("p", { class: "note" }, ignored(dropped));
  return el("div", { class: "fields" }, rows, note);
}

function ignored(dropped) {
  const groups = Object.groupBy(dropped, ({ text }) => text);
  return Object.entries(groups).flatMap(([text, list]) => [
    `${text.replace(/\.$/, "")}: `,
    ...list.flatMap(({ name }, index) => [index ? ", " : "", el("code", {}, name)]),
    ". ",
  ]);
}

function field({ name, schema, required }, side, within) {
  const { nullable } = splitNull(schema);
  const full = resolve(api, splitNull(schema).schema);
  const marks = [
    side === "request" && required && el("span", { class: "mark strong" }, "required"),
    side === "response" && nullable && el("span", { class: "mark" }, "or null"),
    side === "response" && !required && el("span", { class: "mark" }, "optional"),
    full.deprecated && el("span", { class: "mark" }, "deprecated"),
  ];
  const range = limits(api, schema);
  const head = el(
    "div",
    { class: "head" },
    el("code", { class: "name" }, name),
    el("span", { class: "type" }, label(api, schema)),
    range && el("span", { class: "range" }, range),
    marks,
  );
  const about = schema.description ?? full.description;
  const inner = tree(schema, side, within);
  const more = inner && nested(inner, schema);
  return el("div", { class: "field" }, head, prose(about), more);
}

function nested(inner, schema) {
  if (!inner.matches?.(".fields, .choices, .values")) return inner;
  const count = inner.querySelectorAll(":scope > .field, :scope > .choice, :scope > .value").length;
  const what = inner.matches(".values") ? "values" : inner.matches(".choices") ? "forms" : "members";
  const name = componentOf(splitNull(schema).schema) ?? componentOf(resolve(api, splitNull(schema).schema).items);
  if (inner.matches(".values") && count <= 5) return inner;
  return el(
    "details",
    {},
    el("summary", {}, name ? el("span", { class: "component" }, name) : "", ` ${count} ${count === 1 ? what.replace(/s$/, "") : what}`),
    inner,
  );
}

function values(schema) {
  const texts = schema["x-enum-descriptions"] ?? [];
  return el(
    "div",
    { class: "values" },
    schema.enum.map((value, index) =>
      el("div", { class: "value" }, el("code", {}, JSON.stringify(value)), texts[index] && el("span", {}, inline(texts[index]))),
    ),
  );
}

function choices(options, side, within) {
  const made = options.map((option) => {
    const full = resolve(api, option);
    const title = full.title ? el("code", { class: "name" }, full.title) : el("span", { class: "type" }, label(api, option));
    const tag = Object.values(full.properties ?? {}).find((one) => "const" in one);
    const about = option.description ?? full.description ?? tag?.description;
    const inner = tree(option, side, within);
    return el("div", { class: "choice" }, el("div", { class: "head" }, title), prose(about), inner && nested(inner, option));
  });
  const simple = made.every((one) => !one.querySelector(".field, details, .value"));
  return simple && made.every((one) => !one.querySelector("p")) ? null : el("div", { class: "choices" }, made);
}

// --- code ------------------------------------------------------------------

function code(text, caption) {
  const button = el("button", { type: "button", class: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard?.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return el("figure", { class: "code" }, el("figcaption", {}, caption, button), el("pre", {}, el("code", {}, text)));
}

function curl(verb, path, body, extra = "") {
  const lines = [`curl ${extra}${verb === "get" ? "" : `-X ${verb.toUpperCase()} `}${base}${path}`];
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

function samples(verb, path, operation) {
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

// --- operations ------------------------------------------------------------

function operations() {
  return Object.entries(api.paths).flatMap(([path, item]) =>
    VERBS.filter((verb) => item[verb]).map((verb) => ({ path, verb, operation: item[verb] })),
  );
}

/** Operations that are one RPC are shown as one, with the other paths. */
function grouped() {
  const groups = Map.groupBy(operations(), ({ verb, operation }) => `${verb} ${operation["x-grpc-method"]}`);
  return [...groups.values()].map(([first, ...others]) => ({ ...first, others }));
}

function route(verb, path) {
  const parts = path.split(/(\{[^}]+\})/).map((part) => (part.startsWith("{") ? el("em", {}, part) : part));
  return el("code", { class: "route" }, el("b", { class: `verb ${verb}` }, verb.toUpperCase()), " ", parts);
}

function section(title, ...children) {
  const inside = children.flat().filter(Boolean);
  return inside.length ? [el("h3", {}, title), ...inside] : [];
}

function show({ verb, path, operation, others }) {
  const id = slug(operation.operationId);
  const parameters = operation.parameters.filter((parameter) => !parameter.$ref);
  const body = operation.requestBody?.content["application/json"];
  const text = el(
    "div",
    { class: "text" },
    el("h2", {}, el("a", { href: `#${id}` }, operation.summary)),
    el("p", { class: "routes" }, [{ verb, path }, ...others].map((one) => route(one.verb, one.path))),
    operation.deprecated && el("p", { class: "note" }, "Deprecated."),
    prose(operation.description),
    operation["x-grpc-method"] && el("p", { class: "note" }, "gRPC: ", el("code", {}, operation["x-grpc-method"])),
    parameterList("In the path", parameters, "path"),
    parameterList("In the query", parameters, "query"),
    body && section("Body", tree(body.schema, "request")),
    answers(operation),
    errorLinks(operation),
  );
  return el("section", { id, class: "operation" }, text, samples(verb, path, operation));
}

function parameterList(title, parameters, place) {
  const chosen = parameters.filter((parameter) => parameter.in === place);
  const rows = chosen.map(({ name, schema, description, required }) =>
    field({ name, schema: description ? { ...schema, description } : schema, required: required && place !== "path" }, "request", []),
  );
  return section(title, rows.length ? el("div", { class: "fields" }, rows) : null);
}

function answers(operation) {
  const { description, content = {} } = operation.responses["200"];
  const [, ...notes] = description.split("\n\n");
  const json = content["application/json"];
  const events = content["text/event-stream"];
  return [
    ...(json ? section("Answer", tree(json.schema, "response")) : []),
    ...(events ? section("Stream", prose(notes.join("\n\n")), tree(events.schema, "response")) : []),
  ];
}

function errorLinks(operation) {
  const statuses = Object.keys(operation.responses).filter((status) => status !== "200");
  const links = statuses.map((status) => el("a", { href: `#error-${status}`, class: "status" }, status));
  return section("Errors", el("p", { class: "statuses" }, links));
}

// --- what all operations share ---------------------------------------------

function basics() {
  const headers = Object.values(api.components.parameters ?? {});
  const optional = api.security?.some((one) => !Object.keys(one).length);
  const rows = headers.map(({ name, schema, description }) =>
    field({ name, schema: { ...schema, description }, required: false }, "request", []),
  );
  return el(
    "section",
    { id: "basics" },
    el(
      "div",
      { class: "text" },
      el("h2", {}, el("a", { href: "#basics" }, "Basics")),
      prose(
        "Requests and answers are JSON in UTF-8. Members that are not marked as required may be left out, or be null.",
      ),
      section(
        "Authentication",
        el("p", {}, optional ? "If this server asks for API keys, send one as " : "Send an API key as ", el("code", {}, "Authorization: Bearer …"), "."),
      ),
      section("Headers", el("div", { class: "fields" }, rows)),
    ),
  );
}

function errors() {
  const schema = api.components.schemas.Error;
  const statuses = new Map(
    operations().flatMap(({ operation }) => Object.entries(operation.responses)).filter(([status]) => status !== "200"),
  );
  const rows = [...statuses].sort().map(([status, reference]) => {
    const { description, headers = {} } = resolve(api, reference);
    const [text, causes] = description.split(/ gRPC: /);
    const beside = Object.keys(headers).filter((name) => name !== "x-request-id");
    return el(
      "div",
      { class: "field", id: `error-${status}` },
      el("div", { class: "head" }, el("code", { class: "name" }, status), beside.map((name) => el("code", { class: "mark" }, name))),
      el("p", {}, inline(text)),
      causes && el("p", { class: "note" }, `gRPC: ${causes}`),
    );
  });
  const [example] = [...statuses].map(([, reference]) => resolve(api, reference).content["application/json"].example);
  return el(
    "section",
    { id: "errors", class: "operation" },
    el("div", { class: "text" }, el("h2", {}, el("a", { href: "#errors" }, "Errors")), prose(schema.description), tree(schema.properties.error, "response"), section("By status", el("div", { class: "fields" }, rows))),
    el("div", { class: "samples" }, code(JSON.stringify(example, null, 2), "Error")),
  );
}

// --- the page --------------------------------------------------------------

function contents(groups) {
  const link = (href, ...text) => el("li", {}, el("a", { href }, ...text));
  const tags = (api.tags ?? []).map(({ name }) => {
    const inside = groups.filter(({ operation }) => operation.tags?.includes(name));
    return [
      el("h2", {}, name.replace(/Service$/, "")),
      el("ul", {}, inside.map(({ verb, operation }) => link(`#${slug(operation.operationId)}`, operation.summary, " ", el("b", { class: `verb ${verb}` }, verb.toUpperCase())))),
    ];
  });
  return [
    el("p", { class: "title" }, el("a", { href: "#top" }, api.info.title), " ", el("span", { class: "version" }, api.info.version)),
    el("ul", {}, link("#basics", "Basics")),
    tags,
    el("h2", {}, "More"),
    el("ul", {}, link("#errors", "Errors"), link("openapi.json", "openapi.json")),
  ].flat(2);
}

function render() {
  const groups = grouped();
  document.title = `${api.info.title} API reference`;
  const about = (api.tags ?? []).flatMap(({ name, description }) => {
    const inside = groups.filter(({ operation }) => operation.tags?.includes(name));
    return [el("header", { class: "tag" }, el("h1", {}, name.replace(/Service$/, "")), prose(description)), ...inside.map(show)];
  });
  document.getElementById("nav").replaceChildren(...contents(groups));
  const main = document.getElementById("main");
  main.replaceChildren(el("h1", { id: "top" }, `${api.info.title} API`), basics(), ...about, errors());
  main.setAttribute("aria-busy", "false");
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

async function load() {
  const status = document.getElementById("status");
  try {
    const reply = await fetch("openapi.json");
    const body = await reply.json();
    if (!reply.ok) throw new Error(body.error?.message ?? reply.statusText);
    api = body;
  } catch (error) {
    status.textContent = `The description cannot be loaded: ${error.message}. Trying again …`;
    setTimeout(load, RETRY_MS);
    return;
  }
  render();
}

load();
