// Vercel's AI SDK: generateImage with the OpenAI provider at another address.
import { createOpenAI } from "@ai-sdk/openai";
import { generateImage } from "ai";

const openai = createOpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none" });
const { images } = await generateImage({ model: openai.image("gpt-image-1"), prompt: "a red apple", n: 2, size: "1024x1024" });
console.log(JSON.stringify({ sent: "generateImage, n 2", got: `${images.length} images, ${images[0].mediaType}` }));
