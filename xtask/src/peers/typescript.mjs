// A client made with a TypeScript SDK: does what clients do with the server of `cargo xtask peers`, and writes what it
// is told, one line of JSON for each step. Its argument is
// {"sdk": "1" | "2", "modern": BOOL, "command": [..]}, or with "url": "..", "token": ".." instead of the command.

const task = JSON.parse(process.argv[2]);
const PATIENCE = 60_000;
const INFO = { name: "osvm-peer", version: "1.0.0" };
const CAPABILITIES = { sampling: {}, elicitation: { form: {} }, roots: {} };

// What the two SDKs name differently.
const sdks = {
  async 1() {
    const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
    const { StdioClientTransport } = await import("@modelcontextprotocol/sdk/client/stdio.js");
    const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const types = await import("@modelcontextprotocol/sdk/types.js");
    const schemas = {
      "sampling/createMessage": types.CreateMessageRequestSchema,
      "elicitation/create": types.ElicitRequestSchema,
      "roots/list": types.ListRootsRequestSchema,
      "notifications/message": types.LoggingMessageNotificationSchema,
      "notifications/resources/updated": types.ResourceUpdatedNotificationSchema,
      "notifications/tools/list_changed": types.ToolListChangedNotificationSchema,
    };
    const client = new Client(INFO, { capabilities: CAPABILITIES });
    let told;
    StdioClientTransport.prototype.setProtocolVersion = (version) => (told = version);
    return {
      client,
      StdioClientTransport,
      StreamableHTTPClientTransport,
      answer: (method, handler) => client.setRequestHandler(schemas[method], handler),
      hear: (method, handler) => client.setNotificationHandler(schemas[method], handler),
      call: (params, options) => client.callTool(params, undefined, options),
      // Over HTTP it keeps the version, over stdio it tells it.
      version: (transport) => transport.protocolVersion ?? told,
    };
  },
  async 2() {
    const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
    const { StdioClientTransport } = await import("@modelcontextprotocol/client/stdio");
    const mode = task.modern ? "auto" : "legacy";
    const client = new Client(INFO, { capabilities: CAPABILITIES, versionNegotiation: { mode } });
    return {
      client,
      StdioClientTransport,
      StreamableHTTPClientTransport,
      answer: (method, handler) => client.setRequestHandler(method, handler),
      hear: (method, handler) => client.setNotificationHandler(method, handler),
      call: (params, options) => client.callTool(params, options),
      version: () => client.getNegotiatedProtocolVersion(),
    };
  },
};

const sdk = await sdks[task.sdk]();
const { client, answer, hear, call, version } = sdk;

// Whoever waits for a notification, by its method.
const waiting = new Map();
const notified = (method) => new Promise((resolve) => waiting.set(method, resolve));
const logged = [];

answer("sampling/createMessage", ({ params }) => ({
  role: "assistant",
  model: "none",
  content: { type: "text", text: `asked: ${params.messages[0].content.text}` },
}));
answer("elicitation/create", ({ params }) => ({
  action: "accept",
  content: filled(params.requestedSchema.properties),
}));
answer("roots/list", () => ({ roots: [{ uri: "file:///srv/peer", name: "peer" }] }));
hear("notifications/message", ({ params }) => void logged.push(params));
for (const method of ["notifications/resources/updated", "notifications/tools/list_changed"]) {
  hear(method, ({ params }) => waiting.get(method)?.(params ?? {}));
}

// A form, filled in by the types of its fields.
function filled(fields) {
  const values = { string: "Ada", boolean: true, integer: 1, number: 1 };
  const value = (field) => field.default ?? field.enum?.[0] ?? field.oneOf?.[0].const ?? values[field.type];
  const named = Object.entries(fields).filter(([, field]) => field.type !== "array");
  return Object.fromEntries(named.map(([name, field]) => [name, value(field)]));
}

function transport() {
  if (task.command) {
    const [command, ...args] = task.command;
    return new sdk.StdioClientTransport({ command, args, env: process.env, stderr: "ignore" });
  }
  const headers = task.token ? { Authorization: `Bearer ${task.token}` } : {};
  return new sdk.StreamableHTTPClientTransport(new URL(task.url), { requestInit: { headers } });
}

async function connect() {
  const way = transport();
  await client.connect(way, { timeout: PATIENCE });
  return { version: version(way), server: client.getServerVersion(), capabilities: client.getServerCapabilities() };
}

async function progress() {
  const steps = [];
  const onprogress = (step) => steps.push(step);
  const told = await call({ name: "test_tool_with_progress", arguments: {} }, { onprogress, timeout: PATIENCE });
  return { steps, told };
}

async function log() {
  const _meta = task.modern ? { "io.modelcontextprotocol/logLevel": "info" } : undefined;
  if (!task.modern) await client.setLoggingLevel("info");
  await call({ name: "test_tool_with_logging", arguments: {}, _meta });
  return logged;
}

// The call waits until its client has had enough of it; another tells that it has ended.
async function cancel() {
  const enough = new AbortController();
  const waits = call(
    { name: "test_wait", arguments: {} },
    { signal: enough.signal, onprogress: () => enough.abort("had enough"), timeout: PATIENCE },
  );
  const ended = await waits.then(() => "answered", () => "given up");
  return { ended, told: await call({ name: "test_cancelled", arguments: {} }, { timeout: PATIENCE }) };
}

async function updated() {
  const uri = "test://watched-resource";
  const told = notified("notifications/resources/updated");
  const subscription = task.modern ? await client.listen({ resourceSubscriptions: [uri] }) : undefined;
  if (!task.modern) await client.subscribeResource({ uri });
  await call({ name: "test_trigger_resource_change", arguments: {} });
  const { uri: changed } = await told;
  await (task.modern ? subscription.close() : client.unsubscribeResource({ uri }));
  return { changed };
}

async function changed() {
  const told = notified("notifications/tools/list_changed");
  const subscription = task.modern ? await client.listen({ toolsListChanged: true }) : undefined;
  await call({ name: "test_trigger_tool_change", arguments: {} });
  await told;
  await subscription?.close();
  return "told";
}

async function refused(asked) {
  const error = await asked.then(() => undefined, (error) => error);
  return error ? { code: error.code } : "answered";
}

const tool = (name, args = {}) => [`tools/call ${name}`, () => call({ name, arguments: args }, { timeout: PATIENCE })];
const read = (uri) => [`resources/read ${uri}`, () => client.readResource({ uri })];
const prompt = (name, args = {}) => [`prompts/get ${name}`, () => client.getPrompt({ name, arguments: args })];
const rounds = ["elicitation", "sampling", "list_roots", "multi_round", "multiple_inputs"];
const asks = task.modern
  ? rounds.map((what) => tool(`test_input_required_result_${what}`))
  : [
      tool("test_sampling", { prompt: "Who?" }),
      tool("test_elicitation", { message: "Who?" }),
      tool("test_elicitation_sep1034_defaults"),
    ];
const completed = {
  ref: { type: "ref/prompt", name: "test_prompt_with_arguments" },
  argument: { name: "arg1", value: "par" },
};

const steps = [
  ["connect", connect],
  ...(task.modern ? [] : [["ping", () => client.ping()]]),
  ["tools/list", () => client.listTools()],
  ["resources/list", () => client.listResources()],
  ["resources/templates/list", () => client.listResourceTemplates()],
  ["prompts/list", () => client.listPrompts()],
  tool("test_simple_text"),
  tool("test_multiple_content_types"),
  tool("test_error_handling"),
  tool("test_custom_header", { region: "eu" }),
  ["tools/call of none", () => refused(call({ name: "test_none", arguments: {} }))],
  read("test://static-text"),
  read("test://static-binary"),
  read("test://template/7/data"),
  ["resources/read of none", () => refused(client.readResource({ uri: "test://none" }))],
  prompt("test_simple_prompt"),
  prompt("test_prompt_with_arguments", { arg1: "one", arg2: "two" }),
  ["completion/complete", () => client.complete(completed)],
  ["progress", progress],
  ["logging", log],
  ["cancellation", cancel],
  ...asks,
  ["resource updated", updated],
  ["tool list changed", changed],
];

// Stays referenced, so that a step which waits for nothing else ends as well.
const late = () => new Promise((_, reject) => setTimeout(() => reject(new Error("no answer")), PATIENCE));

for (const [step, work] of steps) {
  const seen = await Promise.race([work(), late()]).then(
    (answer) => ({ answer }),
    (error) => ({ failed: String(error?.message ?? error) }),
  );
  console.log(JSON.stringify({ step, ...seen }));
}
await client.close();
process.exit(0);
