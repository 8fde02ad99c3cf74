// Who or what is in an image.

import { Problem, call, query, toProblem } from "./api.js"
import { announce, button, el, named, newId, preview, problem, thumbnail } from "./dom.js"
import { openEnroll } from "./enroll.js"
import { percent, score, standsFor } from "./format.js"
import { imageInput, whyTooLarge } from "./image_input.js"
import { decision, figures, inWords, endsOf, pill, scoreBar } from "./score_scale.js"

const MATCHES = 5
const AT_ONCE = 3
const answers = el("ol", { class: "answers", "aria-label": "Answers, newest first" })
let queue = []
let running = 0
document.addEventListener("forget", () => {
  answers.replaceChildren()
  queue = []
})

export async function showIdentify(context) {
  const { main, settings, signal } = context
  const lead = settings.identities
    ? "Which of the enrolled identities an image shows, or that it shows nobody known."
    : "Nobody is enrolled yet."
  const input = imageInput((files) => files.forEach((file) => ask(file, context)), settings, {
    text: "Drag images here, or paste them",
    listen: document,
    signal,
    main: true,
  })
  const clear = button("Clear the answers", () => {
    answers.replaceChildren()
    queue = []
    clear.hidden = true
    input.focus()
  }, { class: "quiet", hidden: !answers.children.length })
  new MutationObserver(() => (clear.hidden = !answers.children.length)).observe(answers, { childList: true })
  main.replaceChildren(
    ...[
      el("h1", { tabindex: "-1" }, "Identify"),
      el("p", { class: "lead" }, lead),
      settings.identities ? thresholdNote(settings) : firstSteps(context),
      input.place,
      el("div", { class: "buttons end" }, clear),
      answers,
    ].filter(Boolean),
  )
}

/** What an answer is worth where there is no threshold. */
function thresholdNote(settings) {
  if (Object.keys(settings.thresholds ?? {}).length) return null
  return el(
    "p", { class: "note" },
    "No threshold is set, so that nobody is unknown: the most similar identity is named, however little similar it is. ",
    el("a", { href: "#/thresholds" }, "Set a threshold"), ".",
  )
}

function firstSteps(context) {
  const enroll = context.canWrite && button("Enroll somebody", async () => (await openEnroll(context)) && context.refresh())
  return el("p", { class: "note" }, "There is nobody to recognize in an empty gallery. ", enroll)
}

/** Takes one image: its card says what becomes of it. */
function ask(file, context) {
  const body = el("div", { class: "answer-body" }, el("p", { class: "aside" }, "waiting…"))
  const card = el("li", { class: "card answer" }, el("figure", {}, preview(file), el("figcaption", {}, named(file.name))), body)
  answers.prepend(card)
  const large = whyTooLarge(file, context.settings.limits)
  if (large) {
    body.replaceChildren(problem(new Problem(`${file.name}: ${large}.`, 413)))
    return
  }
  queue.push({ file, body, context })
  next()
}

async function next() {
  if (running >= AT_ONCE || !queue.length) return
  const job = queue.shift()
  running += 1
  job.body.replaceChildren(el("p", { class: "aside" }, "identifying…"))
  try {
    const form = new FormData()
    form.append("images", job.file, job.file.name)
    const { answers: found } = await call("POST", `identify${query({ k: MATCHES })}`, { form })
    if (found[0].error) throw toProblem(found[0].error)
    job.body.replaceChildren(...describe(found[0], job))
    announce(`${job.file.name}: ${summary(found[0])}`)
  } catch (error) {
    const again = () => {
      queue.push(job)
      next()
    }
    job.body.replaceChildren(problem(error, again))
  } finally {
    running -= 1
    next()
  }
  next()
}

/** The best match that decides: the accepted one, which need not have the highest score of another kind of support. */
function chosen(answer) {
  return answer.matches.find((match) => match.accepted !== false && match.name === answer.name) ?? answer.matches[0]
}

function summary(answer) {
  const best = chosen(answer)
  if (!best) return "nobody is enrolled"
  if (decision(best) === "unknown") return `unknown; most similar is ${best.name}, ${inWords(best)}`
  return `${best.name}, ${decision(best) === "open" ? "not decided" : "accepted"}, ${inWords(best)}`
}

function describe(answer, { file, context }) {
  const best = chosen(answer)
  if (!best) return [el("h2", {}, "Nobody is enrolled")]
  const kind = decision(best)
  const ends = endsOf(answer.matches)
  const link = el("a", { href: `#/identities/${best.id}` }, named(best.name))
  const parts = [
    el("div", { class: "verdict" }, el("h2", { class: "clamped" }, kind === "unknown" ? "Unknown" : link), pill(kind)),
  ]
  if (kind === "unknown") {
    parts.push(el("p", {}, "Nobody enrolled is similar enough. The closest is ", link, "."))
  }
  const words = {
    Score: score(best.score),
    Probability: best.probability === null ? null : percent(best.probability),
    Threshold: best.threshold === null ? "none" : score(best.threshold),
  }
  parts.push(
    el("div", { class: "best" }, thumbnail(best.thumbnail, "large"), el("div", {}, figures(words), scoreBar(best, ends, { labels: true }))),
  )
  if (best.threshold !== null) parts.push(el("p", { class: "aside" }, standsFor(context.settings.thresholds[best.support])))
  const rest = answer.matches.filter((match) => match !== best)
  if (rest.length) {
    const heading = newId()
    const rows = rest.map((match) => row(match, ends))
    parts.push(el("h3", { id: heading }, "Next best"), el("ol", { class: "matches", "aria-labelledby": heading }, rows))
  }
  if (context.canWrite) parts.push(enrollButtons(file, kind, best, context))
  return parts
}

function row(match, ends) {
  const says = { accepted: "accepted", unknown: "below the threshold", open: "" }[decision(match)]
  const details = [score(match.score), match.probability === null ? "" : percent(match.probability), says]
  return el(
    "li", {},
    thumbnail(match.thumbnail, "small"),
    el("a", { href: `#/identities/${match.id}`, class: "one-line" }, named(match.name)),
    el("span", { class: "aside details" }, details.filter(Boolean).join(" · ")),
    scoreBar(match, ends),
  )
}

function enrollButtons(file, kind, best, context) {
  const place = el("div", { class: "done" })
  const enroll = async (name) => {
    const done = await openEnroll({ ...context, images: [file], name })
    if (!done) return
    const text = done.created ? "Enrolled as " : "Added to "
    place.replaceChildren(el("p", {}, text, el("a", { href: `#/identities/${done.id}` }, named(done.name)), "."))
  }
  const buttons = kind === "unknown"
    ? [button("Enroll", () => enroll(""), { class: "primary" })]
    : [button("Add to this identity", () => enroll(best.name)), button("Enroll as another", () => enroll(""), { class: "quiet" })]
  return el("div", {}, el("div", { class: "buttons" }, buttons), place)
}
