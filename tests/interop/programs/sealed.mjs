// End-to-end encryption with the public JavaScript client: the same provider and checks as sealed.py.
// Run as `node sealed.mjs NODE_MODULES provider URL` or `node sealed.mjs NODE_MODULES consumer URL READY_JSON`.
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

async function* numbers(count) {
  for (let number = 0; number < count; number++) yield number;
}

const kept = {};

const service = (id, ...trusted) => ({
  id,
  config: { visibility: "public", require_context: true, trusted_keys: trusted },
  who: (context) => ({ encryption: context.encryption ?? null, key: context.caller_public_key ?? null }),
  echo: (value, context) => value,
  fail: (context) => {
    throw new Error("so it is");
  },
  call_back: async (callback, context) => [await callback(1), await callback(2)],
  count: (to, context) => numbers(to),
  total: async (items, context) => {
    let sum = 0;
    for await (const item of items) sum += item;
    return sum;
  },
  keep: (listener, context) => {
    kept.listener = listener;
  },
  tell_kept: async (value, context) => await kept.listener.heard(value),
  adder: (to, context) => (number) => number + to,
});

async function provide() {
  const server = await connectToServer({ server_url: url, encryption: true });
  await server.registerService(service("sealed"));
  tell("ready", {
    workspace: server.config.workspace,
    client_id: server.config.client_id,
    token: await server.generateToken(),
    key: server.rpc.getPublicKey(),
  });
  for (let line = await order(); line; line = await order()) {
    await server.registerService(service("guarded", line), { overwrite: true });
    tell("guarded", { key: line });
  }
}

async function fails(call, text) {
  try {
    await call;
  } catch (error) {
    check(String(error).includes(text), String(error));
    return;
  }
  throw new Error(`no error with ${text}`);
}

async function consume() {
  const ready = JSON.parse(readyJson);
  const place = { server_url: url, workspace: ready.workspace, token: ready.token };
  const server = await connectToServer({ ...place, client_id: "sealed-consumer", encryption: true });
  const plain = await connectToServer({ ...place, client_id: "sealed-plain" });
  const fetch = (name, from = server, key = ready.key) =>
    from.getService(`${ready.client_id}:${name}`, { encryption_public_key: key });
  const sealed = await fetch("sealed");
  tell("open", { key: server.rpc.getPublicKey() });
  await order();
  const checks = {
    async context() {
      const found = await sealed.who();
      check(found.encryption === true && found.key === server.rpc.getPublicKey(), JSON.stringify(found));
    },
    async values() {
      const found = await sealed.echo({ text: "x", list: [1, null, 2.5], bytes: new Uint8Array([0, 1]) });
      check(found.text === "x" && found.list[2] === 2.5 && found.bytes.length === 2, JSON.stringify(found));
    },
    async plain_calls() {
      const service = await plain.getService(`${ready.client_id}:sealed`);
      check((await service.echo(5)) === 5, "not 5");
    },
    async errors() {
      await fails(sealed.fail(), "so it is");
    },
    async callbacks() {
      const found = await sealed.call_back((number) => number * 10);
      check(found[0] === 10 && found[1] === 20, JSON.stringify(found));
    },
    async generator_in_a_result() {
      const found = [];
      for await (const item of await sealed.count(3)) found.push(item);
      check(found.join() === "0,1,2", found.join());
    },
    async function_in_a_result() {
      check((await (await sealed.adder(5))(1)) === 6, "not 6");
    },
    async big_values() {
      const found = await sealed.echo(new Uint8Array(1500000));
      check(found.length === 1500000, String(found.length));
    },
    async trusted_key() {
      check((await (await fetch("guarded")).echo(3)) === 3, "not 3");
      const service = await plain.getService(`${ready.client_id}:guarded`);
      await fails(service.echo(3), "Encryption required");
    },
    async other_key() {
      const other = await connectToServer({ ...place, client_id: "sealed-other", encryption: true });
      await fails((await fetch("guarded", other)).echo(3), "not in the trusted keys");
      await other.disconnect();
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
