// One identity and what it is made of.

import { call } from "./api.js"
import { announce, button, el, named, newId, openDialog, problem, redraw, thumbnail } from "./dom.js"
import { openEnroll } from "./enroll.js"
import { date, holdings } from "./format.js"
import { deleteLater, isWaiting } from "./pending_deletes.js"

export async function showIdentity(context, id) {
  const { main, signal, canWrite } = context
  let identity = null

  async function load() {
    identity = await call("GET", `identities/${encodeURIComponent(id)}`, { signal })
    draw()
  }

  function draw() {
    context.setTitle(identity.name)
    const { name, items } = identity
    const path = `identities/${identity.id}`
    const waiting = isWaiting(path)
    const shown = items.filter((item) => !isWaiting(`items/${item.id}`))
    const images = shown.filter((item) => item.kind === "image")
    const texts = shown.filter((item) => item.kind === "text")
    const title = el("h1", { tabindex: "-1", id: "title", class: name.length > 40 ? "long" : "" }, named(name))
    const actions = canWrite && !waiting && el("div", { class: "buttons" },
      button(context.settings.has_text ? "Add images or texts" : "Add images", add, { id: "add" }),
      button("Rename", rename, { id: "rename" }),
      button("Delete", () => deleteLater(path, name), { class: "danger", id: "delete" }))
    const parts = [
      el("p", { class: "kicker" }, el("a", { href: "#/identities" }, "Identities")),
      title,
      el("p", { class: "lead" }, holdings({ images: images.length, texts: texts.length }),
        identity.created ? `, enrolled ${date(identity.created)}` : ""),
      waiting ? el("p", { class: "note" }, "This identity waits to be deleted; it can be undone below.") : actions || "",
    ]
    if (images.length) parts.push(section("Images", el("ul", { class: "items" }, images.map(imageItem))))
    if (texts.length) parts.push(section("Texts", el("ul", { class: "texts" }, texts.map(textItem))))
    redraw(main, ...parts)
  }

  function imageItem(item) {
    const label = fileName(item.source) || `image ${item.id}`
    return el("li", {},
      thumbnail(item.thumbnail ? item.id : null, "large"),
      el("span", { class: "clamped file" }, named(label)),
      canWrite && button("Delete", () => deleteLater(`items/${item.id}`, label, "Image "), {
        class: "danger quiet", id: `delete-${item.id}`, "aria-label": `Delete ${label}`,
      }))
  }

  function textItem(item) {
    return el("li", { class: "card" }, el("p", { dir: "auto" }, item.text),
      canWrite && button("Delete", () => deleteLater(`items/${item.id}`, item.text, "Text "), {
        class: "danger quiet", id: `delete-${item.id}`, "aria-label": `Delete the text ${item.text}`,
      }))
  }

  async function add() {
    await openEnroll({ ...context, name: identity.name, fixed: true })
  }

  async function rename() {
    const renamed = await openRename(identity)
    if (!renamed) return
    identity = { ...identity, name: renamed.name }
    draw()
    announce(`Renamed to ${renamed.name}.`)
  }

  document.addEventListener("changed", () => {
    draw()
    load().catch((error) => {
      if (error.name === "AbortError") return
      if (error.status === 404) location.hash = "#/identities" // it was deleted
      else main.append(problem(error, () => context.refresh()))
    })
  }, { signal })
  await load()
}

function section(title, content) {
  const heading = newId()
  return el("section", { "aria-labelledby": heading }, el("h2", { id: heading }, title), content)
}

function fileName(source) {
  return source ? source.split(/[\\/]/).at(-1) : ""
}

async function openRename(identity) {
  let renamed = null
  const [id, errors] = [newId(), newId()]
  const field = el("input", { id, type: "text", dir: "auto", value: identity.name, required: true, autocomplete: "off", "aria-describedby": errors })
  const trouble = el("div", { id: errors })
  const submit = el("button", { class: "primary" }, "Rename")
  const { dialog, closed } = openDialog("Rename")
  const send = async (event) => {
    event.preventDefault()
    trouble.replaceChildren()
    submit.disabled = true
    try {
      renamed = await call("PATCH", `identities/${identity.id}`, { json: { name: field.value } })
      dialog.close()
    } catch (error) {
      trouble.replaceChildren(problem(error))
      field.focus()
    } finally {
      submit.disabled = false
    }
  }
  dialog.append(
    el("form", { class: "stack", onsubmit: send },
      el("div", { class: "field" }, el("label", { for: id }, "New name"), field), trouble,
      el("div", { class: "buttons" }, submit, button("Cancel", () => dialog.close(), { class: "quiet" }))),
  )
  field.select()
  await closed
  return renamed
}
