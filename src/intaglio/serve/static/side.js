// One side of a race: name, counters, text, and where the pace comes from.

import { badge, element } from "./dom.js";
import { DASH, joules, number, seconds } from "./figures.js";
import { say } from "./words.js";

export class Side {
  constructor(article) {
    this.article = article;
    this.title = element("h2");
    this.rate = element("span", "value num");
    this.values = {};
    const counters = element("dl", "counters");
    for (const name of ["elapsed", "tokens", "joules"]) {
      const term = element("dt");
      term.dataset.word = name;
      this.values[name] = element("dd", "num");
      this.values[name].dataset.value = name;
      counters.append(term, this.values[name]);
    }
    const unit = element("span", "unit");
    unit.dataset.word = "tokens_per_second";
    const big = element("p", "rate");
    big.append(this.rate, " ", unit);
    this.text = element("div", "text");
    this.text.tabIndex = 0;
    this.text.setAttribute("role", "log");
    this.text.setAttribute("aria-live", "off");
    this.why = element("p", "small soft why");
    this.origin = element("p", "small soft origin");
    article.append(this.title, big, counters, this.text, this.why, this.origin);
    this.turn = null;
    this.clear();
  }

  /** Name the side and say where its pace comes from: { title, grade, origin }. */
  name({ title, grade, origin }) {
    this.title.replaceChildren(`${title} `, badge(grade));
    this.origin.textContent = origin;
    this.text.setAttribute("aria-label", say("text_of", { name: title }));
  }

  /** Forget all turns and counters. */
  clear() {
    this.text.replaceChildren();
    this.turn = null;
    this.reset();
  }

  /** Set the counters back. */
  reset() {
    this.rate.textContent = DASH;
    for (const value of Object.values(this.values)) value.textContent = DASH;
    this.why.textContent = "";
    this.article.classList.remove("done");
  }

  /** Begin a turn with what the person said. */
  begin(prompt) {
    this.reset();
    this.text.append(element("p", "asked", prompt));
    this.turn = element("p", "said", "");
    this.text.append(this.turn);
    this.text.scrollTop = this.text.scrollHeight;
  }

  /** Text that came. */
  add(text) {
    this.turn.append(text);
    this.text.scrollTop = this.text.scrollHeight;
  }

  /** What the counters say. */
  count(run) {
    this.rate.textContent = number(run.rate);
    this.values.elapsed.textContent = seconds(run.seconds);
    this.values.tokens.textContent = number(run.tokens);
    this.values.joules.textContent = run.joules === null ? DASH : joules(run.joules);
    this.why.textContent = run.why ? say("joules_unknown", { why: run.why }) : "";
  }
}
