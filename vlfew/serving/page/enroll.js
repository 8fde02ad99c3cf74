// Enrolling: a name with images, texts or both.

import { call, newKey, query } from "./api.js"
import { announce, button, el, named, newId, openDialog, preview, problem } from "./dom.js"
import { counted, holdings } from "./format.js"
import { imageInput, whyTooLarge } from "./image_input.js"

/**
 * Asks for what to enroll; resolves to the server's answer, or null where nothing was.
 *
 * @param context with the `name` and `images` to start from.
 */
export async function openEnroll({ settings, name = "", images = [], fixed = false }) {
  let files = []
  let known = null // the identity that has the name already
  let key = newKey() // the same for a request that is sent again, another one where it has changed
  let done = null
  let busy = false
  const listening = new AbortController()
  const { dialog, closed } = openDialog("Enroll")
  dialog.addEventListener("cancel", (event) => busy && event.preventDefault())

  const nameId = newId()
  const hint = el("div", { id: newId(), class: "hint" })
  const nameField = el("input", {
    id: nameId, type: "text", dir: "auto", required: true, autocomplete: "off", value: name, "aria-describedby": hint.id,
    readonly: fixed, oninput: () => nameChanged(),
  })
  const textsId = newId()
  const texts = el("textarea", { id: textsId, rows: "2", dir: "auto", oninput: () => changed() })
  const list = el("ul", { class: "previews", "aria-label": "Images to enroll" })
  const input = imageInput(add, settings, { text: "Drag images here, or paste them", listen: dialog, signal: listening.signal })
  const trouble = el("div")
  const submit = el("button", { class: "primary" }, "Enroll")
  const cancel = button("Cancel", () => dialog.close(), { class: "quiet" })
  const form = el(
    "form", { class: "stack", novalidate: true, onsubmit: (event) => send(event) },
    el("div", { class: "field" }, el("label", { for: nameId }, "Name"), nameField, hint),
    el("div", { class: "field" }, el("span", { class: "label" }, "Images"), input.place, list),
    settings.has_text &&
      el("div", { class: "field" }, el("label", { for: textsId }, "Texts that describe it, one a line"), texts),
    trouble,
    el("div", { class: "buttons" }, submit, cancel),
  )
  dialog.append(form)

  function add(more) {
    files = [...files, ...more]
    changed()
    listImages()
  }

  function listImages(errors = []) {
    list.replaceChildren(
      ...files.map((file, number) => {
        const wrong = errors.find((error) => error.image === file.name)?.detail ?? whyTooLarge(file, settings.limits)
        const remove = button("Remove", () => {
          files = files.filter((_, other) => other !== number)
          changed()
          listImages()
          list.querySelectorAll("button")[Math.min(number, files.length - 1)]?.focus() ?? input.focus()
        }, { class: "quiet", "aria-label": `Remove ${file.name}` })
        return el("li", {}, preview(file), el("span", { class: "one-line" }, named(file.name)), remove, wrong && el("p", { class: "wrong" }, wrong))
      }),
    )
  }

  function changed() {
    key = newKey()
    trouble.replaceChildren()
  }

  const typedName = () => nameField.value.normalize("NFC").trim()

  let asked = 0
  let timer = null
  function nameChanged() {
    changed()
    asked++ // an answer that is on its way is about another name
    if (known) {
      known = null
      showKnown()
    }
    clearTimeout(timer)
    timer = setTimeout(lookUp, 250)
  }

  /** Whether the name is taken, so that adding or replacing is said before anything is sent. */
  async function lookUp() {
    const wanted = typedName()
    const number = ++asked
    let found = null
    try {
      found = wanted ? await findByName(wanted) : null
    } catch {
      return // the server says it when it enrolls
    }
    if (number !== asked) return
    if (found?.id !== known?.id || (found === null) !== (known === null)) {
      known = found
      showKnown()
    }
  }

  function showKnown() {
    hint.replaceChildren()
    submit.textContent = known ? "Add" : "Enroll"
    if (!known) return
    const choice = (value, label) =>
      el("label", { class: "choice" }, el("input", {
        type: "radio", name: "replace", value, checked: value === "add",
        onchange: () => {
          key = newKey()
          submit.textContent = value === "add" ? "Add" : "Replace"
        },
      }), label)
    hint.append(
      el("fieldset", {}, el("legend", {}, named(known.name), ` is enrolled with ${holdings(known)}.`),
        choice("add", "Add to what is there"), choice("replace", "Replace what is there")),
    )
  }

  async function send(event) {
    event.preventDefault()
    trouble.replaceChildren()
    const lines = texts.value.split("\n").map((line) => line.trim()).filter(Boolean)
    if (!nameField.value.trim()) return refuse("Give a name.", nameField)
    if (!files.length && !lines.length) return refuse(settings.has_text ? "Give images, texts or both." : "Give an image.", input)
    if (files.some((file) => whyTooLarge(file, settings.limits))) return refuse("Remove the images that are too large.", input)
    const chosen = form.querySelector("input[name=replace]:checked")?.value
    const replace = chosen === "replace" && known?.name === typedName() // never what another identity holds
    const body = new FormData()
    body.append("name", nameField.value)
    body.append("replace", String(replace))
    for (const file of files) body.append("images", file, file.name)
    for (const line of lines) body.append("texts", line)
    busy = submit.disabled = cancel.disabled = true
    submit.textContent = "Enrolling…"
    try {
      done = await call("POST", "identities", { form: body, headers: { "Idempotency-Key": key } })
      document.dispatchEvent(new CustomEvent("changed"))
      dialog.close()
    } catch (error) {
      trouble.replaceChildren(problem(error))
      if (error.errors?.length) listImages(error.errors)
    } finally {
      busy = submit.disabled = cancel.disabled = false
      submit.textContent = known ? (replace ? "Replace" : "Add") : "Enroll"
    }
  }

  function refuse(text, field) {
    trouble.replaceChildren(problem(new Error(text)))
    field.focus()
  }

  files = [...images]
  listImages()
  if (name) lookUp()
  nameField.focus()
  await closed
  clearTimeout(timer)
  listening.abort()
  if (!done) return null
  const what = counted(done.added ?? done.item_ids.length, "item")
  announce(`${done.name}: ${what} ${done.created ? "enrolled" : "added"}. ${(done.warnings ?? []).join(" ")}`)
  if (done.warnings?.length) await warn(done)
  return done
}

/** The identity with exactly this name; null where there is none. */
async function findByName(wanted) {
  const { identities } = await call("GET", `identities${query({ name: wanted })}`)
  return identities[0] ?? null
}

async function warn(done) {
  const { dialog, closed } = openDialog(
    done.created ? "Enrolled, but look at this" : "Added, but look at this",
    el("ul", { class: "lines" }, done.warnings.map((line) => el("li", {}, line))),
    el("div", { class: "buttons" }, button("Close", () => dialog.close(), { class: "primary" })),
  )
  await closed
}
