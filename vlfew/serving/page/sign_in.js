// The key of the gallery, kept by the browser in a cookie that scripts cannot read.

import { call } from "./api.js"
import { el, newId, problem } from "./dom.js"

export function showSignIn(main, done) {
  document.title = "Sign in · vlfew gallery"
  const [id, errors] = [newId(), newId()]
  const key = el("input", {
    id,
    type: "password",
    name: "key",
    required: true,
    autocomplete: "current-password",
    "aria-describedby": errors,
  })
  const place = el("div", { id: errors })
  const submit = el("button", { class: "primary" }, "Sign in")
  const form = el(
    "form",
    {
      class: "card narrow stack",
      onsubmit: async (event) => {
        event.preventDefault()
        place.replaceChildren()
        submit.disabled = true
        try {
          await call("POST", "session", { json: { key: key.value.trim() } })
          await done()
        } catch (error) {
          place.replaceChildren(problem(error))
          key.focus()
        } finally {
          submit.disabled = false
        }
      },
    },
    el("div", { class: "field" }, el("label", { for: id }, "Key"), key),
    place,
    el("div", {}, submit),
  )
  const lead = el("p", { class: "lead" }, "This gallery is protected by a key. Whoever runs the server has it.")
  main.replaceChildren(el("h1", { tabindex: "-1" }, "Sign in"), lead, form)
  key.focus()
}
