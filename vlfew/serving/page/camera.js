// A photo from the camera, where the browser gives one.

import { button, el, openDialog } from "./dom.js"

/** Why there is no camera; null where there may be one. */
export function whyNoCamera() {
  if (!isSecureContext) return "The camera needs HTTPS or localhost; on a phone, “Choose images” offers it too."
  return navigator.mediaDevices?.getUserMedia ? null : "This browser gives no camera."
}

const REASONS = {
  NotAllowedError: "The browser was not allowed to use the camera: allow it in the settings of this site.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera is in use by another program.",
}

/** Lets a photo be taken; resolves to a JPEG file, or null where none was. */
export async function takePhoto() {
  let stream = null
  let taken = null
  let facing = "user"
  const video = el("video", { class: "camera", autoplay: true, playsinline: true, "aria-label": "What the camera sees" })
  video.muted = true
  const trouble = el("p", { role: "alert" })
  const take = button("Take the photo", () => shoot(), { class: "primary", disabled: true })
  const turn = button("Other camera", () => {
    facing = facing === "user" ? "environment" : "user"
    start()
  }, { hidden: true })
  const { dialog, closed } = openDialog(
    "Camera", video, trouble,
    el("div", { class: "buttons" }, take, turn, button("Cancel", () => dialog.close(), { class: "quiet" })),
  )

  async function start() {
    stop()
    trouble.textContent = ""
    try {
      const found = await navigator.mediaDevices.getUserMedia({ video: { facingMode: facing, width: { ideal: 1280 } } })
      if (!dialog.isConnected) return found.getTracks().forEach((track) => track.stop())
      stream = found
      video.srcObject = stream
      video.classList.toggle("mirrored", facing === "user")
      await video.play()
      take.disabled = false
      const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput")
      turn.hidden = cameras.length < 2
    } catch (error) {
      if (dialog.isConnected) trouble.textContent = REASONS[error.name] ?? `The camera cannot be used: ${error.message}`
    }
  }

  function stop() {
    take.disabled = true
    stream?.getTracks().forEach((track) => track.stop())
    stream = null
  }

  async function shoot() {
    const canvas = el("canvas", { width: video.videoWidth, height: video.videoHeight })
    canvas.getContext("2d").drawImage(video, 0, 0)
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95))
    const time = new Date().toTimeString().slice(0, 8).replaceAll(":", ".")
    taken = new File([blob], `camera ${time}.jpg`, { type: "image/jpeg" })
    dialog.close()
  }

  start()
  await closed
  stop()
  return taken
}
