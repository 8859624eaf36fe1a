// Runs a client program: each function that it exports is a case; writes a line of JSON on each.
//
//   node run.mjs PROGRAM [CASE…]
import path from "node:path";
import { inspect } from "node:util";
import { pathToFileURL } from "node:url";

const [program, ...wanted] = process.argv.slice(2);
console.log = console.info = console.error; // what a library prints is no result
const cases = await import(pathToFileURL(path.resolve(program)));
for (const [name, run] of Object.entries(cases)) {
  if (wanted.length && !wanted.includes(name)) continue;
  let error = null;
  try {
    await run();
  } catch (failure) {
    error = inspect(failure, { depth: 6 });
  }
  process.stdout.write(JSON.stringify({ case: name, ok: error === null, error }) + "\n");
}
process.exit(); // clients may hold connections open
