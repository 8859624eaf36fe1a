// The reference page.
import { api, grouped, load, operations } from "./api.js";
import { el, inline, prose, slug } from "./dom.js";
import { field, tree } from "./fields.js";
import { code, samples } from "./samples.js";
import { resolve } from "./schema.js";

const RETRY_MS = 2000;

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
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView({ behavior: "instant" });
}

async function start() {
  try {
    await load();
  } catch (error) {
    const status = document.getElementById("status");
    status.textContent = `The description cannot be loaded: ${error.message}. Trying again …`;
    setTimeout(start, RETRY_MS);
    return;
  }
  render();
}

start();
