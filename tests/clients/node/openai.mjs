// The official openai package of Node: plain calls, its helpers, tools both ways.
import assert from "node:assert/strict";
import OpenAI, { BadRequestError, NotFoundError } from "openai";
import { LengthFinishReasonError } from "openai/error";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const model = process.env.RAPPORT_MODEL;
const client = new OpenAI({
  baseURL: `${process.env.RAPPORT_URL}/v1`,
  apiKey: "none",
  maxRetries: 0,
});
const chat = client.chat.completions;

const question = [{ role: "user", content: "What is the capital of France?" }];
const greedy = { model, messages: question, temperature: 0, max_tokens: 12 };
// The helpers take an answer that was cut short for an error.
const ending = { ...greedy, stop: [" "], max_tokens: 60 };

const City = z.object({ name: z.enum(["Paris", "Rome"]), millions: z.int().min(1).max(9) });
const described = {
  ...greedy,
  max_tokens: 60,
  messages: [{ role: "user", content: "Describe a city in JSON." }],
};
const weatherQuestion = [{ role: "user", content: "What is the weather in Rome?" }];
const weather = zodFunction({
  name: "get_weather",
  description: "Looks up the weather of a city.",
  parameters: z.object({ city: z.enum(["Paris", "Rome"]) }),
});
const calling = {
  ...greedy,
  max_tokens: 60,
  messages: weatherQuestion,
  tools: [weather],
  tool_choice: { type: "function", function: { name: "get_weather" } },
};

export async function completion() {
  const answer = await chat.create(greedy);
  const [choice] = answer.choices;
  assert.equal(answer.model, model);
  assert.ok(choice.message.content);
  assert.ok(["stop", "length"].includes(choice.finish_reason));
  const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
  assert.equal(total_tokens, prompt_tokens + completion_tokens);
}

export async function stream() {
  const whole = await chat.create(greedy);
  const chunks = await all(await chat.create({ ...greedy, stream: true }));
  const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
  const usages = chunks.flatMap((chunk) => chunk.usage ?? []);
  assert.deepEqual(usages.map(counts), [counts(whole.usage)]);
  assert.equal(chunks.at(-1).choices[0].finish_reason, whole.choices[0].finish_reason);
}

export async function aStreamCanBeLeft() {
  for await (const _ of await chat.create({ ...greedy, max_tokens: 200, stream: true })) break;
  assert.ok((await chat.create(greedy)).choices.length);
}

export async function streamHelper() {
  const helper = chat.stream({ ...ending, stream_options: { include_usage: true } });
  const pieces = [];
  helper.on("content", (delta) => pieces.push(delta));
  const final = await helper.finalChatCompletion();
  const whole = await chat.create(ending);
  assert.equal(pieces.join(""), whole.choices[0].message.content);
  assert.equal(await helper.finalContent(), whole.choices[0].message.content);
  assert.equal(final.usage.total_tokens, whole.usage.total_tokens);
}

export async function parse() {
  const response_format = zodResponseFormat(City, "city");
  const answer = await chat.parse({ ...described, response_format });
  City.parse(answer.choices[0].message.parsed);
  const streamed = await chat.stream({ ...described, response_format }).finalChatCompletion();
  assert.deepEqual(streamed.choices[0].message.parsed, answer.choices[0].message.parsed);
  const cut = chat.parse({ ...described, max_tokens: 1, response_format });
  await assert.rejects(cut, LengthFinishReasonError);
}

export async function forcedCall() {
  for (const tool_choice of [calling.tool_choice, "required"]) {
    const answer = await chat.create({ ...calling, tool_choice, parallel_tool_calls: false });
    const [choice] = answer.choices;
    assert.equal(choice.finish_reason, "tool_calls");
    assert.equal(choice.message.content, null);
    const [call] = choice.message.tool_calls;
    assert.match(call.id, /^call_[A-Za-z0-9]{24}$/);
    assert.equal(call.function.name, "get_weather");
    assert.ok(JSON.parse(call.function.arguments).city);
  }
}

export async function callInTheStreamHelper() {
  const final = await chat.stream(calling).finalChatCompletion();
  const [call] = final.choices[0].message.tool_calls;
  assert.match(call.id, /^call_[A-Za-z0-9]{24}$/);
  assert.equal(call.function.name, "get_weather");
  assert.ok(call.function.parsed_arguments.city);
}

export async function toolRoundTrip() {
  const { message } = (await chat.create(calling)).choices[0];
  await goesOn(message);
}

export async function parsedTurnIsSentBack() {
  await goesOn((await chat.parse(calling)).choices[0].message);
  await goesOn(await chat.stream(calling).finalMessage());
}

// The package's own loop; a required tool would be called forever, so the tool ends it.
export async function runTools() {
  const asked = [];
  const runner = chat.runTools(
    {
      ...calling,
      tool_choice: "required",
      parallel_tool_calls: false,
      tools: [
        zodFunction({
          name: "get_weather",
          parameters: z.object({ city: z.enum(["Paris", "Rome"]) }),
          function: ({ city }) => asked.push(city) && "Sunny.",
        }),
      ],
    },
    { maxChatCompletions: 2 },
  );
  await runner.done();
  assert.equal(asked.length, 2);
  assert.deepEqual(
    runner.messages.map((message) => message.role),
    ["user", "assistant", "tool", "assistant", "tool"],
  );
}

export async function errors() {
  await assert.rejects(chat.create({ ...greedy, model: "gpt-4" }), (error) => {
    return error instanceof NotFoundError && error.code === "NOT_FOUND" && error.param === "model";
  });
  await assert.rejects(chat.create({ ...greedy, foo: 1 }), (error) => {
    assert.match(error.message, /Extra inputs are not permitted, field: 'foo', value: 1/);
    return error instanceof BadRequestError;
  });
  const messages = [{ role: "user", content: "word ".repeat(9000) }];
  for (const stream of [false, true]) {
    await assert.rejects(chat.create({ ...greedy, messages, stream }), /prompt is too long/);
  }
}

export async function models() {
  const { data } = await client.models.list();
  assert.deepEqual(data.map((one) => one.id), [model]);
  assert.equal((await client.models.retrieve(model)).object, "model");
}

async function goesOn(turn) {
  const result = { role: "tool", tool_call_id: turn.tool_calls[0].id, content: "Sunny." };
  const messages = [...weatherQuestion, turn, result];
  const answer = await chat.create({ ...calling, messages, tool_choice: "none" });
  assert.ok(answer.choices[0].message.content);
  assert.equal(answer.choices[0].message.tool_calls, undefined);
}

// How much of the prompt was cached differs from one call to the next.
function counts({ prompt_tokens, completion_tokens, total_tokens }) {
  return { prompt_tokens, completion_tokens, total_tokens };
}

async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}
