// The MCP inspector's command line: lists the server's tools and calls one.
import { execFileSync } from "node:child_process";

const inspect = (...more) => JSON.parse(execFileSync("npx", [
  "--no-install", "mcp-inspector", "--cli", `${process.argv[2]}/mcp`, "--transport", "http", ...more,
], { encoding: "utf8" }));
const { tools } = inspect("--method", "tools/list");
const { content } = inspect("--method", "tools/call", "--tool-name", "draw_image", "--tool-arg", "prompt=a red apple", "--tool-arg", "seed=7");
console.log(JSON.stringify({
  sent: "tools/list, tools/call draw_image",
  got: `${tools.map((tool) => tool.name).join(" ")}; ${content.map((part) => part.type).join(" ")}`,
}));
