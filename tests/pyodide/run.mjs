// Runs one Python program inside Pyodide under Node and prints what it returns.
//
//   node run.mjs MODULES WHEELS PROGRAM CONFIG_JSON
//
// MODULES: folder with the npm packages; WHEELS: folder whose wheels are unpacked;
// PROGRAM: its last expression, awaited, is the result, a string.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, wheels, program, config] = process.argv.slice(2);
const load = (file) => import(pathToFileURL(path.join(modules, file)).href);

async function main() {
  // Node 20 has no WebSocket of its own.
  globalThis.WebSocket ??= (await load("ws/wrapper.mjs")).default;
  const { loadPyodide } = await load("pyodide/pyodide.mjs");
  const pyodide = await loadPyodide();
  for (const file of fs.readdirSync(wheels).filter((name) => name.endsWith(".whl"))) {
    pyodide.unpackArchive(new Uint8Array(fs.readFileSync(path.join(wheels, file))), "wheel");
  }
  pyodide.globals.set("CONFIG", pyodide.toPy(JSON.parse(config)));
  const result = await pyodide.runPythonAsync(fs.readFileSync(program, "utf8"));
  process.stdout.write(`\nRESULT ${result}\n`);
}

main().then(
  () => process.exit(0),
  (error) => {
    // The message can drag along a megabyte of source: the end tells what happened.
    process.stderr.write(String(error.stack ?? error).slice(0, 200) + "\n…\n" + String(error).slice(-3000) + "\n");
    process.exit(1);
  },
);
