// The description of the server.
import { group } from "./dom.js";

const VERBS = ["get", "post", "put", "patch", "delete"];

/** What openapi.json says, once it is loaded. */
export let api;

/** Loads it. Throws an error that says what is the matter. */
export async function load() {
  const reply = await fetch("openapi.json");
  const body = await reply.json();
  if (!reply.ok) throw new Error(body.error?.message ?? reply.statusText);
  api = body;
}

export function operations() {
  return Object.entries(api.paths).flatMap(([path, item]) =>
    VERBS.filter((verb) => item[verb]).map((verb) => ({ path, verb, operation: item[verb] })),
  );
}

/** Operations that are one RPC are shown as one, with the other paths. */
export function grouped() {
  const groups = group(operations(), ({ verb, operation }) => `${verb} ${operation["x-grpc-method"]}`);
  return [...groups.values()].map(([first, ...others]) => ({ ...first, others }));
}
