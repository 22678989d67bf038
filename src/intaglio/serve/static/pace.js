// How long a prompt and each token take: on this chip, on the reference model's, on a machine.
//
// A pace has prompt(tokens) and token(position) in seconds, joules(run) with null for unknown, and
// `why`, the reason for that. A run is { prompt, tokens, seconds, told }.

/** This chip: the table of page.json, straight lines between its places. */
export function chipPace(facts, model) {
  const table = facts.chip.pace[model];
  return {
    kind: "chip",
    prompt: (tokens) => between(table, "prompt_seconds", tokens),
    token: (position) => between(table, "token_seconds", position),
    joules: ({ told }) => told?.chip?.joules ?? null,
    why: ({ told }) => told?.chip?.joules_blocked_by ?? told?.chip_blocked_by ?? "",
  };
}

/** The reference model's own chip, as planned. Every position takes a token's energy. */
export function referencePace({ reference }) {
  const each = reference.millijoule_per_token;
  return {
    kind: "reference",
    prompt: (tokens) => tokens / reference.prompt_tokens_per_second.value,
    token: () => 1 / reference.tokens_per_second.value,
    joules: ({ prompt, tokens }) =>
      each.value === null ? null : ((prompt + tokens) * each.value) / 1000,
    why: () => each.blocked_by ?? "",
  };
}

/** A machine of the baselines: one user, its largest power all the while. */
export function machinePace(machine) {
  const { watts } = machine;
  return {
    kind: "machine",
    prompt: (tokens) => tokens / machine.prompt_tokens_per_second.value,
    token: () => 1 / machine.tokens_per_second.value,
    joules: ({ seconds }) => (watts.value === null ? null : watts.value * seconds),
    why: () => watts.blocked_by ?? "",
  };
}

/** Seconds of a run of `prompt` tokens and `tokens` said. */
export function secondsOf(pace, prompt, tokens, told) {
  if (pace.kind === "chip" && told?.chip) return told.chip.seconds;
  let sum = pace.prompt(prompt);
  for (let index = 1; index < tokens; index += 1) sum += pace.token(prompt + index - 1);
  return sum;
}

function between(table, key, place) {
  const after = table.findIndex((row) => row.prompt_tokens >= place);
  if (after === 0) return table[0][key];
  const high = after < 0 ? table.at(-1) : table[after];
  const low = table.at(after < 0 ? -2 : after - 1) ?? high;
  const span = high.prompt_tokens - low.prompt_tokens;
  const share = span ? (place - low.prompt_tokens) / span : 0;
  return low[key] + share * (high[key] - low[key]);
}
