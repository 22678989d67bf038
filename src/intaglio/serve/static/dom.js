// Elements of the page.

import { say } from "./words.js";

/** The element of an id. */
export const by = (id) => document.getElementById(id);

/** A new element with a class and a text. */
export function element(name, className = "", text = null) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== null) made.textContent = text;
  return made;
}

/** How far a figure can be trusted, as a word. */
export function badge(grade) {
  const made = element("span", `badge ${grade}`, say(`grade_${grade}`));
  made.title = say(`grade_${grade}_means`);
  return made;
}
