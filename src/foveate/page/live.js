// --- images that the user gives: the server finds the objects, the page shows its own copy

const KEPT = 50;
let key = "", camera = null, queue = Promise.resolve();
const chooser = create("input", { type: "file", accept: "image/*", multiple: "", id: "chooser", class: "hidden" });
const chooseButton = create("button", { type: "button" }, "Choose images");
const cameraButton = create("button", { type: "button", "aria-pressed": "false" }, "Camera");
const video = create("video", { muted: "", playsinline: "" });
const keyInput = create("input", { type: "password", name: "key", autocomplete: "current-password", "aria-label": "Key" });
const keyDialog = create("dialog", { id: "key" }, create("form", { method: "dialog" },
  create("label", {}, "This server asks for a key."), keyInput, create("button", { value: "use" }, "Use this key")));
$("sources").append(chooseButton, chooser, cameraButton);
$("sources").hidden = false;
const chooseLink = create("button", { type: "button" }, "choose one");
$("empty").replaceChildren("Drop an image here, paste one, or ", chooseLink, ". It is sent to the server that this page came from, and nowhere else.");
document.body.append(keyDialog);

function showMessage(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

// Returns the record of an image, and asks for the key as long as the server refuses the one it got.
async function findObjects(blob) {
  for (;;) {
    const headers = { "Content-Type": "application/octet-stream" };  // the file as it is
    if (key) headers.Authorization = `Bearer ${key}`;
    const response = await fetch("v1/page", { method: "POST", body: blob, headers });
    if (response.ok) return response.json();
    if (response.status !== 401 || !await askKey()) throw new Error(await reasonOf(response));
  }
}

function askKey() {
  keyInput.value = keyDialog.returnValue = "";
  keyDialog.showModal();
  return new Promise(resolve => keyDialog.addEventListener("close", () => {
    if (keyDialog.returnValue === "use") key = keyInput.value;
    resolve(keyDialog.returnValue === "use");
  }, { once: true }));
}

async function reasonOf(response) {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text);
    return error.message ?? JSON.stringify(error);
  } catch {
    return text.trim().slice(0, 300) || `the server answered with status ${response.status}`;
  }
}

async function send(file) {
  document.body.classList.add("busy");
  try {
    const found = await findObjects(file), url = URL.createObjectURL(file);
    const answer = { ...found, name: file.name || "pasted image" };
    addEntry({ name: answer.name, image: url, thumbnail: url, read: () => answer });
    showMessage("");
  } catch (error) {
    showMessage(`${file.name || "The image"}: ${error.message}`);
  } finally {
    document.body.classList.remove("busy");
  }
}

function sendAll(files) {
  stopCamera();
  for (const file of files) queue = queue.then(() => send(file));
}

function addEntry(entry) {
  if (entries.length === KEPT) {
    URL.revokeObjectURL(entries.shift().image);
    $("images").firstChild.remove();
  }
  entries.push(entry);
  addThumbnail(entry);
  openImage(entries.length - 1);
}

image.addEventListener("error", () => showMessage(`${image.alt}: the browser cannot show this kind of image; the outlines are still right.`));

// --- camera: the next frame is taken when the answer for the last one is there

async function startCamera() {
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    showMessage(`The camera cannot be used: ${error.message}`);
    return;
  }
  cameraButton.setAttribute("aria-pressed", "true");
  video.srcObject = camera;
  await video.play();
  const own = camera;
  while (camera === own) {
    const frame = await grab();
    try {
      const found = await findObjects(frame);
      if (camera === own) showFrame(frame, found);
      showMessage("");
    } catch (error) {
      showMessage(`Camera: ${error.message}`);
      await new Promise(resolve => setTimeout(resolve, 1000));
    }
  }
}

function stopCamera() {
  camera?.getTracks().forEach(track => track.stop());
  camera = null;
  cameraButton.setAttribute("aria-pressed", "false");
}

function grab() {
  const canvas = create("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise(resolve => canvas.toBlob(resolve, "image/jpeg", 0.9));
}

// All frames are one image of the page.
function showFrame(frame, found) {
  const answer = { ...found, name: "camera" }, url = URL.createObjectURL(frame), at = entries.findIndex(one => one.camera);
  if (at < 0) return addEntry({ name: "camera", image: url, thumbnail: "", camera: true, read: () => answer });
  const last = entries[at].image;
  Object.assign(entries[at], { image: url, read: () => answer });
  openImage(at);
  URL.revokeObjectURL(last);
}

chooseButton.onclick = chooseLink.onclick = () => chooser.click();
chooser.onchange = () => { sendAll(chooser.files); chooser.value = ""; };
cameraButton.onclick = () => camera ? stopCamera() : startCamera();
addEventListener("paste", event => sendAll([...event.clipboardData.files]));
addEventListener("dragover", event => { event.preventDefault(); document.body.classList.add("drop"); });
addEventListener("dragleave", event => event.relatedTarget ?? document.body.classList.remove("drop"));
addEventListener("drop", event => {
  event.preventDefault();
  document.body.classList.remove("drop");
  sendAll([...event.dataTransfer.files]);
});
