// Vercel's AI SDK with its Fireworks provider.
import assert from "node:assert/strict";
import { createFireworks } from "@ai-sdk/fireworks";
import { APICallError, Output, generateObject, generateText, isStepCount, jsonSchema } from "ai";
import { streamObject, streamText, tool } from "ai";
import { z } from "zod";

const provider = createFireworks({
  baseURL: `${process.env.RAPPORT_URL}/inference/v1`,
  apiKey: "none",
});
const model = provider(process.env.RAPPORT_MODEL);
const common = { model, temperature: 0, maxOutputTokens: 12, maxRetries: 0 };
// It has no setting of its own for this; what it does not know, it sends as it is.
const oneCall = { providerOptions: { fireworks: { parallel_tool_calls: false } } };
const asked = { ...common, prompt: "What is the capital of France?" };

const City = z.object({ name: z.enum(["Paris", "Rome"]), millions: z.int().min(1).max(9) });
const described = { ...common, maxOutputTokens: 60, prompt: "Describe a city." };

export async function text() {
  const result = await generateText({ ...asked, system: "You are brief.", seed: 3, topP: 0.9 });
  assert.ok(result.text);
  assert.ok(["stop", "length"].includes(result.finishReason));
  const { inputTokens, outputTokens, totalTokens } = result.usage;
  assert.equal(totalTokens, inputTokens + outputTokens);
}

export async function textStream() {
  const whole = await generateText(asked);
  const result = streamText(asked);
  const pieces = await all(result.textStream);
  assert.equal(pieces.join(""), whole.text);
  assert.equal(await result.finishReason, whole.finishReason);
  const usage = await result.usage;
  for (const count of ["inputTokens", "outputTokens", "totalTokens"]) {
    assert.equal(usage[count], whole.usage[count]);
  }
}

export async function conversation() {
  const { text } = await generateText(asked);
  const messages = [
    { role: "user", content: [{ type: "text", text: asked.prompt }] },
    { role: "assistant", content: text },
    { role: "user", content: "Thank you." },
  ];
  assert.ok((await generateText({ ...common, messages })).text);
}

export async function providerOptions() {
  const fireworks = { thinking: { type: "disabled" }, promptCacheKey: "a", user: "somebody" };
  assert.ok((await generateText({ ...asked, providerOptions: { fireworks } })).text);
}

export async function object() {
  const { object, finishReason } = await generateObject({ ...described, schema: City });
  City.parse(object);
  assert.equal(finishReason, "stop");
}

export async function objectOfAJsonSchema() {
  const schema = jsonSchema({
    type: "object",
    properties: { sunny: { type: "boolean" } },
    required: ["sunny"],
    additionalProperties: false,
  });
  const { object } = await generateObject({ ...described, schema, schemaName: "sky" });
  assert.equal(typeof object.sunny, "boolean");
}

export async function objectsInOtherShapes() {
  const array = await generateObject({
    ...described,
    output: "array",
    schema: z.enum(["Paris", "Rome"]),
  }).catch(unlessCutShort);
  if (array) assert.ok(Array.isArray(array.object));
  const choice = await generateObject({ ...described, output: "enum", enum: ["big", "small"] });
  assert.ok(["big", "small"].includes(choice.object));
}

export async function objectStream() {
  const whole = await generateObject({ ...described, schema: City });
  const result = streamObject({ ...described, schema: City });
  const parts = await all(result.partialObjectStream);
  assert.deepEqual(parts.at(-1), whole.object);
  assert.deepEqual(await result.object, whole.object);
}

export async function outputOfText() {
  const result = await generateText({ ...described, output: Output.object({ schema: City }) });
  City.parse(result.output);
}

export async function toolCall() {
  const tools = { get_weather: weather() };
  for (const toolChoice of ["required", { type: "tool", toolName: "get_weather" }]) {
    const result = await generateText({ ...described, ...oneCall, tools, toolChoice });
    assert.equal(result.finishReason, "tool-calls");
    const [call] = result.toolCalls;
    assert.equal(call.toolName, "get_weather");
    assert.ok(["Paris", "Rome"].includes(call.input.city));
  }
}

export async function toolRoundTrip() {
  const cities = [];
  const result = await generateText(looping(cities));
  checkLoop(cities, result.steps, result.text);
}

export async function toolRoundTripInAStream() {
  const cities = [];
  const result = streamText(looping(cities));
  const kinds = new Set((await all(result.fullStream)).map((part) => part.type));
  checkLoop(cities, await result.steps, await result.text);
  for (const kind of ["tool-input-start", "tool-input-delta", "tool-call", "tool-result"]) {
    assert.ok(kinds.has(kind), kind);
  }
}

export async function errors() {
  await assert.rejects(
    generateText({ ...asked, prompt: "word ".repeat(9000) }),
    (error) => {
      assert.match(error.message, /prompt is too long/);
      assert.equal(error.isRetryable, false);
      return APICallError.isInstance(error) && error.statusCode === 400;
    },
  );
  const missing = generateText({ ...asked, model: provider("gpt-4") });
  await assert.rejects(missing, (error) => error.statusCode === 404 && /Model not found/.test(error.message));
}

function weather(cities = []) {
  return tool({
    description: "Looks up the weather of a city.",
    inputSchema: z.object({ city: z.enum(["Paris", "Rome"]) }),
    ...(cities && {
      execute: async ({ city }) => {
        cities.push(city);
        return { sky: "sunny", degrees: 24 };
      },
    }),
  });
}

// The first step must call, the second must answer.
function looping(cities) {
  return {
    ...common,
    ...oneCall,
    maxOutputTokens: 40,
    prompt: "What is the weather in Rome?",
    tools: { get_weather: weather(cities) },
    stopWhen: isStepCount(2),
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
  };
}

function checkLoop(cities, steps, text) {
  assert.equal(cities.length, 1);
  assert.equal(steps.length, 2);
  assert.equal(steps[0].finishReason, "tool-calls");
  assert.equal(steps[0].toolResults.length, 1);
  assert.ok(text);
}

function unlessCutShort(error) {
  if (error.finishReason !== "length") throw error;
}

async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}
