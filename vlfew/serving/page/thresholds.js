// From which score is a probe accepted: what is set, and what could be.

import { call, query } from "./api.js"
import { announce, button, el, missing, named, newId, problem, thumbnail } from "./dom.js"
import { detCurve, pointOf } from "./det_curve.js"
import { SUPPORT, counted, percent, score } from "./format.js"
import { figures } from "./score_scale.js"

const PAIRS = 6
const HIGHEST = 0.5
const STEPS = 50 // of the slider for a factor of ten

export async function showThresholds(context) {
  const { main, signal } = context
  const current = el("div", { class: "columns" })
  const chooser = el("div", { class: "stack" })
  main.replaceChildren(
    el("h1", { tabindex: "-1" }, "Thresholds"),
    el("p", { class: "lead" }, "From which score is an image accepted? Low thresholds accept strangers, high ones reject the right person."),
    section("What is set", current),
    section("Choose one", chooser),
  )
  async function loadCurrent() {
    showCurrent(current, await call("GET", "thresholds", { signal }), context.canWrite && remove)
  }
  async function remove(support) {
    await call("PUT", "thresholds", { json: { [support]: null } })
    await loadCurrent()
    main.querySelector("h1").focus()
    announce("The threshold is removed.")
  }
  await loadCurrent()
  const sides = Object.keys(SUPPORT)
  const set = Object.keys(context.settings.thresholds ?? {})
  const start = sides.find((support) => set.includes(support)) ?? "image"
  await chooseSupport(chooser, start, { ...context, loadCurrent })
}

function section(title, content) {
  const heading = newId()
  return el("section", { "aria-labelledby": heading }, el("h2", { id: heading }, title), content)
}

function showCurrent(place, thresholds, remove) {
  const kinds = Object.keys(SUPPORT).filter((support) => thresholds[support])
  if (!kinds.length) {
    place.replaceChildren(el("p", { class: "note" }, "None: whoever is most similar is named, and nobody is unknown."))
    return
  }
  place.replaceChildren(
    ...kinds.map((support) => {
      const threshold = thresholds[support]
      const rates = threshold.far && {
        FAR: rate(threshold.far),
        FRR: threshold.frr && rate(threshold.frr),
        FPIR: threshold.fpir && rate(threshold.fpir),
      }
      return el(
        "div", { class: "card threshold" },
        el("h3", {}, SUPPORT[support]),
        el("p", { class: "figure" }, score(threshold.current ?? threshold.value)),
        rates && figures(rates),
        el("p", { class: "aside" }, threshold.summary ?? "Set by hand: no error rates are known of it."),
        (threshold.notes ?? []).map((line) => el("p", { class: "aside" }, line)),
        remove && el("div", {}, removal(support, remove)),
      )
    }),
  )
}

function removal(support, remove) {
  const trouble = el("div")
  const take = () => remove(support).catch((error) => trouble.replaceChildren(problem(error, take)))
  return [button("Remove", take, { class: "danger quiet", "aria-label": `Remove the threshold: ${SUPPORT[support].toLowerCase()}` }), trouble]
}

function rate({ value, low, high }) {
  return [percent(value), el("small", {}, `${percent(low)} to ${percent(high)}`)]
}

async function chooseSupport(place, support, context) {
  const { signal } = context
  const body = el("div", { class: "stack" })
  const choices = el(
    "fieldset", { class: "segments" }, el("legend", {}, "For"),
    Object.entries(SUPPORT).map(([kind, label]) =>
      el("label", {}, el("input", { type: "radio", name: "support", value: kind, checked: kind === support, onchange: () => load(kind) }), el("span", {}, label.toLowerCase()))),
  )
  place.replaceChildren(context.settings.has_text || support !== "image" ? choices : "", body)
  let shown = new AbortController()
  signal.addEventListener("abort", () => shown.abort())

  async function load(kind) {
    shown.abort()
    shown = new AbortController()
    const mine = shown.signal
    body.replaceChildren(el("p", { class: "aside" }, "measuring…"))
    try {
      const rates = await call("GET", `error-rates${query({ support: kind })}`, { signal: mine })
      body.replaceChildren(...explore(rates, { ...context, signal: mine }))
    } catch (error) {
      if (error.name !== "AbortError") body.replaceChildren(missing(error, () => load(kind)), calibrationForms(kind, context))
    }
  }
  await load(support)
}

/** The slider, the curve and the pairs on both sides of the threshold. */
function explore(rates, context) {
  const lowest = roundedUp(Math.min(HIGHEST, Math.max(3 / rates.impostor, 1e-6))) // the rule of three: below, a rate cannot be told from zero
  const chosenFar = () => Math.max(lowest, farOf(slider))
  const id = newId()
  const facts = el("div", { class: "facts" })
  const output = el("output", { for: id, class: "figure" })
  const pairs = el("div", { class: "stack" })
  const slider = el("input", {
    id, type: "range", min: Math.floor(STEPS * Math.log10(lowest)), max: Math.ceil(STEPS * Math.log10(HIGHEST)), step: 1,
    oninput: () => move(chosenFar()),
  })
  const curve = detCurve(rates, (point) => {
    const far = Math.min(HIGHEST, Math.max(lowest, point.far))
    slider.value = Math.round(STEPS * Math.log10(far))
    move(chosenFar())
  })
  let timer = null
  let chosen = null

  function move(far, wait = 250) {
    const point = pointOf(rates.points, far) ?? rates.points.at(-1)
    chosen = { far, point }
    output.textContent = percent(far)
    facts.replaceChildren(figures({ Threshold: score(point.threshold), "FAR, measured": percent(point.far), "FRR, measured": percent(point.frr) }))
    slider.setAttribute("aria-valuetext", `FAR ${percent(far)}: threshold ${score(point.threshold)}, FRR ${percent(point.frr)}`)
    curve.mark(point)
    clearTimeout(timer)
    timer = setTimeout(() => showPairs(pairs, rates, point, context.signal), wait)
  }

  const start = rates.threshold === null ? 0.01 : rates.points.find((point) => point.threshold >= rates.threshold)?.far
  slider.value = Math.round(STEPS * Math.log10(Math.min(HIGHEST, Math.max(lowest, start || lowest))))
  move(chosenFar(), 0)
  const trials = `Measured on ${counted(rates.genuine, "genuine trial")} and ${counted(rates.impostor, "impostor trial")} of ${counted(rates.identities, "identity", "identities")}: each image is left out and compared with everyone. The lowest FAR that they support is ${percent(lowest)}.`
  const control = el(
    "div", { class: "stack" },
    el("div", { class: "field" }, el("label", { for: id }, "Comparisons with others that may be accepted (FAR)"), output, slider,
      decades(slider)),
    facts, el("p", { class: "aside" }, trials),
    calibrationForms(rates.support, context, () => chosen.far),
  )
  return [el("div", { class: "card columns wide" }, control, curve.figure), pairs]
}

/** Labels below the slider where a factor of ten is reached. */
function decades(slider) {
  const [low, high] = [slider.min / STEPS, slider.max / STEPS]
  const labels = []
  for (let power = Math.ceil(low); power <= high; power += 1) {
    const label = el("span", { class: "at" }, percent(10 ** power))
    // A thumb's width is out of its reach, half of it at either end.
    label.style.left = `calc(8px + (100% - 16px) * ${(power - low) / (high - low)})`
    labels.push(label)
  }
  return el("div", { class: "axis decades", "aria-hidden": "true" }, labels)
}

/** What the slider stands for, with two digits. */
function farOf(slider) {
  return Math.min(HIGHEST, Number((10 ** (slider.value / STEPS)).toPrecision(2)))
}

/** A rate rounded up to two digits. */
function roundedUp(rate) {
  const step = 10 ** (Math.floor(Math.log10(rate)) - 1)
  return Number((Math.ceil(rate / step - 1e-9) * step).toPrecision(2))
}

/** Controls that set thresholds; `far` gives the slider's rate, where there is one. */
function calibrationForms(support, context, far = null) {
  if (!context.canWrite) return ""
  const trouble = el("div")
  const send = async (method, path, json, control) => {
    trouble.replaceChildren()
    control.disabled = true
    try {
      const { warnings = [] } = await call(method, path, { json })
      trouble.replaceChildren(...warnings.map((line) => el("p", { class: "note" }, line)))
      await context.loadCurrent()
      announce(`The threshold is set. ${warnings.join(" ")}`)
    } catch (error) {
      trouble.replaceChildren(problem(error, () => send(method, path, json, control)))
    } finally {
      control.disabled = false
    }
  }
  const set = far && button("Set this threshold", () => send("POST", "calibrate", { far: far() }, set), { class: "primary" })
  const strangers = far ? "Or: strangers" : "Strangers"
  const forStrangers = numberForm(
    `${strangers} that the whole gallery may accept (FPIR), in percent`, "Set for identification", { min: "0.001", max: "50", value: "5" },
    (value, control) => send("POST", "calibrate", { fpir: value / 100 }, control),
  )
  const byHand = numberForm(
    "Or: a score by hand, of which no error rates are known", "Set by hand", {},
    (value, control) => send("PUT", "thresholds", { [support]: { value } }, control),
  )
  return el("div", { class: "stack" }, set ? el("div", {}, set) : "", forStrangers, byHand, trouble)
}

function numberForm(label, action, limits, send) {
  const id = newId()
  const input = el("input", { id, type: "number", step: "any", inputmode: "decimal", required: true, ...limits })
  const control = el("button", {}, action)
  const submit = (event) => {
    event.preventDefault()
    send(Number(input.value), control)
  }
  return el("form", { class: "field", onsubmit: submit }, el("label", { for: id }, label), el("div", { class: "buttons" }, input, control))
}

const GROUPS = {
  accepted_impostors: ["Accepted, but somebody else", "wrong", "None at this threshold."],
  rejected_genuine: ["Rejected, though the same", "wrong", "None at this threshold."],
  closest_impostors: ["Somebody else, just rejected", "right", "None."],
  hardest_genuine: ["The same, just accepted", "right", "None."],
}

async function showPairs(place, rates, { threshold, far, frr }, signal) {
  const { support, genuine, impostor } = rates
  const [accepted, rejected] = [Math.round(far * impostor), Math.round(frr * genuine)]
  const counts = {
    accepted_impostors: `${accepted.toLocaleString("en")} of ${counted(impostor, "comparison")}`,
    rejected_genuine: `${rejected.toLocaleString("en")} of ${counted(genuine, "comparison")}`,
  }
  try {
    const found = await call("GET", `pairs${query({ support, threshold, limit: PAIRS })}`, { signal })
    place.replaceChildren(
      el("div", { class: "columns wide" }, Object.entries(GROUPS).map(([key, [title, kind, none]]) => {
        const heading = newId()
        const list = found[key]?.length
          ? el("ul", { class: "pairs" }, found[key].map((pair) => pairOf(pair, kind)))
          : el("p", { class: "aside" }, none)
        return el("section", { class: "card", "aria-labelledby": heading }, el("h3", { id: heading }, title), counts[key] ? el("p", { class: "aside" }, counts[key]) : "", list)
      })),
    )
  } catch (error) {
    if (error.name !== "AbortError") place.replaceChildren(missing(error, () => showPairs(place, rates, { threshold, far, frr }, signal)))
  }
}

function pairOf({ score: value, probe, identity }, kind) {
  const link = (one, id) => el("a", { href: `#/identities/${id}`, class: "one-line" }, named(one.name))
  return el(
    "li", {},
    el("span", { class: `two ${kind}` }, thumbnail(probe.item, "medium"), thumbnail(identity.thumbnail, "medium")),
    el("span", { class: "aside" }, el("b", { class: "number" }, score(value)),
      link(probe, probe.identity), probe.identity === identity.id ? "" : link(identity, identity.id)),
  )
}
