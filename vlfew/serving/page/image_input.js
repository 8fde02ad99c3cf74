// Where images come in: chosen, dragged, pasted, or from the camera.

import { button, el, newId } from "./dom.js"
import { takePhoto, whyNoCamera } from "./camera.js"
import { megabytes } from "./format.js"

/** Image files of a drop or a paste; other things are left alone. */
export function filesOf(transfer) {
  return transfer ? [...transfer.files] : []
}

/** Why the server would not take a file, known without asking it; null where it may. */
export function whyTooLarge(file, limits) {
  if (!limits?.bytes || file.size <= limits.bytes) return null
  return `${megabytes(file.size)} is more than the ${megabytes(limits.bytes)} that the server takes`
}

/**
 * A place for images.
 *
 * @param take is called with a list of files.
 * @param settings of the server, for the formats and limits that are said.
 * @param listen is the element where drops are heard; `signal` ends it.
 */
export function imageInput(take, settings, { text, listen, signal, main = false }) {
  const input = el("input", { type: "file", accept: "image/*", multiple: true, class: "unseen", id: newId(), tabindex: "-1", "aria-hidden": "true" })
  input.addEventListener("change", () => {
    const files = [...input.files]
    input.value = "" // so that the same file can be chosen again
    if (files.length) take(files)
  })
  const noCamera = whyNoCamera()
  const choose = button("Choose images", () => input.click(), { class: main ? "primary" : "" })
  const camera = noCamera ? null : button("Use the camera", async () => {
    const photo = await takePhoto()
    if (photo) take([photo])
  })
  const limits = settings.limits ?? {}
  const said = [
    settings.formats?.length ? settings.formats.join(", ") : "",
    limits.bytes ? `up to ${megabytes(limits.bytes)} each` : "",
  ].filter(Boolean).join("; ")
  const place = el(
    "div", { class: "drop" },
    el("p", { class: "drop-text" }, text),
    el("div", { class: "buttons" }, choose, camera, input),
    el("p", { class: "aside" }, said ? `${said}. ` : "", noCamera ?? ""),
  )
  let depth = 0
  const over = (inside) => place.classList.toggle("over", inside)
  listen.addEventListener("dragenter", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return
    event.preventDefault()
    depth += 1
    over(true)
  }, { signal })
  listen.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1)
    over(depth > 0)
  }, { signal })
  listen.addEventListener("dragover", (event) => {
    if (event.dataTransfer?.types.includes("Files")) event.preventDefault()
  }, { signal })
  listen.addEventListener("drop", (event) => {
    depth = 0
    over(false)
    if (event.defaultPrevented || blocked(listen)) return
    event.preventDefault() // or the browser would leave the page to show the image
    const files = filesOf(event.dataTransfer)
    if (files.length) take(files)
  }, { signal })
  addEventListener("paste", (event) => {
    if (event.defaultPrevented || blocked(listen)) return
    const files = filesOf(event.clipboardData)
    if (!files.length) return
    event.preventDefault()
    take(files)
  }, { signal })
  return { place, focus: () => choose.focus() }
}

/** Whether a dialog lies over the place, which then hears nothing. */
function blocked(listen) {
  const open = [...document.querySelectorAll("dialog[open]")].at(-1)
  return open !== undefined && !open.contains(listen)
}
