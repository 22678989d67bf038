// The server's API. Nothing else is ever asked.

/** What went wrong, for a person. `word`: what the page says; `text`: what the server said. */
export class Trouble extends Error {
  constructor(word, text = "") {
    super(text || word);
    this.word = word;
    this.text = text;
  }
}

const KEY = "intaglio-key";
let key = remembered();

function remembered() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

/** Use an API key from now on, as long as this window is open. */
export function useKey(value) {
  key = value;
  try {
    sessionStorage.setItem(KEY, value);
  } catch {
    // a window that keeps nothing asks again
  }
}

/** The facts of `page.json`. */
export async function facts() {
  return (await ask("page.json")).json();
}

/** The tokens of a text, or of messages as the chat template lays them out. */
export async function tokenize(fields, signal) {
  return (await (await ask("tokenize", fields, signal)).json()).tokens;
}

/** A completion at once: its text, what the answer tells of the chip, and milliseconds here. */
export async function complete(fields, signal) {
  const started = performance.now();
  const answer = await (await ask("v1/completions", fields, signal)).json();
  const [choice] = answer.choices;
  const [told] = answer.intaglio.choices;
  return { text: choice.text, told, milliseconds: performance.now() - started };
}

/**
 * The chunks of a completion or a chat as they come: { text } and, last, { told, finish }.
 * Throws Trouble where the stream does not end as a whole one does.
 */
export async function* stream(path, fields, signal) {
  const response = await ask(path, { ...fields, stream: true }, signal);
  for await (const line of lines(response, signal)) {
    if (line === "[DONE]") return;
    const event = JSON.parse(line);
    if (event.error) throw new Trouble("refused", event.error.message);
    const [choice] = event.choices;
    const text = choice?.text ?? choice?.delta?.content ?? "";
    const finish = choice?.finish_reason ?? null;
    if (text || finish) yield { text, finish, told: event.intaglio?.choices[0] };
  }
  throw new Trouble("gone");
}

async function* lines(response, signal) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  while (true) {
    const { value, done } = await guarded(() => reader.read(), signal);
    if (done) return;
    const events = (held + value).split("\n\n");
    held = events.pop();
    for (const event of events) {
      if (event.startsWith("data: ")) yield event.slice(6);
    }
  }
}

async function ask(path, body, signal) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const options = { headers, signal, cache: "no-store" };
  if (body) {
    options.method = "POST";
    headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await guarded(() => fetch(path, options), signal);
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  if (response.status === 401) throw new Trouble("locked");
  throw new Trouble("refused", said?.error?.message ?? `HTTP ${response.status}`);
}

/** A network fault, which is the server's absence, unless the person stopped it. */
async function guarded(action, signal) {
  try {
    return await action();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Trouble("gone");
  }
}
