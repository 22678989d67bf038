// The first view: a chat or a completion, at the chip's pace and at another's.

import * as api from "./api.js";
import { by } from "./dom.js";
import { number } from "./figures.js";
import { Player, Source, race } from "./race.js";
import { Side } from "./side.js";
import { say } from "./words.js";

const MOST = 256;
const QUESTION = "Explain in one paragraph why the sky is blue.";
const BEGINNING = "import os\n\ndef read_lines(path):\n";

export class Talk {
  constructor(state) {
    this.state = state;
    this.sides = ["chip", "gpu"].map((s) => new Side(document.querySelector(`[data-side=${s}]`)));
    this.messages = [];
    this.stopping = null;
    this.told = () => {};
    by("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    by("stop").addEventListener("click", () => this.stop());
    by("fresh").addEventListener("click", () => this.fresh());
    by("prompt").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        by("ask").requestSubmit();
      }
    });
  }

  /** The chip is known. */
  open() {
    const { model } = this.state.facts;
    const half = Math.max(Math.floor(model.context / 2), 1);
    by("most").value = Math.min(MOST, half);
    by("most").max = model.context;
    by("fresh").hidden = !model.chat;
    by("tab-talk").dataset.word = model.chat ? "chat" : "completion";
    by("prompt").value = model.chat ? QUESTION : BEGINNING;
    by("temperature").value = model.chat ? 0.2 : 0.7;
    by("talk").classList.toggle("plain", !model.chat);
  }

  /** Say everything again, in the language of now and for what is chosen now. */
  show() {
    const { left, right } = this.state;
    this.sides[0].name(left);
    this.sides[1].name(right);
    this.told();
  }

  /** Another model or pace: counters of the last run are of another. */
  changed() {
    this.stop();
    this.told = () => {};
    by("made").textContent = "";
    by("verdict").textContent = "";
    for (const side of this.sides) side.reset();
  }

  /** Begin a conversation anew. */
  fresh() {
    this.changed();
    this.messages = [];
    for (const side of this.sides) side.clear();
    by("prompt").focus();
  }

  /** Stop what runs. */
  stop() {
    this.stopping?.abort();
  }

  async send() {
    const prompt = by("prompt").value;
    if (!prompt.trim() || this.stopping || !this.state.facts) return;
    const stopping = new AbortController();
    this.stopping = stopping;
    this.running(true);
    this.state.trouble(null);
    const { chat } = this.state.facts.model;
    const before = this.messages;
    if (chat) this.messages = [...before, { role: "user", content: prompt }];
    try {
      const source = await this.ask(prompt, chat, stopping.signal);
      if (chat) {
        this.messages.push({ role: "assistant", content: source.chunks.join("") });
        by("prompt").value = "";
      }
    } catch (error) {
      this.messages = before; // a turn without an answer was not one
      if (stopping.signal.aborted && !(error instanceof api.Trouble)) this.say("stopped", {});
      else this.state.trouble(error);
    } finally {
      stopping.abort();
      this.stopping = null;
      this.running(false);
    }
  }

  /** Run a turn: tokens first, then the stream, played on both sides. Resolves to its source. */
  async ask(prompt, chat, signal) {
    const model = this.state.model;
    const input = chat ? { messages: this.messages } : { prompt };
    const ids = await api.tokenize({ model, ...input }, signal);
    const most = Math.max(Math.min(by("most").valueAsNumber, this.room(ids.length)), 1);
    const temperature = by("temperature").valueAsNumber;
    const fields = { model, ...input, max_tokens: most, temperature };
    for (const side of this.sides) side.begin(prompt);
    by("verdict").textContent = "";
    const source = new Source(ids.length);
    const paces = [this.state.leftPace(), this.state.rightPace()];
    const players = paces.map((pace, index) => new Player(this.sides[index], pace));
    const inner = new AbortController();
    signal.addEventListener("abort", () => inner.abort());
    const path = chat ? "v1/chat/completions" : "v1/completions";
    const reading = this.read(source, path, fields, signal);
    reading.catch(() => inner.abort());
    const frame = (how) => this.progress(source, how);
    const how = await race(source, players, inner.signal, frame);
    await reading;
    signal.throwIfAborted();
    this.finish(source, players, how);
    return source;
  }

  room(tokens) {
    return this.state.facts.model.context - tokens + 1;
  }

  async read(source, path, fields, signal) {
    for await (const chunk of api.stream(path, fields, signal)) source.push(chunk);
    source.end();
  }

  progress(source, how) {
    const word = { before: "making", after: "replaying" }[how] ?? "live";
    this.say(word, { tokens: source.tokens, rate: source.rate });
  }

  finish(source, players, how) {
    const [left, right] = players.map((player) => player.length(source));
    const word = { live: "made_live", paused: "made_paused" }[how] ?? "made_after";
    this.say(word, { tokens: source.tokens, rate: source.rate });
    const said = this.told;
    this.told = () => {
      said();
      by("verdict").textContent = this.state.verdict(left, right);
    };
    this.told();
  }

  /** A line on how the text is made; said again where the language changes. */
  say(word, { tokens, rate }) {
    this.told = () => {
      const engine = this.state.facts.model.engine;
      by("made").textContent = say(word, {
        tokens: number(tokens), rate: number(rate), engine, pace: this.state.left.title,
      });
    };
    this.told();
  }

  running(now) {
    by("send").disabled = now;
    by("stop").disabled = !now;
    if (!now && document.activeElement === document.body) by("prompt").focus();
  }
}
