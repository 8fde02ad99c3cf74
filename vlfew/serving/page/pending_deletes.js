// Deletions wait ten seconds here, in the browser, where they can be undone; once sent they are final.
// Who leaves the page has not undone them: they are sent at once.

import { Problem, call } from "./api.js"
import { announce, button, el, named } from "./dom.js"

const SECONDS = 10
const waiting = new Map()

/** Whether what is at a path (`identities/3`, `items/7`) waits to be deleted. */
export function isWaiting(path) {
  return waiting.has(path)
}

/**
 * Deletes what is at a path, in ten seconds.
 *
 * `changed` is dispatched on the document when it starts to wait, is undone and is gone.
 */
export function deleteLater(path, name, what = "") {
  if (waiting.has(path)) return
  const seconds = el("span", { class: "number", "aria-hidden": "true" }, `${SECONDS} s`)
  const status = el("p", {}, what, named(name), " will be deleted ", seconds)
  const undo = button("Undo", () => cancel(path), { class: "primary" })
  const now = button("Delete now", () => send(path), { class: "quiet" })
  const bar = el("div", { class: "undo", role: "group", "aria-label": `Delete ${name}` }, status, undo, now)
  const entry = { path, name, bar, seconds, left: SECONDS, sent: false }
  entry.timer = setInterval(() => {
    entry.left -= 1
    seconds.textContent = `in ${entry.left} s`
    if (entry.left <= 0) send(path)
  }, 1000)
  seconds.textContent = `in ${SECONDS} s`
  waiting.set(path, entry)
  document.getElementById("undo").append(bar)
  announce(`${what}${name} will be deleted in ${SECONDS} seconds.`)
  changed()
  undo.focus()
}

function cancel(path) {
  const entry = waiting.get(path)
  if (!entry || entry.sent) return
  finish(entry)
  announce(`${entry.name} is not deleted.`)
}

async function send(path) {
  const entry = waiting.get(path)
  if (!entry || entry.sent) return
  entry.sent = true
  clearInterval(entry.timer)
  try {
    await call("DELETE", path, { keepalive: true })
  } catch (error) {
    if (error.status !== 404) return failed(entry, error)
  }
  finish(entry)
  announce(`${entry.name} is deleted.`)
}

/** It is still there: says why, and lets it be tried again or given up. */
function failed(entry, error) {
  const text = error instanceof Problem ? error.message : String(error)
  entry.sent = false
  const again = button("Try again", () => send(entry.path), { class: "primary" })
  const keep = button("Keep it", () => cancel(entry.path), { class: "quiet" })
  const line = el("p", { role: "alert" }, named(entry.name), ` is not deleted: ${text}`)
  entry.bar.replaceChildren(line, again, keep)
}

function finish(entry) {
  const focused = entry.bar.contains(document.activeElement)
  clearInterval(entry.timer)
  waiting.delete(entry.path)
  entry.bar.remove()
  changed()
  if (focused) document.querySelector("main h1")?.focus()
}

function changed() {
  document.dispatchEvent(new CustomEvent("changed"))
}

/** Sends all that wait; resolves when they are answered. */
export function sendAll() {
  return Promise.all([...waiting.keys()].map(send))
}
addEventListener("pagehide", sendAll)
document.addEventListener("freeze", sendAll) // a phone may end a frozen page without another word
