// The page: what is chosen, its views, its language.

import { Agent } from "./agent.js";
import * as api from "./api.js";
import { Code } from "./code.js";
import { badge, by, element } from "./dom.js";
import { large, number, seconds, times } from "./figures.js";
import { chipPace, machinePace, referencePace } from "./pace.js";
import { Talk } from "./talk.js";
import { apply, choose, language, say } from "./words.js";

const VIEWS = ["talk", "code", "agent"];

/** What is chosen; the views read it. */
const state = {
  facts: null,
  model: "",
  own: true, // this chip's own pace, or the reference model's
  machine: null,
  problem: null,

  leftPace: () => (state.own ? chipPace(state.facts, state.model) : referencePace(state.facts)),
  rightPace: () => machinePace(state.machine),

  get left() {
    const { facts } = state;
    if (!state.own) {
      const { reference } = facts;
      const { value, low, high } = reference.tokens_per_second;
      const figures = { rate: number(value), low: number(low), high: number(high) };
      const values = { ...reference, ...figures, ...ticks(reference.clock) };
      const origin = say("origin_reference", values);
      return { title: say("in_silicon", reference), grade: "modelled", origin };
    }
    const { target, clock } = facts.chip;
    const values = { target, ...ticks(clock) };
    const title = say("this_chip", { model: state.model });
    return { title, grade: "modelled", origin: say("origin_chip", values) };
  },

  get right() {
    const { machine, facts } = state;
    const rate = machine.tokens_per_second;
    const { reference, model } = facts;
    const values = {
      rate: number(rate.value),
      source: rate.source,
      year: rate.year ?? "",
      title: reference.title,
      bits: number(reference.bits_per_weight),
    };
    const published = machine.counted === "published";
    let origin = say(published ? "origin_published" : "origin_ceiling", values);
    if (state.unlike) {
      const sizes = { size: large(model.parameters), other: large(reference.parameters) };
      origin += ` ${say("other_model", { ...sizes, title: reference.title })}`;
    }
    return { title: machine.title, grade: published ? "published" : "derived", origin };
  },

  /** Whether the sides are of models that differ in size: then the comparison says so. */
  get unlike() {
    const ratio = state.facts.reference.parameters / state.facts.model.parameters;
    return state.own && (ratio > 1.2 || ratio < 0.8);
  },

  /** What a comparison of the sides comes to, in seconds. */
  verdict(left, right) {
    const ratio = times(left <= right ? right / left : left / right);
    const values = { left: seconds(left), right: seconds(right), times: ratio };
    return say(left <= right ? "sooner" : "later", values) + (state.unlike ? say("unlike") : "");
  },

  /** Show what went wrong, or that nothing is wrong any more. */
  trouble(error) {
    state.problem = error;
    const known = error instanceof api.Trouble;
    by("lock").hidden = !(known && error.word === "locked");
    by("alert").hidden = !error || !by("lock").hidden;
    if (error) by("alert").textContent = say(known ? error.word : "fault", { text: error.message });
  },
};

const talk = new Talk(state);
const views = [talk, new Code(state), new Agent(state)];

/** A clock, and how far it can be trusted. */
function ticks({ value, grade }) {
  const word = { assumed: "assumed", "published claim": "published" }[grade] ?? "derived";
  return { clock: `${number(value / 1e9)} GHz`, grade: say(`grade_${word}`) };
}

/** Say everything in the language of now. */
function show() {
  apply();
  for (const code of ["en", "ja"]) by(code).setAttribute("aria-pressed", language() === code);
  if (state.problem) state.trouble(state.problem);
  const { facts } = state;
  by("lead").textContent = say("loading");
  if (!facts) return;
  const { name, parameters } = facts.model;
  by("lead").textContent = say("lead", { model: name, size: large(parameters) });
  by("version").textContent = `Intaglio ${facts.version} · ${facts.model.hash.slice(0, 12)}`;
  const { reference } = facts;
  fill(by("pace"), [
    ["own", say("pace_own", { target: facts.chip.target })],
    ["reference", say("in_silicon", reference)],
  ], state.own ? "own" : "reference");
  honest();
  for (const view of views) view.show();
}

/** What each word beside a number means, here. */
function honest() {
  const rows = ["modelled", "measured", "published", "derived"].flatMap((grade) => {
    const term = element("dt");
    term.append(badge(grade));
    return [term, element("dd", "", say(`grade_${grade}_means`))];
  });
  by("honest").replaceChildren(...rows);
}

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  select.value = chosen;
}

/** Something else was chosen. */
function changed() {
  for (const view of views) view.changed();
  show();
}

async function open() {
  try {
    state.facts = await api.facts();
  } catch (error) {
    state.trouble(error);
    return;
  }
  state.trouble(null);
  const { facts } = state;
  state.model = facts.model.name;
  state.machine = facts.machines.find((each) => each.name === facts.machine);
  const names = [facts.model.name, ...facts.model.adapters];
  fill(by("model"), names.map((name) => [name, name]), state.model);
  fill(by("machine"), facts.machines.map((each) => [each.name, each.title]), facts.machine);
  document.title = `${facts.model.name} · Intaglio`;
  talk.open();
  views[2].open();
  show();
}

/** Show a view; its tab alone is in the order of keys. */
function turn(name, focus) {
  for (const each of VIEWS) {
    const tab = by(`tab-${each}`);
    const here = each === name;
    by(each).hidden = !here;
    tab.setAttribute("aria-selected", here);
    tab.tabIndex = here ? 0 : -1;
    if (here && focus) tab.focus();
  }
  if (name !== "code") views[1].drop();
}

for (const [index, name] of VIEWS.entries()) {
  by(`tab-${name}`).addEventListener("click", () => turn(name, true));
  by(`tab-${name}`).addEventListener("keydown", ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (step) turn(VIEWS[(index + step + VIEWS.length) % VIEWS.length], true);
    if (key === "Home" || key === "End") turn(VIEWS.at(key === "Home" ? 0 : -1), true);
  });
}
by("model").addEventListener("change", ({ target }) => {
  state.model = target.value;
  changed();
});
by("pace").addEventListener("change", ({ target }) => {
  state.own = target.value === "own";
  changed();
});
by("machine").addEventListener("change", ({ target }) => {
  state.machine = state.facts.machines.find((each) => each.name === target.value);
  changed();
});
for (const code of ["en", "ja"]) {
  by(code).addEventListener("click", () => {
    choose(code);
    show();
  });
}
by("lock").addEventListener("submit", (event) => {
  event.preventDefault();
  api.useKey(by("key").value);
  open();
});
document.addEventListener("keydown", ({ key }) => {
  if (key !== "Escape") return;
  talk.stop();
  views[2].stop();
});

show();
open();
