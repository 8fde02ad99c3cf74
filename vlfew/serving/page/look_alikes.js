// Identities that may be confused, and images that may be enrolled twice.

import { call } from "./api.js"
import { button, el, missing, named, newId, redraw, thumbnail } from "./dom.js"
import { score } from "./format.js"
import { deleteLater, isWaiting } from "./pending_deletes.js"

export async function showLookAlikes(context) {
  const { main, signal } = context
  const places = { duplicates: el("div"), pairs: el("div") }
  main.replaceChildren(
    el("h1", { tabindex: "-1" }, "Look-alikes"),
    section("Probable duplicates", "The same or nearly the same image under two names: somebody may be enrolled twice.", places.duplicates),
    section("Closest identities", "Different identities whose scores with one another are highest: those most easily confused.", places.pairs),
  )

  async function load() {
    await Promise.all([
      part(places.pairs, "look-alikes", ({ pairs }) => lookAlikes(pairs, context)),
      part(places.duplicates, "duplicates", (found) => duplicates(found, context)),
    ])
  }

  /** One half of the page: the other is shown even where this one fails. */
  async function part(place, path, draw) {
    if (!place.firstChild) place.replaceChildren(el("p", { class: "aside" }, "looking…"))
    try {
      const found = await call("GET", path, { signal })
      redraw(place, draw(found))
    } catch (error) {
      if (error.name !== "AbortError") place.replaceChildren(missing(error, () => part(place, path, draw)))
    }
  }

  document.addEventListener("changed", load, { signal })
  await load()
}

function section(title, lead, content) {
  const heading = newId()
  return el("section", { "aria-labelledby": heading }, el("h2", { id: heading }, title), el("p", { class: "intro" }, lead), content)
}

/** Both sides of a pair are still there. */
function there(...sides) {
  return sides.every(({ id, item }) => !isWaiting(`identities/${id}`) && !(item && isWaiting(`items/${item}`)))
}

function lookAlikes(pairs, { canWrite }) {
  const shown = pairs.filter(({ a, b }) => there(a, b))
  if (!shown.length) return el("p", { class: "aside" }, "There are no two identities to compare.")
  const side = (one, id) => el("div", { class: "side" },
    thumbnail(one.thumbnail, "large"), link(one),
    canWrite && button("Delete", () => deleteLater(`identities/${one.id}`, one.name), {
      class: "danger quiet", id, "aria-label": `Delete the identity ${one.name}`,
    }))
  return el("ol", { class: "look-alikes" },
    shown.map(({ score: value, a, b }) => {
      const pair = `pair-${a.id}-${b.id}`
      return el("li", { class: "card" }, el("p", { class: "aside" }, "score ", el("b", {}, score(value))), el("div", { class: "sides" }, side(a, `${pair}-a`), side(b, `${pair}-b`)))
    }))
}

function duplicates({ same_image: same, near }, { canWrite }) {
  const side = (one) => el("div", { class: "side" },
    thumbnail(one.item, "large"), link(one),
    canWrite && button("Delete image", () => deleteLater(`items/${one.item}`, one.name, "An image of "), {
      class: "danger quiet", id: `duplicate-${one.item}`, "aria-label": `Delete this image of ${one.name}`,
    }))
  const groups = [
    ...same.map(({ identities }) => ["the same image", null, identities]),
    ...near.map(({ score: value, a, b }) => ["score ", score(value), [a, b]]),
  ].map(([text, value, sides]) => [text, value, sides.filter((one) => there(one))]).filter(([, , sides]) => sides.length > 1)
  if (!groups.length) return el("p", { class: "aside" }, "None was found.")
  return el("ol", { class: "look-alikes" },
    groups.map(([text, value, sides]) =>
      el("li", { class: "card" }, el("p", { class: "aside" }, text, value && el("b", {}, value)), el("div", { class: "sides" }, sides.map((one) => side(one))))))
}

function link(one) {
  return el("a", { href: `#/identities/${one.id}`, class: "clamped" }, named(one.name))
}
