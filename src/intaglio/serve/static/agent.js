// The third view: a chain of steps, each of which waits for the last, on two timelines.

import * as api from "./api.js";
import { badge, by, element } from "./dom.js";
import { clock, number, seconds, times } from "./figures.js";
import { secondsOf } from "./pace.js";
import { say } from "./words.js";

const TASK = "def main():\n";
const EXCERPT = 160; // characters of a step that are shown

export class Agent {
  constructor(state) {
    this.state = state;
    this.steps = []; // of the chain: { chip, gpu, calls, tokens }
    this.stopping = null;
    this.told = () => {};
    by("task").value = TASK;
    by("chain").addEventListener("submit", (event) => {
      event.preventDefault();
      this.run();
    });
    by("halt").addEventListener("click", () => this.stop());
    by("end").addEventListener("click", () => (this.skip = true));
    for (const id of ["steps", "step-seconds"]) by(id).addEventListener("input", () => this.show());
  }

  /** The chip is known. */
  open() {
    if (this.state.facts.model.chat) by("task").value = "Plan a birthday party, step by step.";
  }

  /** Say everything again. */
  show() {
    if (!this.state.facts) return;
    const { left, right } = this.state;
    const count = by("steps").valueAsNumber || 0;
    const rate = this.state.machine.tokens_per_second.value;
    const tokens = number(Math.round(count * (by("step-seconds").valueAsNumber || 0) * rate));
    const names = { right: right.title, left: left.title, tokens };
    by("agent-help").textContent = say("agent_help", names);
    by("chain-note").textContent = say("agent_note", { left: left.origin, right: right.origin });
    this.told();
    this.draw(this.clock ?? 0);
  }

  /** Another model or pace. */
  changed() {
    this.stop();
    this.forget();
  }

  /** Stop what runs. */
  stop() {
    this.stopping?.abort();
  }

  forget() {
    this.steps = [];
    this.clock = 0;
    this.told = () => {};
    const shown = ["chain-made", "chain-verdict", "steps-said", "lines"];
    for (const id of shown) by(id).replaceChildren();
  }

  async run() {
    const task = by("task").value;
    if (!task.trim() || this.stopping || !this.state.facts) return;
    const stopping = new AbortController();
    this.stopping = stopping;
    this.forget();
    this.running(true);
    this.state.trouble(null);
    try {
      await this.chain(task, stopping.signal);
      await this.replay(stopping.signal);
    } catch (error) {
      if (stopping.signal.aborted) this.say("stopped", {});
      else this.state.trouble(error);
    } finally {
      this.stopping = null;
      this.running(false);
    }
  }

  /** Make every step on the twin: as many tokens as the other gives in a step's time. */
  async chain(task, signal) {
    const count = by("steps").valueAsNumber;
    const span = by("step-seconds").valueAsNumber;
    const started = performance.now();
    let text = "";
    let said = 0;
    for (let index = 0; index < count; index += 1) {
      const step = { chip: 0, gpu: 0, calls: 0, tokens: 0 };
      let made = "";
      let ids = await this.begin(task, text, signal);
      while (step.gpu < span) {
        const call = await this.call(ids, span - step.gpu, signal);
        if (!call) break; // no time is left for a token
        made += call.text;
        for (const key of ["chip", "gpu", "calls", "tokens"]) step[key] += call[key];
        said += call.tokens;
        const rate = said / ((performance.now() - started) / 1000);
        this.say("chain_making", { step: index + 1, steps: count, tokens: said, rate });
        ids = await api.tokenize({ model: this.state.model, prompt: made }, signal);
      }
      if (!step.calls) throw new api.Trouble("too_short");
      text = made;
      this.steps.push(step);
      by("steps-said").append(element("li", "", excerpt(made)));
      this.draw(0);
    }
    this.rate = said / ((performance.now() - started) / 1000);
  }

  /** Tokens that a step begins with: the task and the end of what the last step said. */
  async begin(task, text, signal) {
    const { model, facts } = this.state;
    const most = Math.floor(facts.model.context / 4);
    const tail = text.slice(-most * 2);
    if (!facts.model.chat) return api.tokenize({ model, prompt: task + tail }, signal);
    const content = tail ? `${task}\n\n${tail}` : task;
    return api.tokenize({ model, messages: [{ role: "user", content }] }, signal);
  }

  /** One call: what there is room and time for; null where the time left holds no token. */
  async call(ids, left, signal) {
    const { model, facts } = this.state;
    const prompt = ids.slice(-Math.max(Math.floor(facts.model.context / 2), 1));
    const [leftPace, rightPace] = [this.state.leftPace(), this.state.rightPace()];
    const room = facts.model.context - prompt.length + 1;
    const time = Math.floor((left - rightPace.prompt(prompt.length)) / rightPace.token(0)) + 1;
    const most = Math.min(room, time);
    if (most < 1) return null;
    const fields = { model, prompt, max_tokens: most, temperature: 0.8, ignore_eos: true };
    const { text, told } = await api.complete(fields, signal);
    const on = (pace) => secondsOf(pace, told.prompt_tokens, told.tokens, told);
    return { text, chip: on(leftPace), gpu: on(rightPace), calls: 1, tokens: told.tokens };
  }

  /** Play both timelines in real time, unless the person cannot wait. */
  async replay(signal) {
    const [chip, gpu] = [this.whole("chip"), this.whole("gpu")];
    const longest = Math.max(chip, gpu);
    this.skip = matchMedia("(prefers-reduced-motion: reduce)").matches;
    by("end").hidden = false;
    const started = performance.now();
    let time = 0;
    while (time < longest && !this.skip && !signal.aborted) {
      await new Promise(requestAnimationFrame);
      time = (performance.now() - started) / 1000;
      this.draw(Math.min(time, longest));
      this.say("chain_playing", { time: Math.min(time, longest) });
    }
    by("end").hidden = true;
    signal.throwIfAborted();
    this.draw(longest);
    const calls = this.steps.reduce((sum, step) => sum + step.calls, 0);
    const tokens = this.steps.reduce((sum, step) => sum + step.tokens, 0);
    this.say("chain_done", { steps: this.steps.length, calls, tokens, rate: this.rate });
  }

  whole(side) {
    return this.steps.reduce((sum, step) => sum + step[side], 0);
  }

  /** Both timelines on one scale, and the shorter one magnified. `time`: what has passed. */
  draw(time) {
    this.clock = time;
    if (!this.steps.length) return;
    const [chip, gpu] = [this.whole("chip"), this.whole("gpu")];
    const scale = Math.max(chip, gpu);
    const { left, right } = this.state;
    const lines = [
      this.line("chip", left, chip, scale, time),
      this.line("gpu", right, gpu, scale, time),
    ];
    const [short, side] = chip < gpu ? [chip, "chip"] : [gpu, "gpu"];
    if (short < scale / 10) {
      const of = side === "chip" ? left : right;
      const title = say("magnified", { title: of.title, times: times(scale / short) });
      lines.push(this.line(side, { ...of, title, magnified: true }, short, short, time));
    }
    by("lines").replaceChildren(...lines);
  }

  line(side, { title, grade, magnified }, whole, scale, time) {
    const row = element("div", `line ${side}`);
    const name = element("p", "name", `${title} `);
    name.append(badge(grade));
    const passed = Math.min(time, whole);
    const word = time > 0 ? `${passed < whole ? clock(passed) : seconds(whole)}` : seconds(whole);
    const total = element("p", "num total", magnified ? seconds(whole) : word);
    const rail = element("div", "rail");
    rail.setAttribute("role", "img");
    const label = { title, steps: this.steps.length, whole: seconds(whole) };
    rail.setAttribute("aria-label", say("line_label", label));
    rail.classList.toggle("narrow", whole / scale < 0.01 * this.steps.length);
    let start = 0;
    for (const step of this.steps) {
      const bar = element("i", time >= start + step[side] && time > 0 ? "done" : "");
      bar.style.left = `${(100 * start) / scale}%`;
      bar.style.width = `${(100 * step[side]) / scale}%`;
      start += step[side];
      rail.append(bar);
    }
    if (time > 0 && time < whole) {
      const now = element("b");
      now.style.left = `${(100 * time) / scale}%`;
      rail.append(now);
    }
    row.append(name, total, rail);
    return row;
  }

  /** A line on what happens; said again where the language changes. */
  say(word, values) {
    this.told = () => {
      const told = { ...values };
      for (const key of ["tokens", "rate", "calls"]) {
        if (key in told) told[key] = number(told[key]);
      }
      if ("time" in told) told.time = clock(told.time);
      by("chain-made").textContent = say(word, told);
      if (word !== "chain_done") return;
      const sides = [this.whole("chip"), this.whole("gpu")];
      by("chain-verdict").textContent = this.state.verdict(...sides);
    };
    this.told();
  }

  running(now) {
    by("run").disabled = now;
    by("halt").disabled = !now;
    by("end").hidden = true;
  }
}

function excerpt(text) {
  const flat = text.trim().replace(/\s+/g, " ");
  return flat.length > EXCERPT ? `${flat.slice(0, EXCERPT)}…` : flat || "…";
}
