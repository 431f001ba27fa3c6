// The public JavaScript client as a peer: a provider of services, or a consumer that checks ours.
// Run as `node peer.mjs NODE_MODULES provider URL` or `node peer.mjs NODE_MODULES consumer URL READY_JSON`.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import readline from "node:readline";
import path from "node:path";
import process from "node:process";

const [modules, role, url, readyJson] = process.argv.slice(2);
const require = createRequire(pathToFileURL(path.join(modules, "x.js")));
// The public client is made for pages: it looks for a socket and for randomness in the global object.
globalThis.self = globalThis;
globalThis.WebSocket ??= require("ws");
const { hyphaWebsocketClient } = await import(
  pathToFileURL(path.join(modules, "hypha-rpc/dist/hypha-rpc-websocket.mjs"))
);
const { connectToServer } = hyphaWebsocketClient;

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const order = async () => (await lines.next()).value ?? "";
const tell = (event, fields = {}) => process.stdout.write(`\n@@interop ${JSON.stringify({ event, ...fields })}\n`);

function check(condition, text) {
  if (!condition) throw new Error(text);
}

const same = (got, wanted) => check(JSON.stringify(got) === JSON.stringify(wanted), `got ${JSON.stringify(got)}`);

function* numbers(count) {
  for (let number = 0; number < count; number++) yield number;
}

async function* brokenNumbers(count) {
  yield* numbers(count);
  throw new RangeError("no more");
}

async function nest(callback, depth) {
  return depth ? await callback(nest, depth - 1) : "bottom";
}

const SPECIAL = {
  set: () => new Set([1, "a"]),
  map: () => new Map([["k", 1], [2, "x"]]),
  date: () => new Date(1700000000123),
  buffer: () => new Uint8Array([1, 2, 3]).buffer,
  int16: () => new Int16Array([1, -2]),
  float32: () => new Float32Array([1.5, -2]),
  blob: () => new Blob([new Uint8Array([5, 6, 7])], { type: "text/plain" }),
  nothing: () => undefined,
  interface: () => ({ _rintf: true, value: 3, double: (number) => 2 * number }),
  error: () => new TypeError("just a value"),
};

async function provide() {
  const server = await connectToServer({ server_url: url });
  let closed = 0;
  await server.registerService({
    id: "js",
    config: { visibility: "public" },
    echo: (value) => value,
    kind: (value) => Object.prototype.toString.call(value).slice(8, -1),
    add: (a, b) => a + b,
    special: (name) => SPECIAL[name](),
    fail: (text) => {
      throw new RangeError(text);
    },
    call_back: async (callback, count) => {
      const found = [];
      for (let number = 0; number < count; number++) found.push(await callback(number));
      return found;
    },
    nest,
    count: (to) => numbers(to),
    broken: (to) => brokenNumbers(to),
    endless: async function* () {
      try {
        for (let number = 0; ; number++) yield number;
      } finally {
        closed++;
      }
    },
    closed: () => closed,
    consume: async (items) => {
      const found = [];
      for await (const item of items) found.push(item);
      return found;
    },
    read: async (file) => [await file.read(), file.closed, await file.seek(0), await file.readline()],
    adder: (to) => (number) => number + to,
  });
  tell("ready", { workspace: server.config.workspace, client_id: server.config.client_id });
  await order();
}

async function consume() {
  const ready = JSON.parse(readyJson);
  const server = await connectToServer({ server_url: url, workspace: ready.workspace, token: ready.token });
  const service = await server.getService(`${ready.client_id}:interop`);
  const checks = {
    async plain_values() {
      for (const value of [null, true, 5, -5, 1.5, "", "ünï 🦋", [], {}, [1, ["a", null]], { a: { b: [1] }, "x y": 2 }])
        same(await service.echo(value), value);
      same(await service.echo_async(undefined), null);
      check((await service.echo(2 ** 53 - 1)) === 2 ** 53 - 1, "not exact");
      check(Number.isNaN(await service.echo(NaN)) && (await service.echo(-Infinity)) === -Infinity, "not a number");
    },
    async binaries() {
      same([...(await service.echo(new Uint8Array([0, 255])))], [0, 255]);
      same(await service.inspect(new Uint8Array([1])), ["bytes", "object"]);
      const buffer = await service.echo(new Uint8Array([1, 2]).buffer);
      check(buffer instanceof ArrayBuffer && buffer.byteLength === 2, String(buffer));
    },
    async typed_arrays() {
      const seen = await service.inspect_array(new Float32Array([1.5, -2]));
      same([seen.dtype, seen.shape], ["float32", [2]]);
    },
    async sets_and_maps() {
      const set = await service.echo(new Set([1, "a"]));
      check(set instanceof Set && set.has(1) && set.has("a") && set.size === 2, "not the set");
      const map = await service.echo(new Map([["k", 1], [2, "x"]]));
      check(map instanceof Map && map.get("k") === 1 && map.get(2) === "x", "not the map");
    },
    async dates() {
      const date = await service.echo(new Date(1700000000123));
      check(date instanceof Date && date.getTime() === 1700000000123, String(date));
    },
    async keyword_arguments() {
      check((await service.add(2, { b: 3, _rkwargs: true })) === 5, "not 5");
    },
    async errors() {
      for (const call of [() => service.fail("so it is"), () => service.fail_async("so it is")]) {
        const error = await call().then(() => null, (problem) => problem);
        check(error instanceof Error && error.message.includes("so it is"), String(error));
      }
    },
    async errors_as_values() {
      const error = await service.echo(new TypeError("just a value"));
      check(error instanceof Error && String(error).includes("just a value"), String(error));
    },
    async callbacks() {
      same(await service.call_many((number) => number * 10, 20), [...numbers(20)].map((number) => number * 10));
      same(await service.call_together(async (number) => -number, 3), [0, -1, -2].map((number) => number + 0));
      const text = await service.call_failing(() => {
        throw new Error("trouble");
      });
      check(text.includes("trouble"), text);
    },
    async functions_in_results() {
      const add = await service.make_adder(5);
      same([await add(1), await add(2)], [6, 7]);
    },
    async interfaces() {
      same(await service.use_interface({ _rintf: true, greet: (who) => `hello ${who}`, value: 3 }), ["hello you", 3]);
    },
    async generators() {
      for (const make of [service.generate, service.generate_async]) {
        const found = [];
        for await (const item of await make(25)) found.push(item);
        same(found, [...numbers(25)]);
      }
      same(await service.consume(numbers(12)), [...numbers(12)]);
      for await (const item of await service.generate_async(1000)) if (item === 3) break;
      same(await service.add(1, 1), 2);
    },
    async big_values() {
      const sent = new Uint8Array(3_000_000).fill(7);
      const found = await service.echo(sent);
      check(found.length === sent.length && found.every((byte) => byte === 7), String(found.length));
    },
  };
  for (const [name, run] of Object.entries(checks)) {
    let error = "";
    const late = new Promise((_, reject) => setTimeout(() => reject(new Error("no end in 20 s")), 20000).unref());
    try {
      await Promise.race([run(), late]);
    } catch (problem) {
      error = String(problem?.stack ?? problem).slice(0, 2000);
    }
    tell("check", { name, error });
  }
  tell("done");
}

try {
  await (role === "provider" ? provide() : consume());
  process.exit(0);
} catch (error) {
  console.error(error);
  process.exit(1);
}
