// A picture from the camera.

import { button, dialog, h } from "../dom.js";

export const hasCamera = () => Boolean(navigator.mediaDevices?.getUserMedia);

/** Resolves to a JPEG, or null. */
export function takePicture() {
  return new Promise((resolve) => {
    let taken = null;
    let stream = null;
    const video = h("video", { class: "camera", autoplay: true, muted: true, playsinline: "" });
    const note = h("p", { class: "soft", role: "status" }, "Waiting for the camera …");
    const shutter = button("Take the picture", take, { class: "primary", icon: "camera", disabled: true });
    const box = dialog("Camera", [video, note, h("div", { class: "actions" }, shutter)], {
      onclose() {
        stream?.getTracks().forEach((track) => track.stop());
        resolve(taken);
      },
    });

    function take() {
      const canvas = h("canvas");
      [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob((blob) => ((taken = blob), box.close()), "image/jpeg", 0.95);
    }

    navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 1280 } } }).then(
      (found) => {
        stream = found;
        if (!box.element.isConnected) return stream.getTracks().forEach((track) => track.stop());
        video.srcObject = found;
        note.textContent = "Look into the camera; good light from the front helps.";
        shutter.disabled = false;
        shutter.focus();
      },
      (error) => {
        const refused = error.name === "NotAllowedError";
        note.textContent = refused ? "The browser does not allow the camera for this page." : "No camera was found.";
      },
    );
  });
}
