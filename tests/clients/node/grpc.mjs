// A gRPC caller in another language: the protos as files, no generated code.
import assert from "node:assert/strict";
import path from "node:path";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const includeDirs = process.env.RAPPORT_PROTOS.split(path.delimiter);
const files = ["rapport/v1/chat", "rapport/v1/model", "google/rpc/status", "google/rpc/error_details"];
const definition = protoLoader.loadSync(
  files.map((file) => `${file}.proto`),
  { includeDirs, keepCase: true, longs: Number, enums: String, oneofs: true },
);
const { ChatService, ModelService } = grpc.loadPackageDefinition(definition).rapport.v1;
const credentials = grpc.credentials.createInsecure();
const chat = new ChatService(process.env.RAPPORT_GRPC, credentials);
const models = new ModelService(process.env.RAPPORT_GRPC, credentials);

const model = process.env.RAPPORT_MODEL;
const greedy = {
  model,
  messages: [{ role: "ROLE_USER", content: { text: "What is the capital of France?" } }],
  temperature: 0,
  max_tokens: 12,
};
const weatherQuestion = [
  { role: "ROLE_USER", content: { text: "What is the weather in Rome?" } },
];
const schema = JSON.stringify({
  type: "object",
  properties: { city: { enum: ["Paris", "Rome"] } },
  required: ["city"],
});
const calling = {
  ...greedy,
  max_tokens: 60,
  messages: weatherQuestion,
  tools: [{ function: { name: "get_weather", parameters: schema } }],
  parallel_tool_calls: false,
};

export async function completion() {
  const answer = await create(greedy);
  assert.equal(answer.object, "chat.completion");
  assert.equal(answer.model, model);
  const [choice] = answer.choices;
  assert.ok(choice.message.content);
  assert.equal(choice.message.role, "ROLE_ASSISTANT");
  assert.match(choice.finish_reason, /^FINISH_REASON_(STOP|LENGTH)$/);
  const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
  assert.equal(total_tokens, prompt_tokens + completion_tokens);
}

export async function stream() {
  const whole = await create(greedy);
  const pieces = await all(chat.StreamChatCompletion(greedy));
  const text = pieces.map((piece) => piece.choices[0].delta?.content ?? "").join("");
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(new Set(pieces.map((piece) => piece.id)).size, 1);
  assert.deepEqual(counts(pieces.at(-1).usage), counts(whole.usage));
  assert.equal(pieces.filter((piece) => piece.usage).length, 1);
  assert.equal(pieces.at(-1).choices[0].finish_reason, whole.choices[0].finish_reason);
}

export async function seededChoices() {
  const request = { ...greedy, temperature: 1.2, n: 2, seed: 7 };
  const texts = async () => (await create(request)).choices.map((one) => one.message.content);
  const first = await texts();
  assert.equal(first.length, 2);
  assert.deepEqual(await texts(), first);
}

export async function cancellation() {
  const call = chat.StreamChatCompletion({ ...greedy, max_tokens: 2000, ignore_eos: true });
  call.once("data", () => call.cancel());
  await assert.rejects(all(call), { code: grpc.status.CANCELLED });
  assert.ok((await create(greedy)).choices.length);
}

export async function deadline() {
  const request = { ...greedy, max_tokens: 2000, ignore_eos: true };
  const deadline = new Date(Date.now() + 300);
  await assert.rejects(create(request, { deadline }), { code: grpc.status.DEADLINE_EXCEEDED });
}

export async function errors() {
  await assert.rejects(create({ ...greedy, temperature: 7 }), (error) => {
    assert.equal(error.code, grpc.status.INVALID_ARGUMENT);
    const details = detailsOf(error);
    assert.equal(details["google.rpc.BadRequest"].field_violations[0].field, "temperature");
    assert.ok(details["google.rpc.ErrorInfo"].reason);
    return true;
  });
  await assert.rejects(create({ ...greedy, model: "gpt-4" }), { code: grpc.status.NOT_FOUND });
  const messages = [{ role: "ROLE_USER", content: { text: "word ".repeat(9000) } }];
  await assert.rejects(all(chat.StreamChatCompletion({ ...greedy, messages })), (error) => {
    assert.match(error.details, /prompt is too long/);
    return error.code === grpc.status.INVALID_ARGUMENT;
  });
}

export async function modelList() {
  const { data } = await unary(models, "ListModels", {});
  assert.deepEqual(data.map((one) => one.id), [model]);
  assert.equal((await unary(models, "GetModel", { model })).model.id, model);
}

export async function formats() {
  for (const response_format of [
    { json_object: { schema } },
    { json_schema: schema },
    { json_schema: JSON.stringify({ name: "city", schema: JSON.parse(schema) }) },
  ]) {
    const answer = await create({ ...greedy, max_tokens: 60, response_format });
    assert.ok(JSON.parse(answer.choices[0].message.content).city);
  }
  const grammar = await create({ ...greedy, response_format: { grammar: 'root ::= "a" | "b"' } });
  assert.match(grammar.choices[0].message.content, /^[ab]$/);
}

export async function toolRoundTrip() {
  for (const tool_choice of [
    { mode: "TOOL_CHOICE_MODE_REQUIRED" },
    { named: { function: { name: "get_weather" } } },
  ]) {
    const [choice] = (await create({ ...calling, tool_choice })).choices;
    assert.equal(choice.finish_reason, "FINISH_REASON_TOOL_CALLS");
    const [call] = choice.message.tool_calls;
    assert.equal(call.function.name, "get_weather");
    assert.ok(JSON.parse(call.function.arguments).city);
    const { role, tool_calls } = choice.message;
    const result = { role: "ROLE_TOOL", tool_call_id: call.id, content: { text: "Sunny." } };
    const messages = [...weatherQuestion, { role, tool_calls }, result];
    const answer = await create({ ...greedy, messages });
    assert.ok(answer.choices[0].message.content);
  }
}

export async function callInAStream() {
  const request = { ...calling, tool_choice: { mode: "TOOL_CHOICE_MODE_REQUIRED" } };
  const pieces = await all(chat.StreamChatCompletion(request));
  const deltas = pieces.flatMap((piece) => piece.choices[0].delta?.tool_calls ?? []);
  assert.equal(deltas.filter((delta) => delta.id).length, 1);
  assert.deepEqual(
    deltas.flatMap((delta) => delta.function?.name || []),
    ["get_weather"],
  );
  const text = deltas.map((delta) => delta.function?.arguments ?? "").join("");
  assert.ok(JSON.parse(text).city);
  assert.equal(pieces.at(-1).choices[0].finish_reason, "FINISH_REASON_TOOL_CALLS");
}

export async function logprobs() {
  const request = { ...greedy, max_tokens: 4, logprobs: { enabled: true }, top_logprobs: 2 };
  const [choice] = (await create(request)).choices;
  const tokens = choice.logprobs.present.content;
  assert.equal(tokens.map((token) => token.token).join(""), choice.message.content);
  assert.ok(tokens.every((token) => token.top_logprobs.length === 2));
}

// How much of the prompt was cached differs from one call to the next.
function counts({ prompt_tokens, completion_tokens, total_tokens }) {
  return { prompt_tokens, completion_tokens, total_tokens };
}

function create(request, options = {}) {
  return unary(chat, "CreateChatCompletion", request, options);
}

function unary(client, method, request, options = {}) {
  return new Promise((resolve, reject) => {
    client[method](request, options, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

async function all(call) {
  const pieces = [];
  for await (const piece of call) pieces.push(piece);
  return pieces;
}

// The google.rpc details of an error, by type.
function detailsOf(error) {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  const { details } = definition["google.rpc.Status"].deserialize(bytes);
  return Object.fromEntries(
    details.map(({ type_url, value }) => {
      const type = type_url.split("/").at(-1);
      return [type, definition[type].deserialize(value)];
    }),
  );
}
