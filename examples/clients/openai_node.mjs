// OpenAI's client for JavaScript: an image, an edit, a stream.
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none" });
const { data } = await client.images.generate({ model: "gpt-image-1-mini", prompt: "a red apple", size: "512x512" });
const file = await toFile(Buffer.from(data[0].b64_json, "base64"), "apple.png", { type: "image/png" });
const edited = await client.images.edit({ model: "gpt-image-1", image: [file, file], prompt: "a green apple" });
const events = [];
for await (const event of await client.images.generate({ prompt: "a red apple", stream: true, partial_images: 1 })) events.push(event.type);
console.log(JSON.stringify({
  sent: "generate, edit of two images, stream with a partial image",
  got: `${data.length} image, ${edited.data.length} edited (ignored: ${edited.ignored}), ${events.join(" ")}`,
}));
