// Everyone who is enrolled, searchable, a page at a time.

import { call, query } from "./api.js"
import { announce, button, el, named, newId, problem, redraw, thumbnail } from "./dom.js"
import { openEnroll } from "./enroll.js"
import { counted, holdings } from "./format.js"
import { isWaiting } from "./pending_deletes.js"

const PAGE = 60

export async function showIdentities(context) {
  const { main, signal } = context
  const searchId = newId()
  const search = el("input", { id: searchId, type: "search", dir: "auto", autocomplete: "off", enterkeyhint: "search" })
  const count = el("p", { class: "aside", id: newId() })
  const list = el("ul", { class: "identities", "aria-describedby": count.id })
  const more = button("Show more", () => load({ after: next }), { hidden: true })
  const trouble = el("div")
  const enroll = context.canWrite && button("Enroll", async () => {
    const done = await openEnroll(context)
    if (done) location.hash = `#/identities/${done.id}`
  }, { class: "primary" })
  main.replaceChildren(
    el("h1", { tabindex: "-1" }, "Identities"),
    el("div", { class: "toolbar" },
      el("div", { class: "field" }, el("label", { for: searchId }, "Search by name"), search), enroll || ""),
    count, trouble, list, el("div", { class: "buttons" }, more),
  )
  let next = null
  let total = 0
  let asked = 0
  let seen = []

  async function load({ after = null, quietly = false } = {}) {
    const number = ++asked
    try {
      // Counts change while the page is open: what is shown again has as many as were shown before.
      const limit = after ? PAGE : Math.min(500, Math.max(PAGE, quietly ? seen.length : 0))
      const found = await call("GET", `identities${query({ search: search.value.trim(), after, limit })}`, { signal })
      if (number !== asked) return
      trouble.replaceChildren()
      const first = after ? seen.length : 0
      seen = after ? [...seen, ...found.identities] : found.identities
      next = found.next
      total = found.total
      draw()
      if (after) list.children[first]?.querySelector("a")?.focus()
      if (!quietly) announce(count.textContent)
    } catch (error) {
      if (error.name === "AbortError") return
      trouble.replaceChildren(problem(error, () => load({ after })))
    }
  }

  function draw() {
    const shown = seen.filter((one) => !isWaiting(`identities/${one.id}`))
    const all = total - (seen.length - shown.length)
    redraw(list, ...shown.map(card))
    more.hidden = !next
    const matching = search.value.trim() ? " found" : " enrolled"
    count.textContent = counted(all, "identity", "identities") + matching + (next ? `, ${shown.length} shown` : "")
  }

  let timer = null
  search.addEventListener("input", () => {
    clearTimeout(timer)
    timer = setTimeout(load, 200)
  })
  document.addEventListener("changed", () => {
    draw()
    load({ quietly: true })
  }, { signal })
  await load({ quietly: true })
}

function card(one) {
  return el(
    "li", {},
    el("a", { class: "card identity", id: `identity-${one.id}`, href: `#/identities/${one.id}` },
      thumbnail(one.thumbnail, "medium"),
      el("span", {}, el("span", { class: "clamped strong" }, named(one.name)), el("span", { class: "aside" }, holdings(one)))),
  )
}
