// Sends a file by tus-js-client: prints how many bytes the service has after every piece, and at last where the upload is.
// node tus_client.cjs FILE ENDPOINT KEY MEMORY; MEMORY remembers uploads that are not finished, and is gone on from.
const fs = require("node:fs");
const path = require("node:path");
const tus = require("tus-js-client");

const [file, endpoint, key, memory] = process.argv.slice(2);
const upload = new tus.Upload(fs.createReadStream(file), {
  endpoint,
  chunkSize: 2 ** 20,
  retryDelays: [100, 200, 400, 800, 1600, 3200, 6400],
  headers: { Authorization: `Bearer ${key}` },
  metadata: { filename: path.basename(file) },
  urlStorage: new tus.FileUrlStorage(memory),
  onBeforeRequest: () => new Promise((resolve) => setTimeout(resolve, 20)), // slow enough to be killed in the middle
  onChunkComplete: (_, taken) => console.log(taken),
  onSuccess: () => console.log(upload.url),
  onError: (error) => {
    console.error(String(error));
    process.exitCode = 1;
  },
});
upload.findPreviousUploads().then((found) => {
  if (found.length > 0) upload.resumeFromPreviousUpload(found[0]);
  upload.start();
});
