// The page: which view is shown, who is signed in, and whether the server is there.

import { Problem, call } from "./api.js"
import { announce, button, el, problem } from "./dom.js"
import { counted } from "./format.js"
import { showIdentify } from "./identify.js"
import { showIdentities } from "./identities.js"
import { showIdentity } from "./identity.js"
import { showLookAlikes } from "./look_alikes.js"
import { sendAll } from "./pending_deletes.js"
import { showSignIn } from "./sign_in.js"
import { showThresholds } from "./thresholds.js"

const VIEWS = {
  identify: { title: "Identify", show: showIdentify },
  identities: { title: "Identities", show: showIdentities },
  identity: { title: "Identity", show: showIdentity },
  thresholds: { title: "Thresholds", show: showThresholds },
  "look-alikes": { title: "Look-alikes", show: showLookAlikes },
}
const main = document.getElementById("main")
let settings = null
let shown = new AbortController()

/** The view of the address: `#/identities/3` is that of one identity. */
function route() {
  const [name, id] = location.hash.replace(/^#\/?/, "").split("/")
  if (name === "identities" && id) return ["identity", decodeURIComponent(id)]
  return [name in VIEWS ? name : "identify", null]
}

async function render({ focus = true } = {}) {
  shown.abort()
  shown = new AbortController()
  const { signal } = shown
  try {
    settings = await call("GET", "settings", { signal })
  } catch (error) {
    if (error.name !== "AbortError") main.replaceChildren(problem(error, () => render()))
    return
  }
  if (signal.aborted) return
  const locked = settings.key_required && !settings.signed_in
  describe(locked)
  if (locked) return showSignIn(main, () => render())
  if (settings.gallery === undefined) {
    main.replaceChildren(el("h1", { tabindex: "-1" }, "Nothing to see"), el("p", { class: "lead" }, "This key may not read the gallery."))
    return
  }
  const [name, id] = route()
  for (const link of document.querySelectorAll("#nav a")) {
    const current = link.hash === `#/${name === "identity" ? "identities" : name}`
    link.toggleAttribute("aria-current", false)
    if (current) link.setAttribute("aria-current", "page")
  }
  const context = {
    main,
    settings,
    signal,
    canWrite: !settings.read_only && (settings.scopes ?? []).includes("write"),
    setTitle: (title) => (document.title = `${title} · ${settings.gallery}`),
    refresh: () => render({ focus: false }),
  }
  context.setTitle(VIEWS[name].title)
  try {
    await VIEWS[name].show(context, id)
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return
    const message = error instanceof Problem ? error : new Problem(`The page has an error: ${error.message}`, 0)
    main.replaceChildren(el("h1", { tabindex: "-1" }, VIEWS[name].title), problem(message, () => render()))
  }
  if (focus && !signal.aborted && !document.querySelector("dialog[open]")) main.querySelector("h1")?.focus()
}

/** The parts around the view. */
function describe(locked) {
  const closed = locked || settings.gallery === undefined
  document.getElementById("nav").hidden = closed
  document.getElementById("sign-out").hidden = locked || !settings.key_required
  const gallery = document.getElementById("gallery")
  gallery.textContent = closed ? "vlfew gallery" : settings.gallery
  const about = [`vlfew ${settings.version}`]
  if (!closed) {
    about.unshift(counted(settings.identities, "identity", "identities"), counted(settings.items, "item"))
    if (settings.model) about.push(`model ${settings.model}`)
    if (settings.read_only || !settings.scopes?.includes("write")) about.push("read only")
  }
  document.getElementById("about").replaceChildren(...about.map((part) => el("span", {}, part)))
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault() // the address is the view's
  main.focus()
})
document.getElementById("sign-out").addEventListener("click", async () => {
  await sendAll()
  await call("DELETE", "session").catch(() => null)
  document.dispatchEvent(new CustomEvent("forget"))
  await render()
  announce("Signed out.")
})
document.addEventListener("signed-out", () => {
  if (settings?.signed_in) {
    settings.signed_in = false // once for all requests that are refused
    document.dispatchEvent(new CustomEvent("forget"))
    render()
  }
})

/** The numbers below the page follow what was enrolled and deleted. */
document.addEventListener("changed", async () => {
  if (!settings) return
  settings = await call("GET", "settings").catch(() => settings)
  if (!settings.key_required || settings.signed_in) describe(false)
})
// An image that is dropped beside its place would take the page away.
for (const kind of ["dragover", "drop"]) {
  addEventListener(kind, (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault())
}

const offline = document.getElementById("offline")
document.addEventListener("server-gone", () => {
  if (offline.firstChild || !settings) return
  const again = button("Try again", () => render(), { class: "quiet" })
  offline.append(
    el("div", { class: "problem", role: "alert" }, el("p", {}, "The server does not answer. What you see may be out of date."), again),
  )
})
document.addEventListener("server-here", () => offline.replaceChildren())
addEventListener("hashchange", () => render())
render({ focus: false })
