// Elements are made here, never from markup, so that a name with HTML in it stays text.

const SVG = "http://www.w3.org/2000/svg"

/** An element; attributes that are functions listen to events, false and null leave one out, true is a bare one. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children)
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children)
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue
    if (typeof value === "function") element.addEventListener(key.slice(2), value)
    else element.setAttribute(key, value === true ? "" : value)
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false))
  return element
}

/** A name of an identity or a file: isolated, since it may be written from right to left. */
export function named(name) {
  return el("bdi", { class: "name" }, name)
}

export function button(label, action, attributes = {}) {
  return el("button", { type: "button", onclick: action, ...attributes }, label)
}

/** Why there is nothing to show: too few images are a state of the gallery, not a mistake. */
export function missing(error, retry) {
  return error.status === 409 ? el("p", { class: "note" }, error.message) : problem(error, retry)
}

let unsaid = []
/** Says something to screen readers; what comes at almost the same time is said together. */
export function announce(text) {
  unsaid.push(text)
  if (unsaid.length > 1) return
  const announcer = document.getElementById("announcer")
  announcer.textContent = "" // the same text twice is read twice only if it was gone in between
  setTimeout(() => {
    announcer.replaceChildren(...unsaid.map((line) => el("p", {}, line)))
    unsaid = []
  }, 120)
}

let last = 0
/** An id for labels. */
export function newId() {
  return `id-${++last}`
}

/** The thumbnail of an item, or an empty place of its size; the name stands next to it, so it has no text of its own. */
export function thumbnail(item, kind = "") {
  if (item === null || item === undefined) return el("span", { class: `thumbnail none ${kind}`, "aria-hidden": "true" })
  const image = el("img", { class: `thumbnail ${kind}`, src: `items/${item}/thumbnail`, alt: "", loading: "lazy" })
  image.addEventListener("error", () => image.replaceWith(thumbnail(null, kind)), { once: true })
  return image
}

/** A preview of a file; its name where the browser cannot draw it. */
export function preview(file) {
  const image = el("img", { class: "preview", alt: file.name, src: URL.createObjectURL(file) })
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true })
  image.addEventListener("error", () => {
    URL.revokeObjectURL(image.src)
    image.replaceWith(el("span", { class: "preview none" }, "no preview"))
  }, { once: true })
  return image
}

/** What went wrong, where it did, with a way to try again if that may help. */
export function problem(error, retry = null) {
  const again = retry && error.passing ? button("Try again", retry, { class: "quiet" }) : null
  return el("div", { class: "problem", role: "alert" }, el("p", {}, error.message), again)
}

/** New content in place of the old; what had the focus keeps it where there still is something with its id. */
export function redraw(place, ...children) {
  const focused = place.contains(document.activeElement) ? document.activeElement.id : ""
  place.replaceChildren(...children)
  if (focused) (document.getElementById(focused) ?? document.querySelector("main h1"))?.focus()
}

/** Shows a dialog with a heading; resolves when it is closed. */
export function openDialog(title, ...children) {
  const heading = newId()
  const dialog = el("dialog", { "aria-labelledby": heading }, el("h2", { id: heading }, title), ...children)
  document.body.append(dialog)
  dialog.showModal()
  const closed = new Promise((resolve) =>
    dialog.addEventListener("close", () => {
      dialog.remove()
      resolve()
    }),
  )
  return { dialog, closed }
}
