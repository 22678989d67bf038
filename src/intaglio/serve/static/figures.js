// Numbers as people read them, in the page's language.

import { language } from "./words.js";

export const DASH = "–";

/** A number with three digits that say something; from 1,000 on whole. */
export function number(value, digits = 3) {
  if (!Number.isFinite(value)) return DASH;
  const whole = Math.abs(value) >= 1000;
  const options = whole ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: digits };
  return new Intl.NumberFormat(language(), options).format(value);
}

/** Seconds in the unit that reads well: 1.24 s, 83 ms, 410 µs. */
export function seconds(value) {
  if (!Number.isFinite(value)) return DASH;
  if (value === 0) return "0 s";
  if (Math.abs(value) < 1e-3) return `${number(value * 1e6)} µs`;
  return Math.abs(value) < 1 ? `${number(value * 1e3)} ms` : `${number(value)} s`;
}

/** Seconds of a clock that runs: digits that stand still. */
export function clock(value) {
  const options = { minimumFractionDigits: 2, maximumFractionDigits: 2 };
  return `${new Intl.NumberFormat(language(), options).format(value)} s`;
}

/** Joules in the unit that reads well. */
export function joules(value) {
  if (!Number.isFinite(value)) return DASH;
  const scales = [[1, "J"], [1e-3, "mJ"], [1e-6, "µJ"], [1e-9, "nJ"]];
  const [scale, unit] = scales.find(([scale]) => Math.abs(value) >= scale) ?? scales[0];
  return `${number(value / scale)} ${unit}`;
}

/** How many times: 530×. */
export function times(value) {
  const text = number(value, value < 10 ? 2 : 3);
  return language() === "ja" ? `${text} 倍` : `${text}×`;
}

/** A count in the language's own large units: 1.38M, 138万. */
export function large(value) {
  const options = { notation: "compact", maximumSignificantDigits: 3 };
  return new Intl.NumberFormat(language(), options).format(value);
}
