// Schemas as lists of members.
import { api } from "./api.js";
import { el, group, inline, prose } from "./dom.js";
import { alternatives, componentOf, label, limits, members, resolve, splitNull } from "./schema.js";

/** The members of an object, or the choices of a union; nothing for plain values. */
export function tree(given, side, within = []) {
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
  const groups = group(dropped, ({ text }) => text);
  return [...groups].flatMap(([text, list]) => [
    `${text.replace(/\.$/, "")}: `,
    ...list.flatMap(({ name }, index) => [index ? ", " : "", el("code", {}, name)]),
    ". ",
  ]);
}

export function field({ name, schema, required }, side, within) {
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
    // A choice by its tag is a few members; they stand open.
    const more = inner && (full.title ? inner : nested(inner, option));
    return el("div", { class: "choice" }, el("div", { class: "head" }, title), prose(about), more);
  });
  const simple = made.every((one) => !one.querySelector(".field, details, .value"));
  return simple && made.every((one) => !one.querySelector("p")) ? null : el("div", { class: "choices" }, made);
}
