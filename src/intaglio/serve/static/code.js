// The second view: code is completed while one types.

import * as api from "./api.js";
import { badge, by, element } from "./dom.js";
import { seconds } from "./figures.js";
import { secondsOf } from "./pace.js";
import { say } from "./words.js";

const PAUSE = 300; // milliseconds without a key
const MOST = 32;
const FIRST = `import os


def read_lines(path):
    with open(path) as file:
`;

export class Code {
  constructor(state) {
    this.state = state;
    this.source = by("source");
    this.source.value = FIRST;
    this.text = ""; // the ghost
    this.last = null; // the completion that was last asked for
    this.timer = 0;
    this.asking = null;
    this.source.addEventListener("input", () => this.typed());
    this.source.addEventListener("keydown", (event) => this.key(event));
    this.source.addEventListener("scroll", () => this.follow());
    this.source.addEventListener("pointerdown", () => this.drop());
    this.source.addEventListener("focus", () => this.text || this.typed());
    by("accept").addEventListener("click", () => this.accept());
    for (const each of document.getElementsByName("ghost-pace")) {
      each.addEventListener("change", () => this.typed());
    }
  }

  /** Say everything again. */
  show() {
    by("ghost-chip").textContent = this.state.left.title;
    by("ghost-gpu").textContent = this.state.right.title;
    by("code-note").textContent = say("code_note", { right: this.state.right.origin });
    this.times();
  }

  /** Another model or pace. */
  changed() {
    this.last = null;
    this.drop();
    this.times();
  }

  /** A key was pressed, or the view opened: ask after a pause. */
  typed() {
    this.drop();
    this.timer = setTimeout(() => this.ask(), PAUSE);
  }

  key(event) {
    if (!this.text) return;
    if (event.key === "Tab" && !event.shiftKey) {
      event.preventDefault();
      this.accept();
    } else if (event.key === "Escape") {
      event.preventDefault();
      this.drop();
    } else if (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End") {
      this.drop();
    }
  }

  async ask() {
    const { selectionStart: start, selectionEnd, value } = this.source;
    const before = value.slice(0, start);
    if (!this.state.facts || start !== selectionEnd || !before.trim()) return;
    if (value.slice(start).split("\n")[0].trim()) return; // in the midst of a line
    const asking = new AbortController();
    this.asking = asking;
    const begun = performance.now();
    try {
      const made = await this.complete(before, asking.signal);
      if (!by("code").hidden) this.state.trouble(null);
      this.last = made;
      this.times();
      const chosen = document.querySelector("[name=ghost-pace]:checked").value;
      const wait = chosen === "gpu" ? this.on(this.state.rightPace()) * 1000 : 0;
      setTimeout(
        () => asking.signal.aborted || this.offer(made.text, start),
        Math.max(wait - (performance.now() - begun), 0),
      );
    } catch (error) {
      if (!asking.signal.aborted) this.state.trouble(error);
    }
  }

  /** What follows a text, by its last tokens where the chip has no room for all. */
  async complete(before, signal) {
    const { model, facts } = this.state;
    const most = Math.max(Math.min(MOST, Math.floor(facts.model.context / 2)), 1);
    const ids = await api.tokenize({ model, prompt: before }, signal);
    const prompt = ids.slice(-Math.max(facts.model.context - most, 1));
    const fields = { model, prompt, max_tokens: most, temperature: 0, stop: ["\n\n"] };
    return api.complete(fields, signal);
  }

  offer(text, start) {
    const { value } = this.source;
    const rest = value.slice(start);
    const shown = rest ? text.split("\n")[0] : text;
    if (!shown.trim()) return;
    this.text = shown;
    const ghost = element("span", "ghost", shown);
    by("mirror").replaceChildren(value.slice(0, start), ghost, `${rest}\n`);
    by("ghost").textContent = say("offered", { text: shown });
    by("accept").disabled = false;
    this.follow();
  }

  accept() {
    if (!this.text) return;
    const { selectionStart: at } = this.source;
    this.source.focus();
    this.source.setRangeText(this.text, at, at, "end");
    this.typed();
    this.source.scrollTop = this.source.scrollHeight;
  }

  /** Forget the ghost and whatever was asked for. */
  drop() {
    clearTimeout(this.timer);
    this.asking?.abort();
    this.text = "";
    by("mirror").textContent = "";
    by("ghost").textContent = "";
    by("accept").disabled = true;
  }

  follow() {
    by("mirror").scrollTop = this.source.scrollTop;
    by("mirror").scrollLeft = this.source.scrollLeft;
  }

  on(pace) {
    const { told } = this.last;
    return secondsOf(pace, told.prompt_tokens, told.tokens, told);
  }

  /** How long the last completion takes on the chip, on the other, and took here. */
  times() {
    const rows = [
      [this.state.left, () => this.on(this.state.leftPace())],
      [this.state.right, () => this.on(this.state.rightPace())],
      [{ title: say("twin_here"), grade: "measured" }, () => this.last.milliseconds / 1000],
    ];
    by("code-times").replaceChildren(
      ...rows.flatMap(([{ title, grade }, value]) => {
        const term = element("dt", "", `${title} `);
        term.append(badge(grade));
        return [term, element("dd", "num", this.last ? seconds(value()) : "–")];
      }),
    );
  }
}
