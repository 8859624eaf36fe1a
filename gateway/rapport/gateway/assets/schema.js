// What the page needs to know of JSON Schemas. It touches no document.

/** Follows a reference; what stands beside it, such as a description, wins. */
export function resolve(api, node) {
  if (!node?.$ref) return node ?? {};
  const target = node.$ref
    .slice(2)
    .split("/")
    .reduce((at, step) => at[step.replaceAll("~1", "/").replaceAll("~0", "~")], api);
  const { $ref, ...beside } = node;
  return { ...resolve(api, target), ...beside };
}

/** The name of the component that a schema refers to, if it does. */
export function componentOf(schema) {
  return schema?.$ref?.split("/").pop();
}

/** The schema without null, and whether null was in it. */
export function splitNull(schema) {
  if (Array.isArray(schema.type) && schema.type.includes("null")) {
    const kinds = schema.type.filter((kind) => kind !== "null");
    return { nullable: true, schema: { ...schema, type: kinds.length > 1 ? kinds : kinds[0] } };
  }
  const alternatives = schema.anyOf ?? [];
  const kept = alternatives.filter((one) => one.type !== "null");
  if (kept.length === alternatives.length) return { nullable: false, schema };
  const { anyOf, ...rest } = schema;
  return { nullable: true, schema: kept.length > 1 ? { ...rest, anyOf: kept } : { ...kept[0], ...rest } };
}

/** The alternatives of a union, none for other schemas. */
export function alternatives(schema) {
  return schema.oneOf ?? schema.anyOf ?? [];
}

/** Members worth showing, and those that are only taken and dropped. */
export function members(schema) {
  const shown = [];
  const dropped = [];
  for (const [name, of] of Object.entries(schema.properties ?? {})) {
    const isDropped = of.type === "null" || Object.keys(of).join() === "description";
    if (!isDropped) shown.push({ name, schema: of, required: schema.required?.includes(name) ?? false });
    else if (of.description) dropped.push({ name, text: of.description });
  }
  return { shown, dropped };
}

/** A schema's type in a few words. */
export function label(api, given) {
  const { schema } = splitNull(given);
  const full = resolve(api, schema);
  if ("const" in full) return JSON.stringify(full.const);
  if (full.type === "array") return `array of ${plural(label(api, full.items))}`;
  if (full.enum) return "enum";
  if (full.additionalProperties?.type || full.additionalProperties?.$ref) {
    return `map to ${label(api, full.additionalProperties)}`;
  }
  const options = alternatives(full);
  if (options.length) {
    if (options.every((one) => one.title)) return "object by type";
    return [...new Set(options.map((one) => label(api, one)))].join(" or ");
  }
  if (!full.type) return "any JSON";
  if (Array.isArray(full.type)) return full.type.length > 4 ? "any JSON" : full.type.join(" or ");
  return full.contentEncoding ? `${full.contentEncoding} string` : full.type;
}

/** `objects by type`; of several kinds only what is said first can be more. */
function plural(text) {
  return text === "any JSON" || text.includes(" or ") ? text : text.replace(/^[a-z]+/, "$&s");
}

const FORMAT_RANGES = {
  int32: [-2147483648, 2147483647],
  int64: [-9223372036854775808, 9223372036854775807],
  uint32: [0, 4294967295],
  uint64: [0, 18446744073709551615],
};

/** Formats and limits that the type does not say. */
export function limits(api, given) {
  const schema = resolve(api, splitNull(given).schema);
  const notes = [];
  const whole = FORMAT_RANGES[schema.format];
  if (schema.format === "int64" || schema.format === "uint64") notes.push("64 bits");
  if (schema.minimum !== undefined && schema.minimum !== whole?.[0] && schema.format !== "float") {
    notes.push(`at least ${schema.minimum}`);
  }
  if (schema.maximum !== undefined && schema.maximum !== whole?.[1] && schema.format !== "float") {
    notes.push(`at most ${schema.maximum}`);
  }
  return notes.join(", ");
}

/** An example of a value: its required members, or the first two if none is. */
export function sample(api, given, { all = false } = {}, depth = 0) {
  const schema = resolve(api, splitNull(given).schema);
  if (schema.example !== undefined) return schema.example;
  if ("const" in schema) return schema.const;
  if (schema.enum) return schema.enum[0];
  const options = alternatives(schema);
  if (options.length) return sample(api, options[0], { all }, depth);
  const kind = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  if (kind === "array") return depth > 6 ? [] : [sample(api, schema.items, { all }, depth + 1)];
  if (kind === "object") return sampleObject(api, schema, all, depth);
  return { string: "…", integer: 0, number: 0, boolean: false }[kind] ?? null;
}


function sampleObject(api, schema, all, depth) {
  const { shown } = members(schema);
  const required = shown.filter((member) => member.required);
  const chosen = required.length || all ? required : shown.slice(0, 2);
  if (depth > 6) return {};
  return Object.fromEntries(
    chosen.map(({ name, schema: of }) => [
      name,
      all && splitNull(of).nullable ? null : sample(api, of, { all }, depth + 1),
    ]),
  );
}
