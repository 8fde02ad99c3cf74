// Numbers and counts in words.

export function score(value) {
  return value.toFixed(3)
}

/** A fraction in percent, with two digits that count. */
export function percent(fraction) {
  const value = 100 * fraction
  if (value === 0) return "0%"
  if (value > 99.9 && value < 100) return "over 99.9%"
  if (value < 0.01) return `${value.toPrecision(1)}%`
  return `${Number(value.toPrecision(value >= 10 ? 3 : 2))}%`
}

export function counted(count, noun, plural = `${noun}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? noun : plural}`
}

/** "4 images, 1 text" */
export function holdings({ images, texts }) {
  const parts = []
  if (images || !texts) parts.push(counted(images, "image"))
  if (texts) parts.push(counted(texts, "text"))
  return parts.join(", ")
}

export function megabytes(bytes) {
  return `${Number((bytes / 2 ** 20).toPrecision(2))}\u00a0MB`
}

export function date(text) {
  const when = new Date(text)
  return Number.isNaN(when.getTime()) ? "" : when.toLocaleDateString("en", { dateStyle: "medium" })
}

export const SUPPORT = { image: "Identities of images", text: "Identities of texts", both: "Identities of images and texts" }
