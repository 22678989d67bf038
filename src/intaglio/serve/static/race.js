// One text at two paces. The clock of a race is the paces' time: it stands still where a text that
// is made while it is played has not come yet.

import { secondsOf } from "./pace.js";

const KEEPS_UP = 1.25; // how much faster than the pace the twin must be to be played as it comes
const TRIAL = 16; // chunks by which that is judged

/** Chunks of an answer as they come, and what the answer tells at its end. */
export class Source {
  constructor(prompt, now = () => performance.now() / 1000) {
    this.prompt = prompt; // tokens
    this.chunks = [];
    this.told = null;
    this.ended = false;
    this.now = now;
    this.started = now();
    this.seconds = 0;
  }

  /** Take what the stream brought. */
  push({ text, told }) {
    this.seconds = this.now() - this.started;
    if (text) this.chunks.push(text);
    if (told) this.told = told;
  }

  /** No more comes. */
  end() {
    this.ended = true;
  }

  /** Tokens said so far; exact at the end. */
  get tokens() {
    return this.told?.tokens ?? this.chunks.length;
  }

  /**
   * Tokens a second that the twin made here, from the request on: chunks come in bunches, so the
   * time from the first to the last of them says nothing.
   */
  get rate() {
    return this.seconds > 0 ? this.tokens / this.seconds : NaN;
  }

  /** Whether the twin is surely faster than a pace. */
  keepsUp(pace) {
    if (this.chunks.length < TRIAL) return false;
    return this.rate > KEEPS_UP / pace.token(this.prompt + this.chunks.length);
  }
}

/** One side of a race: shows the text of a source at its pace. */
export class Player {
  constructor(view, pace) {
    this.view = view;
    this.pace = pace;
    this.shown = 0; // chunks
    this.due = 0; // seconds at which the next chunk is due
    this.done = false;
  }

  /** Show what is due at `time`. Returns whether it waits for a chunk that is due. */
  play(source, time) {
    if (this.done) return false;
    let text = "";
    while (this.shown < source.chunks.length) {
      const due = this.dueOf(source, this.shown);
      if (due > time) break;
      text += source.chunks[this.shown];
      this.shown += 1;
      this.due = due;
    }
    if (text) this.view.add(text);
    const all = this.shown === source.chunks.length;
    this.done = all && source.ended && time >= this.length(source);
    this.show(source, time);
    return all && !source.ended && this.dueOf(source, this.shown) <= time;
  }

  /** Seconds of the whole, once it is known. */
  length(source) {
    return secondsOf(this.pace, source.prompt, source.tokens, source.told);
  }

  /** When a chunk is due. Where a token brought no text there are fewer chunks than tokens. */
  dueOf(source, index) {
    const share = source.told ? source.tokens / Math.max(source.chunks.length, 1) : 1;
    const count = Math.max(Math.round((index + 1) * share), 1);
    const due = this.sum(source, count);
    if (this.pace.kind !== "chip" || !source.told?.chip) return due;
    return due * (source.told.chip.seconds / this.sum(source, source.tokens));
  }

  /** Seconds to the token of that number, each step added once. */
  sum(source, count) {
    this.sums ??= [0, this.pace.prompt(source.prompt)];
    for (let index = this.sums.length; index <= count; index += 1) {
      this.sums.push(this.sums[index - 1] + this.pace.token(source.prompt + index - 2));
    }
    return this.sums[count];
  }

  show(source, time) {
    const whole = this.done || null;
    const seconds = whole ? this.length(source) : time;
    const share = this.shown / Math.max(source.chunks.length, 1);
    const tokens = source.ended ? Math.round(share * source.tokens) : this.shown;
    const run = { prompt: source.prompt, tokens, seconds, told: source.told };
    let joules = this.pace.joules(run);
    if (joules !== null && !whole && this.pace.kind === "chip") joules *= share;
    const first = this.pace.prompt(source.prompt);
    let rate = tokens > 1 && seconds > first ? (tokens - 1) / (seconds - first) : NaN;
    if (whole && this.pace.kind === "chip") rate = source.told?.chip?.tokens_per_second ?? rate;
    this.view.count({ seconds, tokens, rate, joules, why: joules === null && this.pace.why(run) });
  }
}

/**
 * Play a source on both sides until it ends or `signal` stops it.
 *
 * `frame`: called with each frame and how it is played: "before", not yet; "live", as it is made;
 * "after" it was made; "paused", live but stood still. Resolves to that.
 */
export function race(source, players, signal, frame) {
  return new Promise((resolve) => {
    let time = 0;
    let before = null;
    let how = "before";
    const tick = (now) => {
      if (signal.aborted) return resolve(how);
      if (before === null && !ready(source, players)) {
        frame(how);
        return requestAnimationFrame(tick);
      }
      if (how === "before") how = source.ended ? "after" : "live";
      if (before !== null) time += (now - before) / 1000;
      before = now;
      const waits = players.map((player) => player.play(source, time));
      if (waits.includes(true)) {
        how = "paused";
        before = null; // the clock stands until there is more
      }
      frame(how);
      if (players.every((player) => player.done)) return resolve(how);
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  });
}

function ready(source, players) {
  return source.ended || source.keepsUp(players[0].pace);
}
