// What the page says, in two languages. Facts of the data, such as sources, stay as they are.

const WORDS = {
  skip: ["To the page’s work", "本文へ"],
  title: ["The model is the chip. Feel its speed.", "モデルがそのままチップに。その速さを体感。"],
  lead: [
    "{model}, {size} parameters. Its tokens are the chip’s own integers, computed here by its exact twin; the pace is the chip’s, and beside it another machine’s.",
    "{model}、{size} パラメータ。トークンはチップと完全に一致するツインがここで計算し、速さはチップのもの、隣は別の機械のものです。",
  ],
  loading: ["Planning the chips to compare with: some seconds, once.", "比較するチップを計画中。初回だけ数秒かかります。"],
  language: ["Language", "言語"],
  views: ["Views", "表示"],
  key_wanted: ["This server wants an API key", "このサーバーには API キーが必要です"],
  open: ["Open", "開く"],
  model: ["Model", "モデル"],
  left: ["Left: the chip’s pace", "左：チップの速さ"],
  right: ["Right: beside it", "右：比較相手"],
  chat: ["Chat", "チャット"],
  completion: ["Completion", "補完"],
  code: ["Code", "コード"],
  agent: ["Agent", "エージェント"],
  prompt: ["Prompt", "プロンプト"],
  send: ["Send", "送信"],
  stop: ["Stop", "停止"],
  fresh: ["New chat", "新しいチャット"],
  most: ["Most tokens", "最大トークン数"],
  temperature: ["Temperature", "温度"],
  keys: ["Enter sends, Shift+Enter breaks the line, Esc stops", "Enter で送信、Shift+Enter で改行、Esc で停止"],
  elapsed: ["Elapsed", "経過時間"],
  tokens: ["Tokens", "トークン"],
  joules: ["Energy", "エネルギー"],
  tokens_per_second: ["tokens/s", "トークン/秒"],
  text_of: ["Text at the pace of {name}", "{name} の速さでのテキスト"],
  joules_unknown: ["Energy unknown: {why}", "エネルギー不明：{why}"],
  this_chip: ["{model} in silicon", "{model} のシリコン"],
  in_silicon: ["{title} in silicon", "{title} のシリコン"],
  pace_own: ["This chip ({target})", "このチップ（{target}）"],
  origin_chip: [
    "Exact cycles of this chip’s plan at {clock}, the clock of target {target} ({grade}); one user.",
    "このチップの計画の正確なサイクル数を、ターゲット {target} のクロック {clock}（{grade}）で換算。利用者一人。",
  ],
  origin_reference: [
    "{rate} tokens/s ({low} to {high}): exact cycles of the planned chip of {title}, {process}, at {clock} ({grade}); one user. The text is still this model’s.",
    "{rate} トークン/秒（{low} から {high}）：{title} の計画チップ（{process}）の正確なサイクル数を {clock}（{grade}）で換算。利用者一人。テキストはこのモデルのもの。",
  ],
  origin_published: [
    "{rate} tokens/s, one user of {title}: {source}, {year}.",
    "{rate} トークン/秒、{title}、利用者一人：{source}、{year} 年。",
  ],
  origin_ceiling: [
    "{rate} tokens/s, one user of {title} at {bits} bits a weight: what its memory allows at most; nothing is published.",
    "{rate} トークン/秒、{title}、利用者一人、重みあたり {bits} ビット：メモリ帯域による上限。公表値なし。",
  ],
  other_model: [
    "Not the same model: this one has {size} parameters, {title} has {other}, and a small model is faster anywhere. For the same model on both sides choose {title} on the left.",
    "同じモデルではありません：こちらは {size}、{title} は {other} パラメータで、小さいモデルはどこでも速くなります。同じモデルで比べるには左で {title} を選んでください。",
  ],
  making: ["Generating on the twin ({engine}) before it is played: {tokens} tokens", "再生前にツイン（{engine}）で生成中：{tokens} トークン"],
  live: ["Live: the twin ({engine}) keeps up with the pace of {pace}", "ライブ：ツイン（{engine}）は {pace} の速さに追いついています"],
  replaying: [
    "Generated first, {tokens} tokens at {rate}/s here (measured, {engine}); now replayed at each side’s pace",
    "先に生成：{tokens} トークン、この機械で {rate}/秒（実測、{engine}）。いま両側の速さで再生中",
  ],
  made_live: [
    "{tokens} tokens, shown as the twin made them: {rate}/s here (measured, {engine})",
    "{tokens} トークン。ツインの生成と同時に表示：この機械で {rate}/秒（実測、{engine}）",
  ],
  made_after: [
    "{tokens} tokens, generated at {rate}/s here (measured, {engine}) and replayed at each side’s pace",
    "{tokens} トークン。この機械で {rate}/秒で生成（実測、{engine}）し、両側の速さで再生",
  ],
  made_paused: [
    "{tokens} tokens, generated at {rate}/s here (measured, {engine}); both sides stood still where the twin could not keep up",
    "{tokens} トークン。この機械で {rate}/秒で生成（実測、{engine}）。ツインが追いつかない間は両側とも停止",
  ],
  stopped: ["Stopped", "停止しました"],
  sooner: ["The chip is done {times} sooner: {left} against {right}.", "チップは {times}速く完了：{left} 対 {right}。"],
  unlike: [" The models differ in size.", "モデルの大きさは異なります。"],
  later: ["The chip is done {times} later: {left} against {right}.", "チップの完了は {times}遅い：{left} 対 {right}。"],
  code_help: [
    "Type, pause, and what may follow appears in grey. Tab takes it, Esc drops it; without grey text Tab moves on.",
    "入力して手を止めると、続きの候補が灰色で現れます。Tab で採用、Esc で破棄。候補がなければ Tab は次へ移動します。",
  ],
  source: ["Code", "コード"],
  ghost_pace: ["Show it at the pace of", "表示の速さ："],
  accept: ["Take it (Tab)", "採用（Tab）"],
  offered: ["Suggestion: {text}", "候補：{text}"],
  twin_here: ["The twin, on this machine", "この機械のツイン"],
  code_note: [
    "On the chip’s pace a suggestion is shown as soon as the twin has it; at the other’s, not before that machine would have it. {right}",
    "チップの速さではツインの結果をすぐに表示し、もう一方の速さではその機械なら得られる時刻まで待ちます。{right}",
  ],
  agent_help: [
    "A chain of steps, each of which waits for the last: about {tokens} tokens in all, as many as {right} says in that time. They are made here first, then both timelines run in real time.",
    "前の結果を待つステップの連鎖：合計約 {tokens} トークン、{right} がその時間に生成する量。まずここで生成し、その後両方の時間軸を実時間で再生します。",
  ],
  agent_note: [
    "Every call is really made by the twin, with the last text that has room for its prompt; the chip goes on past an end of text. Chip: {left} Other: {right}",
    "どの呼び出しも実際にツインが行い、入る限りの直前のテキストをプロンプトとします。文末でも止まらず続けます。チップ：{left} 比較相手：{right}",
  ],
  task: ["Task", "課題"],
  run: ["Run the chain", "連鎖を実行"],
  to_end: ["To the end", "最後まで飛ばす"],
  steps: ["Steps", "ステップ数"],
  step_seconds: ["Seconds a step on the right", "右側での 1 ステップの秒数"],
  chain_making: ["Step {step} of {steps} on the twin: {tokens} tokens, {rate}/s here (measured)", "ツインでステップ {step}/{steps}：{tokens} トークン、この機械で {rate}/秒（実測）"],
  chain_playing: ["In real time: {time}", "実時間：{time}"],
  chain_done: ["{steps} steps, {calls} calls, {tokens} tokens, generated at {rate}/s here, all waits included (measured)", "{steps} ステップ、{calls} 回の呼び出し、{tokens} トークン。この機械で待ち時間込み {rate}/秒で生成（実測）"],
  magnified: ["{title}, magnified {times}", "{title}、{times}に拡大"],
  line_label: ["{title}: {steps} steps in {whole}", "{title}：{steps} ステップ、{whole}"],
  too_short: ["A step must be long enough for one token on the right", "ステップは右側で 1 トークン生成できる長さが必要です"],
  grade_modelled: ["modelled", "モデル計算"],
  grade_measured: ["measured", "実測"],
  grade_published: ["published", "公表値"],
  grade_derived: ["derived", "算出"],
  grade_assumed: ["assumed", "仮定"],
  grade_modelled_means: [
    "The chip does not exist: its cycles are exact, simulated RTL takes the same number, but clock and energy are the target’s figures.",
    "チップはまだ存在しません。サイクル数は正確で、RTL シミュレーションと同数ですが、クロックとエネルギーはターゲットの数値です。",
  ],
  grade_measured_means: ["Taken by the clock of this machine, on which the twin runs.", "ツインが動くこの機械の時計で測定。"],
  grade_published_means: ["Somebody else’s published figure, with its source and year.", "他者の公表値。出典と年を付記。"],
  grade_derived_means: [
    "Computed from published figures: a ceiling that no software goes beyond. Prompts on the right are such, with an assumed share of its arithmetic; its energy is its largest power all the while.",
    "公表値からの計算：どのソフトウェアも超えない上限。右側のプロンプト処理もこれで、演算性能の利用率は仮定。エネルギーは終始最大電力として計算。",
  ],
  grade_assumed_means: ["Nobody has published it.", "公表した者がいません。"],
  honest_title: ["What the labels mean", "ラベルの意味"],
  footer: ["This page asks nobody but the server it came from.", "このページは配信元のサーバー以外には何も問い合わせません。"],
  gone: ["The server stopped answering. Start it again with `intaglio serve`, then try once more.", "サーバーが応答しなくなりました。`intaglio serve` で起動し直してから、もう一度試してください。"],
  refused: ["The server refused: {text}", "サーバーが拒否しました：{text}"],
  locked: ["The API key is missing or wrong", "API キーがないか間違っています"],
  fault: ["The page has a fault: {text}", "ページの不具合：{text}"],
};

const LANGUAGES = ["en", "ja"];
const KEPT = "intaglio-language";
let now = remembered() ?? (navigator.language.startsWith("ja") ? "ja" : "en");

function remembered() {
  try {
    const found = localStorage.getItem(KEPT);
    return LANGUAGES.includes(found) ? found : null;
  } catch {
    return null;
  }
}

/** The language of now. */
export const language = () => now;

/** Change it; it is kept for the next visit. */
export function choose(code) {
  now = code;
  try {
    localStorage.setItem(KEPT, code);
  } catch {
    // a browser that keeps nothing asks its own language again
  }
}

/** A text in the language of now, `{name}` replaced by its value. */
export function say(word, values = {}) {
  const text = WORDS[word][LANGUAGES.indexOf(now)];
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Say what the page's own elements say. */
export function apply() {
  document.documentElement.lang = now;
  for (const each of document.querySelectorAll("[data-word]")) {
    each.textContent = say(each.dataset.word);
  }
  for (const each of document.querySelectorAll("[data-label]")) {
    each.setAttribute("aria-label", say(each.dataset.label));
  }
}
