// Scores on a scale, with the threshold that they must reach.

import { el } from "./dom.js"
import { percent, score } from "./format.js"

const STARTS = [0.9, 0.8, 0.5, 0]

/**
 * Both ends of the scale of some matches.
 *
 * Cosines end at 1, and some models have all of them close to it: the scale starts below those that there are, and near.
 * Where one is negative, or scores are normalized, it goes as far as they do.
 */
export function endsOf(matches) {
  const values = matches.flatMap((match) => (match.threshold === null ? [match.score] : [match.score, match.threshold]))
  const [least, most] = [Math.min(...values), Math.max(...values)]
  const start = STARTS.find((one) => one + 0.1 * (1 - one) <= least)
  return most > 1.001 || start === undefined ? [Math.floor(Math.min(0, least)), Math.ceil(Math.max(1, most))] : [start, 1]
}

function share(value, [lowest, highest]) {
  return Math.min(1, Math.max(0, (value - lowest) / (highest - lowest)))
}

/** A bar up to the score, with a line at the threshold; said in words by the text next to it. */
export function scoreBar(match, ends, { labels = false } = {}) {
  const filled = el("i")
  filled.style.width = `${100 * share(match.score, ends)}%`
  const bar = el("div", { class: `bar ${decision(match)}` }, filled)
  if (match.threshold !== null) {
    const line = el("s")
    line.style.left = `${100 * share(match.threshold, ends)}%`
    bar.append(line)
  }
  if (!labels) return el("div", { class: "scale", "aria-hidden": "true" }, bar)
  const axis = el("div", { class: "axis" }, ...ends.map((end) => el("span", {}, String(end))))
  if (match.threshold !== null) {
    const label = el("span", { class: "at" }, `threshold ${score(match.threshold)}`)
    const place = 100 * share(match.threshold, ends)
    label.style.left = `${place}%`
    label.style.transform = `translateX(-${place}%)` // at either end it stays within the scale
    axis.firstChild.hidden = place < 12
    axis.lastChild.hidden = place > 90
    axis.append(label)
  }
  return el("div", { class: "scale", "aria-hidden": "true" }, bar, axis)
}

/** `accepted`, `unknown` (below the threshold) or `open` (no threshold). */
export function decision(match) {
  return match.accepted === null ? "open" : match.accepted ? "accepted" : "unknown"
}

/** "score 0.912, probability 99%, threshold 0.700" */
export function inWords(match) {
  const parts = [`score ${score(match.score)}`]
  if (match.probability !== null) parts.push(`probability ${percent(match.probability)}`)
  parts.push(match.threshold === null ? "no threshold" : `threshold ${score(match.threshold)}`)
  return parts.join(", ")
}

const PILLS = { accepted: ["✓", "accepted"], unknown: ["?", "not accepted"], open: ["–", "not decided"] }

/** The decision as a word with a sign, so that it does not depend on the color. */
export function pill(kind, word = PILLS[kind][1]) {
  return el("span", { class: `pill ${kind}` }, el("span", { "aria-hidden": "true" }, PILLS[kind][0]), ` ${word}`)
}

/** Numbers with their names, for the eye: a list of definitions. */
export function figures(values) {
  const list = el("dl", { class: "figures" })
  for (const [term, value] of Object.entries(values)) {
    if (value !== null && value !== undefined) list.append(el("div", {}, el("dt", {}, term), el("dd", {}, value)))
  }
  return list
}

