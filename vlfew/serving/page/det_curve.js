// The DET curve: FRR against FAR, both on probit axes, with the chosen point.

import { el, svg } from "./dom.js"
import { percent, score } from "./format.js"
import { probit } from "./probit.js"

const [LEFT, RIGHT, TOP, BOTTOM] = [58, 14, 14, 50]
const TICKS = [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99]
const HIGHEST = { far: 0.6, frr: 0.995 }

/** An axis over rates: where each lies in pixels, between the lowest that is shown and the highest. */
function axis(lowest, highest, from, to) {
  const [a, b] = [probit(lowest), probit(highest)]
  const at = (rate) => from + ((probit(Math.min(highest, Math.max(lowest, rate))) - a) / (b - a)) * (to - from)
  return { at, ticks: TICKS.filter((tick) => tick >= lowest * 0.999 && tick <= highest) }
}

/**
 * The chart of some points [{threshold, far, frr}].
 *
 * @param choose is called with the point nearest to a click.
 * @returns its `figure`, and `mark(point)`, which moves the chosen point.
 */
export function detCurve({ points: all, genuine, impostor }, choose) {
  const [WIDTH, HEIGHT] = innerWidth < 640 ? [330, 310] : [460, 400] // what is drawn is scaled, its text must stay legible
  const points = all.filter((point) => point.far <= HIGHEST.far)
  const lowest = (count) => Math.min(0.01, Math.max(1e-6, 0.5 / Math.max(1, count)))
  const top = (key) => Math.min(HIGHEST[key], Math.max(0.5, ...points.map((point) => point[key])))
  const x = axis(lowest(impostor), top("far"), LEFT, WIDTH - RIGHT)
  const y = axis(lowest(genuine), top("frr"), HEIGHT - BOTTOM, TOP)
  const base = HEIGHT - BOTTOM
  const grid = [
    ...x.ticks.map((tick) => svg("line", { x1: x.at(tick), x2: x.at(tick), y1: TOP, y2: base })),
    ...y.ticks.map((tick) => svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y.at(tick), y2: y.at(tick) })),
  ]
  const labels = [
    ...spaced(x.ticks, x.at, 40).map((tick) => svg("text", { x: x.at(tick), y: base + 19, "text-anchor": "middle" }, percent(tick))),
    ...spaced(y.ticks, y.at, 18).map((tick) => svg("text", { x: LEFT - 9, y: y.at(tick) + 4, "text-anchor": "end" }, percent(tick))),
    svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, "FAR: others accepted"),
    svg("text", { transform: `translate(14 ${(TOP + base) / 2}) rotate(-90)`, "text-anchor": "middle" }, "FRR: the same rejected"),
  ]
  const path = points.map((point, n) => `${n ? "L" : "M"}${x.at(point.far).toFixed(1)} ${y.at(point.frr).toFixed(1)}`).join("")
  const drops = svg("path", { class: "drops" })
  const dot = svg("circle", { class: "dot", r: 6.5 })
  const chart = svg(
    "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "det" },
    svg("g", { class: "grid" }, grid), svg("g", { class: "labels" }, labels),
    svg("path", { class: "curve", d: path }), drops, dot,
  )
  chart.addEventListener("click", (event) => {
    const box = chart.getBoundingClientRect()
    const [px, py] = [((event.clientX - box.left) / box.width) * WIDTH, ((event.clientY - box.top) / box.height) * HEIGHT]
    const distance = (point) => Math.hypot(x.at(point.far) - px, y.at(point.frr) - py)
    choose(points.reduce((best, point) => (distance(point) < distance(best) ? point : best)))
  })

  function mark(point) {
    const [cx, cy] = [x.at(point.far), y.at(point.frr)]
    dot.setAttribute("cx", cx)
    dot.setAttribute("cy", cy)
    drops.setAttribute("d", `M${LEFT} ${cy}H${cx}V${base}`)
    chart.setAttribute("aria-label", `DET curve. Chosen: FAR ${percent(point.far)}, FRR ${percent(point.frr)}.`)
  }

  const caption = el("figcaption", {}, "DET curve", el("small", {}, "Every point is a threshold; towards the lower left is better."))
  return { figure: el("figure", { class: "chart" }, caption, chart, table(points)), mark }
}

/** Ticks at least so many pixels apart. */
function spaced(ticks, at, gap) {
  const kept = []
  for (const tick of ticks) if (!kept.length || Math.abs(at(tick) - at(kept.at(-1))) >= gap) kept.push(tick)
  return kept
}

/** The same as a table, for who does not see the curve. */
function table(points) {
  const rows = TICKS.filter((far) => far < 0.6).map((far) => [far, pointOf(points, far)]).filter(([, point]) => point)
  const distinct = rows.filter(([, point], n) => n === 0 || point !== rows[n - 1][1])
  return el(
    "details", {}, el("summary", {}, "The curve as a table"),
    el("table", {},
      el("thead", {}, el("tr", {}, ["FAR", "FRR", "Threshold"].map((name) => el("th", { scope: "col", class: "number" }, name)))),
      el("tbody", {}, distinct.map(([, point]) =>
        el("tr", {}, [percent(point.far), percent(point.frr), score(point.threshold)].map((text) => el("td", { class: "number" }, text)))))),
  )
}

/** The lowest threshold of the points whose FAR is not above the one asked for; undefined where all are. */
export function pointOf(points, far) {
  return points.find((point) => point.far <= far)
}
